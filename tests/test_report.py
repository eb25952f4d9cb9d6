"""InitReport: every parameter in exactly one account, a short table, JSON, and where it is kept."""

from __future__ import annotations

import copy
import gc
import json
import pickle

import pytest
import torch
from states import IMAGE, ConvNet, TiedNet, tiny_ghn
from torch import nn
from torch.nn.utils import parametrizations
from torchvision.models import googlenet, resnet18

import ghn_init
from ghn_init.report import report_of

GHN = tiny_ghn()
TOKENS = torch.zeros(1, 4, dtype=torch.long)


def parametrised() -> nn.Module:
    model = ConvNet(classes=7)
    parametrizations.weight_norm(model.conv)
    parametrizations.orthogonal(model.head)
    return model


def with_an_unused_layer() -> nn.Module:
    model = ConvNet()
    model.unused = nn.Linear(3, 3)
    return model


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (ConvNet, IMAGE),
        (TiedNet, TOKENS),
        (parametrised, IMAGE),
        (with_an_unused_layer, IMAGE),
        (lambda: resnet18(num_classes=7), None),
        (lambda: googlenet(init_weights=False).eval(), None),
    ],
)
def test_every_parameter_is_in_exactly_one_account(build, inputs):
    model = build()
    report = ghn_init.apply(model, GHN, example_inputs=inputs)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    listed = [*report.predicted, *report.kept, *report.skipped]
    assert sorted(listed) == sorted(names)
    assert all(report.kept.values())
    assert all(report.skipped.values())


def test_predicted_names_lead_to_the_nodes_that_own_them():
    report = ghn_init.apply(ConvNet(), GHN, example_inputs=IMAGE)
    for name, index in report.predicted.items():
        assert name in [slot.name for slot in report.graph.nodes[index].params]
    assert report.graph.nodes[report.predicted["norm.bias"]].primitive == "bn"


def test_parameters_that_the_forward_does_not_reach_are_kept_with_the_reason():
    report = ghn_init.apply(with_an_unused_layer(), GHN, example_inputs=IMAGE)
    assert set(report.kept) == {"unused.weight", "unused.bias"}


def test_the_table_is_short_and_says_what_matters():
    report = ghn_init.apply(ConvNet(classes=7), GHN, example_inputs=IMAGE)
    lines = str(report).splitlines()
    assert len(lines) < 10
    assert lines[0].startswith(
        "ConvNet: 5 of 7 parameters (816 of 879 values) predicted by a GHN object, 2 kept"
    )
    text = str(report)
    assert "head.weight, head.bias: classifier of 7 classes" in text
    assert "calibrate_batchnorm" in text
    assert "conv 3" in text
    assert set(report.timings) == {"load", "trace", "plan", "predict and write"}


def test_a_table_of_many_reasons_is_cut():
    report = ghn_init.apply(ConvNet(), GHN, example_inputs=IMAGE)
    many = ghn_init.InitReport({}, {f"p{i}": f"reason {i}" for i in range(40)}, {}, report.ghn, report.graph)
    assert "and 34 more" in str(many)
    assert len(str(many).splitlines()) < 12


def test_a_model_without_batch_norm_gets_no_remark_on_it():
    report = ghn_init.apply(TiedNet(), GHN, example_inputs=TOKENS)
    assert not any("calibrate_batchnorm" in note for note in report.notes)


def test_tied_parameters_are_counted_once_in_the_number_of_values():
    report = ghn_init.apply(TiedNet(), GHN, example_inputs=TOKENS)
    assert "168 values" in report.summary


def test_it_becomes_json(tmp_path):
    report = ghn_init.apply(ConvNet(classes=7), GHN.save_pretrained(tmp_path), example_inputs=IMAGE)
    data = json.loads(report.to_json())
    assert data["ghn"] == {"id": str(tmp_path), "commit": None}
    assert data["predicted"]["conv.weight"]["primitive"] == "conv"
    assert set(data["kept"]) == {"head.weight", "head.bias"}
    assert data["graph"]["nodes"] == len(report.graph)


def test_it_is_kept_beside_the_model_for_as_long_as_the_model_lives():
    model = ConvNet()
    assert report_of(model) is None
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert report_of(model) is report
    assert report_of(copy.deepcopy(model)) is None
    assert b"InitReport" not in pickle.dumps(model)
    probe = _Probe()
    model.probe = probe
    del model
    gc.collect()
    del probe
    gc.collect()
    assert _Probe.alive == 0


class _Probe:
    alive = 0

    def __init__(self) -> None:
        _Probe.alive += 1

    def __del__(self) -> None:
        _Probe.alive -= 1


class EqualToItsLike(ConvNet):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualToItsLike)

    def __hash__(self) -> int:
        return 1


def test_a_module_that_compares_by_value_has_a_report_of_its_own():
    first, second = EqualToItsLike(), EqualToItsLike()
    report = ghn_init.apply(first, GHN, example_inputs=IMAGE)
    assert report_of(first) is report
    assert report_of(second) is None
