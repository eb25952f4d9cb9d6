"""``apply`` on small modules of many kinds, with the graph checked against the model's own autograd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from graph_sanity import check_model
from states import Snapshot, tiny_ghn
from torch import nn

import ghn_init
from ghn_init.coverage.suites import cases
from ghn_init.coverage.suites.plain import ZOO
from ghn_init.errors import InputError, TraceError

GHN = tiny_ghn()
EXPECTED = json.loads((Path(__file__).parents[1] / "data" / "plain_graphs.json").read_text())
"""Name → which primitive each parameter of the module is to become, and how many nodes of each there are."""


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore")
def test_graph_and_report_are_sane(name):
    build, inputs = ZOO[name]
    report, problems = check_model(build(), inputs(), GHN)
    assert problems == []
    assert report.predicted


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.filterwarnings("ignore")
def test_each_parameter_becomes_its_primitive(name):
    build, inputs = ZOO[name]
    graph = ghn_init.trace(build(), inputs())
    became: dict[str, list[str]] = {"kept": sorted(graph.unreached)} if graph.unreached else {}
    for node in graph.nodes:
        for slot in node.params:
            became.setdefault(node.primitive, []).append(slot.name)
    assert {key: sorted(names) for key, names in became.items()} == EXPECTED[name]["parameters"]
    counts = {primitive: count for primitive, count in graph.type_counts.items() if count}
    assert counts == {"input": 1, **EXPECTED[name]["counts"]}


def test_the_suite_has_every_module():
    assert set(cases("plain")) == set(ZOO) == set(EXPECTED)


@pytest.mark.parametrize("method", ["recorder", "fake"])
def test_a_failing_forward_writes_nothing(method, capfd):
    model = nn.Sequential(nn.Linear(8, 8), nn.Bilinear(8, 8, 2))
    with pytest.raises(InputError):
        ghn_init.trace(model, torch.zeros(2, 7), method=method)
    assert capfd.readouterr() == ("", "")


def test_a_parameter_that_is_an_output_by_itself_says_so():
    build, inputs = ZOO["parameter as an output"]
    assert ghn_init.trace(build(), inputs()).unreached == {"s": "an output by itself"}


def test_layers_are_not_skipped_by_a_draw():
    class Skips(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(12))

        def forward(self, x):
            drawn = torch.zeros(12).uniform_(0.0, 1.0)
            for layer, draw in zip(self.layers, drawn, strict=True):
                x = layer(x) if draw > 0.3 else x
            return x

    assert len(ghn_init.trace(Skips(), torch.zeros(2, 8)).slots) == 24


def test_a_global_hook_does_not_run():
    seen: list[nn.Module] = []
    handles = [
        nn.modules.module.register_module_forward_hook(lambda module, args, output: seen.append(module)),
        nn.modules.module.register_module_forward_pre_hook(lambda module, args: seen.append(module)),
    ]
    try:
        graph = ghn_init.trace(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)))
    finally:
        for handle in handles:
            handle.remove()
    assert len(graph.slots) == 4
    assert seen == []


class Uncopiable(nn.Linear):
    """Refuses a deep copy, as sharded modules do."""

    def __deepcopy__(self, memo):
        raise AssertionError("no deep copy")


def test_a_model_that_cannot_be_copied_is_told_of_the_graph_argument():
    model = nn.Sequential(Uncopiable(8, 8), nn.Linear(8, 2))
    before = Snapshot(model)
    with pytest.raises(TraceError, match=r"no deep copy.*graph="):
        ghn_init.apply(model, GHN)
    assert before.changed() == []
    graph = ghn_init.trace(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 2)))
    assert "0.weight" in ghn_init.apply(model, GHN, graph=graph).predicted


def test_nested_tensors_are_refused():
    nested = torch.nested.nested_tensor([torch.zeros(2, 8), torch.zeros(3, 8)])
    with pytest.raises(InputError, match="padded"):
        ghn_init.trace(nn.Linear(8, 2), nested)


def test_slices_whose_bounds_nobody_computed():
    class Paste(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.box, self.patch = nn.Linear(8, 2), nn.Linear(8, 4)

        def forward(self, x):
            canvas, (start, end) = torch.zeros(4), self.box(x).long()
            canvas[start:end] = self.patch(x)[start:end]
            return canvas

    graph = ghn_init.trace(Paste(), torch.zeros(8))
    assert {"patch.weight", "patch.bias"} <= set(graph.slots)


class Detector(nn.Module):
    """Boxes, scores and suppression, which has as many results as the values say."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, stride=4)
        self.boxes = nn.Conv2d(8, 4, 1)
        self.scores = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        from torchvision.ops import batched_nms, roi_align

        features = self.features(x).relu()
        boxes, scores = self.boxes(features)[0].flatten(1).T, self.scores(features)[0].flatten()
        kept = batched_nms(boxes, scores, (scores > 0).long(), 0.5)
        return roi_align(features, [boxes[kept]], 2), scores[kept]


def test_operations_whose_result_sizes_depend_on_values():
    graph = ghn_init.trace(Detector(), torch.zeros(1, 3, 32, 32))
    assert set(graph.slots) == {name for name, _ in Detector().named_parameters()}


def test_a_failing_export_writes_nothing(capfd):
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, x):
            x = self.layer(x)
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(TraceError, match=r"torch\.export failed"):
        ghn_init.trace(Branches(), torch.zeros(2, 8), method="export")
    assert capfd.readouterr() == ("", "")


def test_a_float_model_that_is_meant_for_quantisation():
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)
            self.skip = torch.ao.nn.quantized.FloatFunctional()

        def forward(self, x):
            return self.skip.add(x, self.layer(x))

    graph = ghn_init.trace(Skip(), torch.zeros(2, 8))
    assert graph.type_counts["sum"] == 1
    with pytest.raises(TraceError, match="is quantised"):
        ghn_init.trace(nn.Sequential(nn.Linear(8, 8), torch.ao.nn.quantized.Linear(8, 8)))
