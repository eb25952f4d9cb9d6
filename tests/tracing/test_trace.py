from __future__ import annotations

import copy
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init
from ghn_init.errors import InputError, TraceError
from ghn_init.graph import ArchGraph
from ghn_init.tracing.trace import record_model

COLLECTED: list[Tensor] = []


def small_cnn() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))


def small_bert() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=120
    )
    return transformers.BertForSequenceClassification(config)


def small_gpt2() -> nn.Module:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=120, bos_token_id=1, eos_token_id=2, use_cache=True
    )
    return transformers.GPT2LMHeadModel(config)


def timm_swin() -> nn.Module:
    return pytest.importorskip("timm").create_model("swin_tiny_patch4_window7_224")


def torchvision_resnet() -> nn.Module:
    return pytest.importorskip("torchvision").models.resnet18()


def state(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that tracing could change."""
    modules = dict(model.named_modules())
    return {
        "tensors": {
            key: (id(t), t.clone()) for key, t in [*model.named_parameters(), *model.named_buffers()]
        },
        "classes": {path: type(module) for path, module in modules.items()},
        "training": {path: module.training for path, module in modules.items()},
        "attributes": {path: set(module.__dict__) for path, module in modules.items()},
        "hooks": {
            path: (dict(module._forward_hooks), dict(module._forward_pre_hooks))
            for path, module in modules.items()
        },
        "config": copy.deepcopy(getattr(getattr(model, "config", None), "to_dict", dict)()),
        "random": torch.get_rng_state(),
    }


def assert_unchanged(model: nn.Module, before: dict[str, Any]) -> None:
    after = state(model)
    for key, (identity, value) in before.pop("tensors").items():
        assert after["tensors"][key][0] == identity
        assert torch.equal(after["tensors"][key][1], value), key
    assert torch.equal(after["random"], before.pop("random"))
    for key, value in before.items():
        assert after[key] == value, key
    for tensor in [*model.parameters(), *model.buffers()]:
        assert not [key for key in tensor.__dict__ if "ghn" in key]
        assert tensor.grad is None


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("build", [torchvision_resnet, timm_swin, small_bert, small_gpt2])
def test_model_is_untouched(build: Any, training: bool) -> None:
    model = build().train(training)
    before = state(model)
    for method in ("recorder", "fake", "export") if build is small_bert else ("recorder",):
        assert isinstance(ghn_init.trace(model, method=method), ArchGraph)
        assert_unchanged(model, dict(before))


def test_later_forward_gives_the_same_values() -> None:
    model = small_cnn().eval()
    x = torch.ones(2, 3, 8, 8)
    expected = model(x)
    ghn_init.trace(model, x)
    assert torch.equal(model(x), expected)


def test_every_method_gives_the_same_graph() -> None:
    model = torchvision_resnet()
    graphs = [ghn_init.trace(model, method=method) for method in ("auto", "recorder", "fake", "export")]
    for graph in graphs[1:]:
        assert [node.params for node in graph.nodes] == [node.params for node in graphs[0].nodes]
        assert graph.edges == graphs[0].edges


def test_unknown_method_is_told() -> None:
    with pytest.raises(TraceError, match="recorder, fake, export"):
        ghn_init.trace(small_cnn(), method="magic")  # type: ignore[arg-type]


def test_hooks_take_part_but_nothing_shows_outside() -> None:
    model, seen, shared = small_cnn(), [], {"calls": 0}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        seen.append(output)
        COLLECTED.append(output)
        shared["calls"] += 1

    def double(module: nn.Module, args: Any) -> Any:
        return (args[0] * model[1].weight.sum(),)

    model[0].register_forward_hook(keep)
    model[4].register_forward_pre_hook(double)
    recording = record_model(model, torch.empty(2, 3, 8, 8))
    assert "sum" in [getattr(node.target, "__name__", "") for node in recording.graph.nodes]
    assert (seen, COLLECTED, shared) == ([], [], {"calls": 0})
    model(torch.ones(2, 3, 8, 8))
    assert (len(seen), len(COLLECTED), shared["calls"]) == (1, 1, 1)
    COLLECTED.clear()


def test_replaced_forward_runs_on_the_copy() -> None:
    model = small_cnn()
    body = model.forward
    model.forward = lambda x: body(x) + model[4].bias  # type: ignore[method-assign]
    calls = []
    model[0].register_forward_hook(lambda *args: calls.append(1))
    recording = record_model(model, torch.empty(2, 3, 8, 8))
    assert not recording.unreached
    assert calls == []


def test_accelerate_hooks_stay_out() -> None:
    accelerate = pytest.importorskip("accelerate")
    plain = small_cnn()
    expected = ghn_init.trace(plain, torch.empty(2, 3, 8, 8))
    model = accelerate.cpu_offload(plain, execution_device=torch.device("cpu"))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    graph = ghn_init.trace(model, torch.empty(2, 3, 8, 8))
    assert graph.to_dict() == expected.to_dict()
    assert model(torch.ones(2, 3, 8, 8)).shape == (2, 5)


def test_attributes_that_cannot_be_copied_are_shared() -> None:
    import threading

    model = small_cnn()
    model.lock = threading.Lock()
    model[0].module_object = torch
    assert (
        ghn_init.trace(model, torch.empty(2, 3, 8, 8)).slots.keys() == dict(model.named_parameters()).keys()
    )


def test_compiled_model_goes_by_the_names_of_the_module_inside() -> None:
    model = small_cnn()
    graph = ghn_init.trace(torch.compile(model), torch.empty(2, 3, 8, 8))
    assert graph.slots.keys() == dict(model.named_parameters()).keys()
    model.compile()
    assert ghn_init.trace(model, torch.empty(2, 3, 8, 8)).slots == graph.slots
    parallel = nn.DataParallel(model)
    assert ghn_init.trace(parallel, torch.empty(2, 3, 8, 8)).slots == graph.slots


def test_compiled_part_of_a_model() -> None:
    model = nn.Sequential(torch.compile(nn.Linear(8, 8)), nn.Linear(8, 2))
    graph = ghn_init.trace(model, torch.empty(2, 8))
    assert graph.slots.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize("context", ["inference_mode", "autocast", "meta device", "half default"])
def test_callers_context_does_not_matter(context: str) -> None:
    model = small_bert()
    expected = ghn_init.trace(model).to_dict()
    if context == "half default":
        torch.set_default_dtype(torch.float16)
        try:
            assert ghn_init.trace(model).to_dict() == expected
        finally:
            torch.set_default_dtype(torch.float32)
        return
    contexts: dict[str, Any] = {
        "inference_mode": torch.inference_mode(),
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "meta device": torch.device("meta"),
    }
    with contexts[context]:
        assert ghn_init.trace(model).to_dict() == expected


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(4))


def scripted() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.Linear(8, 2)))


def quantised() -> nn.Module:
    return torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})


def expanded() -> nn.Module:
    model = nn.Linear(8, 8)
    model.weight = nn.Parameter(torch.ones(8, 1).expand(8, 8))
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lazy, "'0.weight' is not initialised yet"),
        (scripted, "module '1'.* is scripted"),
        (quantised, "module '0'.* is quantised"),
        (expanded, "'weight' of shape .* stride 0"),
        (nn.ReLU, "ReLU has no parameters"),
    ],
)
def test_untraceable_models_are_told(build: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        ghn_init.trace(build(), torch.empty(2, 8))


def test_wrong_example_inputs_are_told_and_leave_the_model_alone() -> None:
    model = small_cnn()
    before = state(model)
    with pytest.raises(InputError, match=r"Sequential.forward failed on inputs of shapes \(2, 3, 9, 9\)"):
        ghn_init.trace(model, torch.empty(2, 3, 9, 9))
    with pytest.raises(InputError, match="holds no tensor"):
        ghn_init.trace(model, "picture.png")
    with pytest.raises(InputError, match="unexpected keyword"):
        ghn_init.trace(model, {"pixels": torch.empty(2, 3, 8, 8)})
    assert_unchanged(model, before)


def test_something_else_than_a_module_is_told() -> None:
    with pytest.raises(TraceError, match="got dict"):
        ghn_init.trace({}, torch.empty(2, 8))  # type: ignore[arg-type]


@torch.jit.script
def gate(x: Tensor, weight: Tensor) -> Tensor:
    return torch.sigmoid(x) * weight


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after, self.weight = nn.Linear(8, 8), nn.Linear(8, 2), nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.after(gate(self.before(x), self.weight))


@pytest.mark.parametrize("method", ["recorder", "fake", "export"])
def test_model_that_calls_a_scripted_function_is_read(method: Any) -> None:
    graph = ghn_init.trace(Gated(), torch.empty(2, 8), method=method)
    assert "not used" not in " ".join(graph.unreached.values())
    before, after = graph.slots["before.bias"], graph.slots["after.weight"]
    assert graph.distances()[before, after] > 0
    assert gate(torch.zeros(2), torch.ones(2)).tolist() == [0.5, 0.5]


def test_operators_called_by_their_registered_names() -> None:
    class Registered(Gated):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.ops.aten.linear(x, self.before.weight, self.before.bias)
            return self.after(torch.ops.aten.mul.Tensor(x, self.weight))

    graph = ghn_init.trace(Registered(), torch.empty(2, 8), method="recorder")
    before, after = graph.slots["before.bias"], graph.slots["after.weight"]
    assert graph.distances()[before, after] > 0


class Nested(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.inner = Nested(depth - 1) if depth > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.layer(x))


def test_modules_in_modules_as_deep_as_a_model_can_run() -> None:
    limit, model = sys.getrecursionlimit(), Nested(200)
    assert model(torch.zeros(1, 8)).shape == (1, 8)
    assert len(ghn_init.trace(model, torch.empty(2, 8)).slots) == 400
    assert sys.getrecursionlimit() == limit


def test_a_chain_of_a_thousand_layers() -> None:
    with torch.device("meta"):
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(1000)))
    graph = ghn_init.trace(model, torch.empty(2, 8))
    assert (len(graph), len(graph.edges)) == (2001, 2000)
    assert not graph.unreached
