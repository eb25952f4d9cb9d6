"""``apply`` on models in every state: parametrised, compiled, data-parallel, offloaded, on meta."""

from __future__ import annotations

import copy
import logging
import warnings

import pytest
import torch
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import nn
from torch.nn.utils import parametrizations, prune
from torchvision.models import resnet18, vit_b_32

import ghn_init

GHN = tiny_ghn()


def bare(model: nn.Module) -> dict[str, torch.Tensor]:
    return ghn_init.predict(model, GHN, example_inputs=IMAGE)


def test_frozen_model_is_initialised_and_stays_frozen():
    model = ConvNet().requires_grad_(False)
    expected = bare(model)
    ghn_init.apply(model, GHN, example_inputs=IMAGE)
    for name, parameter in model.named_parameters():
        assert not parameter.requires_grad
        assert torch.equal(parameter, expected[name])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_get_the_same_prediction_rounded(dtype):
    expected = bare(ConvNet())
    model = ConvNet().to(dtype)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert not report.kept
    for name, parameter in model.named_parameters():
        assert parameter.dtype == dtype
        assert torch.equal(parameter, expected[name].to(dtype))


def test_compiled_model_is_written_inside_and_goes_on_without_recompiling():
    graphs = []
    model = ConvNet().eval()
    compiled = torch.compile(model, backend=lambda graph, _: graphs.append(graph) or graph.forward)
    image = torch.randn(1, 3, 8, 8)
    compiled(image)
    report = ghn_init.apply(compiled, GHN, example_inputs=IMAGE)
    assert "conv.weight" in report.predicted
    assert torch.equal(compiled(image), model(image))
    assert len(graphs) == 1


def test_data_parallel_model_is_written_inside():
    model = nn.DataParallel(ConvNet())
    expected = bare(model.module)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert torch.equal(model.module.conv.weight, expected["conv.weight"])
    assert set(report.predicted) == {name for name, _ in model.module.named_parameters()}


def old(wrap, layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(layer)


@pytest.mark.parametrize(
    ("wrap", "parts"),
    [
        (
            parametrizations.weight_norm,
            ("parametrizations.weight.original0", "parametrizations.weight.original1"),
        ),
        (lambda layer: old(nn.utils.weight_norm, layer), ("weight_g", "weight_v")),
    ],
    ids=["parametrization", "hook"],
)
def test_weight_norm_computes_exactly_the_prediction(wrap, parts):
    model = ConvNet()
    expected = bare(model)["conv.weight"]
    wrap(model.conv)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    model(IMAGE)
    torch.testing.assert_close(model.conv.weight.detach(), expected)
    assert {f"conv.{part}" for part in parts} <= report.predicted.keys()
    assert not any("conv" in note for note in report.notes)


@pytest.mark.parametrize(
    "wrap",
    [parametrizations.spectral_norm, lambda layer: old(nn.utils.spectral_norm, layer)],
    ids=["parametrization", "hook"],
)
@pytest.mark.parametrize("training", [True, False])
def test_spectral_norm_is_refreshed_so_that_the_largest_singular_value_is_one(wrap, training):
    model = ConvNet().train(training)
    expected = bare(model)["conv.weight"]
    wrap(model.conv)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    effective = model.eval().conv.weight.detach()
    sigma = torch.linalg.matrix_norm(effective.flatten(1), 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=1e-3, atol=0)
    direction = torch.nn.functional.cosine_similarity(effective.flatten(), expected.flatten(), dim=0)
    torch.testing.assert_close(direction, torch.tensor(1.0))
    assert any("conv.weight" in note and "effective weight differ" in note for note in report.notes)


def test_orthogonal_layer_stays_orthogonal_and_the_report_says_that_it_differs():
    model = ConvNet()
    model.head = parametrizations.orthogonal(nn.Linear(8, 10))
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    weight = model.head.weight.detach()
    torch.testing.assert_close(weight.mT @ weight, torch.eye(8), atol=1e-5, rtol=0)
    assert "head.parametrizations.weight.original" in report.predicted
    assert any("head.weight" in note and "_Orthogonal" in note for note in report.notes)


class Softplus(nn.Module):
    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return nn.functional.softplus(raw)


def test_parametrization_without_inverse_is_skipped_with_the_reason(caplog):
    model = ConvNet()
    nn.utils.parametrize.register_parametrization(model.conv, "weight", Softplus())
    before = model.conv.parametrizations.weight.original.clone()
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    name = "conv.parametrizations.weight.original"
    assert "Softplus, which has no right_inverse" in report.skipped[name]
    assert torch.equal(model.conv.parametrizations.weight.original, before)
    assert any(name in record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


@pytest.mark.parametrize("where", ["stem", "conv", "head"])
def test_parametrization_that_refuses_the_value_is_skipped_and_the_rest_written(where):
    model = ConvNet()
    layer = model.get_submodule(where)
    parametrizations.orthogonal(layer, orthogonal_map="cayley", use_trivialization=False)
    before = layer.weight.detach().clone()
    expected = bare(model)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    refusing = f"{where}.parametrizations.weight.original"
    assert "refused the value" in report.skipped.pop(refusing)
    assert torch.equal(layer.weight, before)
    for name, parameter in model.named_parameters():
        assert name == refusing or torch.equal(parameter, expected[name]), name


def test_pruned_layer_keeps_its_mask():
    model = ConvNet()
    expected = bare(model)["conv.weight"]
    prune.random_unstructured(model.conv, "weight", 0.5)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert torch.equal(model.conv.weight_orig, expected)
    assert torch.equal(model.conv.weight, expected * model.conv.weight_mask)
    assert any("pruning mask" in note for note in report.notes)


def test_tied_weights_stay_tied_and_both_names_are_accounted_for():
    model = TiedNet()
    report = ghn_init.apply(model, GHN, example_inputs=torch.zeros(1, 4, dtype=torch.long), head="predict")
    assert model.out.weight is model.embed.weight
    accounts = [report.predicted, report.kept, report.skipped]
    assert [("embed.weight" in names, "out.weight" in names) for names in accounts].count((True, True)) == 1
    assert report.tied == {"out.weight": "embed.weight"}


def test_buffers_are_not_touched():
    model = ConvNet()
    model.norm.running_mean.normal_()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_quantised_parameter_is_skipped_and_the_rest_is_written():
    model = ConvNet()
    model.conv.weight = nn.Parameter(model.conv.weight.detach().to(torch.float8_e4m3fn), requires_grad=False)
    before = model.conv.weight.detach().clone()
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert "float8_e4m3fn" in report.skipped["conv.weight"]
    assert torch.equal(model.conv.weight.view(torch.uint8), before.view(torch.uint8))
    assert "stem.weight" in report.predicted


def test_meta_model_is_refused_unless_materialised():
    with torch.device("meta"):
        model = ConvNet()
    before = Snapshot(model)
    with pytest.raises(ghn_init.AssignError, match="materialize=True"):
        ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert before.changed() == []
    assert all(parameter.is_meta for parameter in model.parameters())


def test_materialised_model_equals_one_built_in_memory():
    with torch.device("meta"):
        model = resnet18(num_classes=7)
    twin = resnet18(num_classes=7)
    report = ghn_init.apply(model, GHN, materialize=True)
    ghn_init.apply(twin, GHN)
    assert set(report.kept) == {"fc.weight", "fc.bias"}
    state, expected = model.state_dict(), twin.state_dict()
    for name in expected:
        assert not state[name].is_meta
        if name not in report.kept:
            assert torch.equal(state[name], expected[name]), name
    assert state["fc.weight"].abs().max() <= 1 / 512**0.5
    assert model.training
    model.eval()(torch.zeros(1, 3, 64, 64))


def test_materialised_ties_and_lstm_weights_are_kept_together():
    class Net(TiedNet):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 8)

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            return self.out(self.lstm(self.embed(tokens))[0])

    with torch.device("meta"):
        model = Net()
    tokens = torch.zeros(1, 4, dtype=torch.long)
    ghn_init.apply(model, GHN, example_inputs=tokens, materialize="cpu")
    assert model.out.weight is model.embed.weight
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    assert model(tokens).isfinite().all()


def test_what_no_reset_fills_stays_on_meta_and_is_listed():
    with torch.device("meta"):
        model = vit_b_32(image_size=64, num_classes=10)
        model.register_buffer("table", torch.zeros(3))
    report = ghn_init.apply(model, GHN, materialize=True)
    left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    assert "table" in left
    assert set(left) <= {"table", *report.kept}
    (note,) = [note for note in report.notes if "left on the meta device" in note]
    assert all(name in note for name in left)


def test_accelerate_cpu_offload_is_written_where_the_weights_are_kept():
    accelerate = pytest.importorskip("accelerate")
    model = ConvNet().eval()
    expected = copy.deepcopy(model)
    ghn_init.apply(expected, GHN, example_inputs=IMAGE)
    accelerate.cpu_offload(model, execution_device="cpu")
    assert model.conv.weight.is_meta
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert "conv.weight" in report.predicted
    image = torch.randn(1, 3, 8, 8)
    assert torch.equal(model(image), expected(image))


class WithAdapter(nn.Module):
    """A linear layer with a low-rank adapter beside it, named as peft names its own."""

    adapter_layer_names = ("lora_A", "lora_B")

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base_layer.out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def test_adapters_are_refused_unless_the_caller_says_what_may_change():
    model = ConvNet()
    model.head = WithAdapter(model.head)
    before = Snapshot(model)
    with pytest.raises(ghn_init.AssignError, match=r"'head' \(WithAdapter\) holds adapters"):
        ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert before.changed() == []
    ghn_init.apply(model, GHN, example_inputs=IMAGE, only=["head.base_layer.weight", "conv.weight"])
    assert before.changed() == ["conv.weight", "head.base_layer.weight"]
