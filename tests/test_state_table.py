"""Every state that a model can be in: how it is built, and what ``apply`` must then have done."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations

import ghn_init

GHN = tiny_ghn()
TOKENS = torch.zeros(1, 4, dtype=torch.long)
ROWS: dict[str, Callable[[Path], Case]] = {}


@dataclass
class Case:
    """A model in some state, and what is right for it.

    Attributes:
        model: What is passed to ``apply``.
        inside: The module whose tensors have the names of a plain ``like``; default the model.
        like: The same architecture in no special state: gives the expected values.
        inputs: Example inputs.
        options: Further arguments of ``apply``.
        skipped: Tensor → part of the reason why it is skipped; all others are as predicted.
        refused: Part of the error, where the model must be refused and left bit-equal.
        read: The value that the model computes with for a name; default its attribute.
        exact: Whether values are equal bit by bit, or up to rounding.
        after: What else must hold, given the report.
    """

    model: nn.Module
    inside: nn.Module | None = None
    like: nn.Module = field(default_factory=ConvNet)
    inputs: Any = IMAGE
    options: dict[str, Any] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    refused: str | None = None
    read: Callable[[str], Tensor] | None = None
    exact: bool = True
    after: Callable[[ghn_init.InitReport], None] = lambda report: None


def state(name: str):
    def register(row: Callable[[Path], Case]) -> Callable[[Path], Case]:
        ROWS[name] = row
        return row

    return register


def close(value: Tensor, expected: Tensor) -> bool:
    return torch.allclose(value, expected.to(value), rtol=1e-5, atol=1e-7)


for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    state(str(dtype).removeprefix("torch."))(lambda tmp, dtype=dtype: Case(ConvNet().to(dtype)))


def integers(dtype: torch.dtype) -> Case:
    model = ConvNet()
    model.conv.weight = nn.Parameter(model.conv.weight.detach().to(dtype), requires_grad=False)
    old = model.conv.weight.view(torch.uint8).clone()

    def untouched(report):
        assert torch.equal(model.conv.weight.view(torch.uint8), old)

    return Case(model, skipped={"conv.weight": f"has dtype {dtype}"}, after=untouched)


state("float8")(lambda tmp: integers(torch.float8_e4m3fn))
state("int8")(lambda tmp: integers(torch.int8))
state("channels_last")(lambda tmp: Case(ConvNet().to(memory_format=torch.channels_last)))
state("frozen")(lambda tmp: Case(ConvNet().requires_grad_(False)))
state("train mode")(lambda tmp: Case(ConvNet().train()))
state("data parallel")(lambda tmp: Case(wrapped := nn.DataParallel(ConvNet()), inside=wrapped.module))
state("cuda")(lambda tmp: Case(ConvNet().to(cuda())))
state("cuda bfloat16")(lambda tmp: Case(ConvNet().to(cuda(), torch.bfloat16)))


def cuda() -> str:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    return "cuda"


@state("several devices")
def _(tmp):
    model = ConvNet()
    model.head.to(cuda())

    def on_both(report):
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "cuda"}

    return Case(model, after=on_both)


@state("under an optimiser")
def _(tmp):
    model = ConvNet()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimiser.step()
    held = list(model.parameters())
    moment = optimiser.state[model.conv.weight]["exp_avg"].clone()

    def goes_on(report):
        assert all(a is b for a, b in zip(held, model.parameters(), strict=True))
        assert torch.equal(optimiser.state[model.conv.weight]["exp_avg"], moment)
        written = model.conv.weight.detach().clone()
        optimiser.step()
        assert not torch.equal(model.conv.weight, written)

    return Case(model, after=goes_on)


@state("after a backward")
def _(tmp):
    model = ConvNet()
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    grad = model.conv.weight.grad.clone()
    return Case(model, after=lambda report: torch.testing.assert_close(model.conv.weight.grad, grad))


def compiled(in_place: bool) -> Case:
    graphs: list[Any] = []
    backend = lambda graph, _: graphs.append(graph) or graph.forward  # noqa: E731
    model = ConvNet().eval()
    called = model
    if in_place:
        model.compile(backend=backend)
    else:
        called = torch.compile(model, backend=backend)
    image = torch.randn(1, 3, 8, 8)
    called(image)

    def without_recompiling(report):
        plain = ConvNet().eval()
        plain.load_state_dict(model.state_dict())
        assert torch.equal(called(image), plain(image))
        assert len(graphs) == 1

    return Case(called, inside=model, after=without_recompiling)


state("compiled")(lambda tmp: compiled(False))
state("compiled in place")(lambda tmp: compiled(True))


def quietly(wrap: Callable[..., nn.Module], layer: nn.Module, **options: Any) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return wrap(layer, **options)


def computed(
    wrap: Callable[..., nn.Module], check: Callable[[Tensor, Tensor], None], layer: str = "conv"
) -> Case:
    """The weight that the wrapped layer computes with after the next forward is checked against the value."""
    model = ConvNet()
    quietly(wrap, model.get_submodule(layer))
    value = ghn_init.predict(ConvNet(), GHN, example_inputs=IMAGE)[f"{layer}.weight"]

    def read(name: str) -> Tensor:
        path, _, attribute = name.rpartition(".")
        return value if name == f"{layer}.weight" else getattr(model.get_submodule(path), attribute)

    def right(report):
        model.eval()(IMAGE)
        check(model.get_submodule(layer).weight.detach(), value)

    return Case(model, read=read, after=right)


def unit_norm(weight: Tensor, value: Tensor) -> None:
    sigma = torch.linalg.matrix_norm(weight.flatten(1), 2)
    torch.testing.assert_close(sigma, torch.tensor(1.0), rtol=1e-3, atol=0)
    cosine = torch.nn.functional.cosine_similarity(weight.flatten(), value.flatten(), dim=0)
    torch.testing.assert_close(cosine, torch.tensor(1.0))


def orthogonal(weight: Tensor, value: Tensor) -> None:
    torch.testing.assert_close(weight.mT @ weight, torch.eye(8), atol=1e-5, rtol=0)


state("weight_norm")(lambda tmp: computed(parametrizations.weight_norm, torch.testing.assert_close))
state("weight_norm hook")(lambda tmp: computed(nn.utils.weight_norm, torch.testing.assert_close))
state("spectral_norm")(lambda tmp: computed(parametrizations.spectral_norm, unit_norm))
state("spectral_norm hook")(lambda tmp: computed(nn.utils.spectral_norm, unit_norm))
state("orthogonal")(lambda tmp: computed(parametrizations.orthogonal, orthogonal, "head"))


@state("pruned")
def _(tmp):
    def halve(layer):
        return nn.utils.prune.random_unstructured(layer, "weight", 0.5)

    def masked(weight, value):
        assert torch.equal(weight, torch.where(weight == 0, 0, value))
        assert 0 < int((weight == 0).sum()) < weight.numel()

    return computed(halve, masked)


def tied_case(model: TiedNet, **changes: Any) -> Case:
    def still_tied(report):
        assert model.out.weight is model.embed.weight
        assert report.tied == {"out.weight": "embed.weight"}
        assert model(TOKENS).isfinite().all()

    return Case(model, like=TiedNet(), inputs=TOKENS, after=still_tied, **changes)


state("tied")(lambda tmp: tied_case(TiedNet()))


@state("meta, tied, materialised")
def _(tmp):
    with torch.device("meta"):
        model = TiedNet()
    return tied_case(model, options={"materialize": True})


@state("buffers")
def _(tmp):
    model = ConvNet()
    model.norm.running_mean.normal_()
    old = {name: buffer.clone() for name, buffer in model.named_buffers()}

    def untouched(report):
        assert all(torch.equal(buffer, old[name]) for name, buffer in model.named_buffers())

    return Case(model, after=untouched)


@state("inference tensors")
def _(tmp):
    model = ConvNet()
    with torch.inference_mode():
        model.conv.weight = nn.Parameter(torch.zeros(8, 8, 3, 3))
    return Case(model, skipped={"conv.weight": "inference mode"})


@state("checkpointed activations")
def _(tmp):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = ConvNet()
    model.conv = checkpoint_wrapper(model.conv)
    wrapped = dict(zip(dict(ConvNet().named_parameters()), model.parameters(), strict=True))
    return Case(model, read=wrapped.__getitem__)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


state("meta")(lambda tmp: Case(on_meta(ConvNet), refused="materialize=True"))


@state("meta, materialised")
def _(tmp):
    model = on_meta(ConvNet)

    def usable(report):
        reference = ConvNet()
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, reference.get_buffer(name))
        model(torch.randn(2, 3, 8, 8)).sum().backward()

    return Case(model, options={"materialize": True}, after=usable)


@state("meta, part on the cpu")
def _(tmp):
    model = ConvNet()
    model.head = on_meta(lambda: nn.Linear(8, 10))
    held = model.conv.weight

    def only_the_part_is_new(report):
        assert model.conv.weight is held
        assert not model.head.weight.is_meta

    return Case(model, options={"materialize": True}, after=only_the_part_is_new)


def transformers_on_meta(build: Callable[[Any], nn.Module]) -> Case:
    transformers = pytest.importorskip("transformers")
    model, like = on_meta(lambda: build(transformers)), build(transformers)

    def complete(report):
        buffers = dict(like.named_buffers())
        assert buffers
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, buffers[name]), name
        for name, parameter in model.named_parameters():
            assert not parameter.is_meta
            if name in report.kept and parameter.dim() > 1:
                # Kept parameters are drawn as the model draws its own.
                torch.testing.assert_close(parameter.std(), like.get_parameter(name).std(), rtol=0.2, atol=0)

    return Case(model, like=like, inputs=None, options={"materialize": True}, after=complete)


SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "vocab_size": 64,
}


def llama(transformers: Any) -> nn.Module:
    config = transformers.LlamaConfig(num_key_value_heads=2, **SMALL)
    return transformers.AutoModelForCausalLM.from_config(config)


@state("meta, rotary tables")
def _(tmp):
    return transformers_on_meta(llama)


@state("meta, position ids")
def _(tmp):
    return transformers_on_meta(lambda t: t.AutoModel.from_config(t.BertConfig(**SMALL)))


def offloaded(offload: Callable[[Any, nn.Module], object]) -> Case:
    accelerate = pytest.importorskip("accelerate")
    model = ConvNet().eval()
    expected = copy.deepcopy(model)
    ghn_init.apply(expected, GHN, example_inputs=IMAGE)
    offload(accelerate, model)
    assert model.conv.weight.is_meta
    image = torch.randn(1, 3, 8, 8)

    def computes_with_the_prediction(report):
        assert "conv.weight" in report.predicted
        assert torch.equal(model(image), expected(image))

    values = dict(expected.named_parameters())
    return Case(model, read=values.__getitem__, after=computes_with_the_prediction)


@state("accelerate cpu_offload")
def _(tmp):
    return offloaded(lambda accelerate, model: accelerate.cpu_offload(model, execution_device="cpu"))


@state("accelerate disk_offload")
def _(tmp):
    return offloaded(lambda accelerate, model: accelerate.disk_offload(model, tmp, execution_device="cpu"))


@state("accelerate dispatch_model")
def _(tmp):
    places = {"stem": "cpu", "norm": "cpu", "conv": "disk", "head": "cpu"}
    return offloaded(
        lambda accelerate, model: accelerate.dispatch_model(
            model, places, main_device="cpu", offload_dir=tmp, force_hooks=True
        )
    )


@state("accelerate offloaded to a checkpoint")
def _(tmp):
    accelerate = pytest.importorskip("accelerate")
    from safetensors.torch import save_file

    model = ConvNet().eval()
    save_file(model.state_dict(), tmp / "model.safetensors")
    index = {
        name: {"safetensors_file": str(tmp / "model.safetensors"), "weight_name": name, "dtype": "float32"}
        for name in model.state_dict()
    }
    (tmp / "index.json").write_text(json.dumps(index))
    accelerate.disk_offload(model, tmp, execution_device="cpu")
    return Case(model, refused="checkpoint on disk, which must stay as it is")


def adapted(**options: Any) -> nn.Module:
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = peft.LoraConfig(target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    return peft.get_peft_model(llama(transformers), config)


state("peft LoRA")(lambda tmp: Case(adapted(), inputs=None, refused="holds adapters"))
state("peft DoRA")(lambda tmp: Case(adapted(use_dora=True), inputs=None, refused="holds adapters"))


@state("peft prompt tuning")
def _(tmp):
    peft = pytest.importorskip("peft")
    transformers = pytest.importorskip("transformers")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    return Case(peft.get_peft_model(llama(transformers), config), inputs=None, refused="holds adapters")


@state("peft LoRA, forced")
def _(tmp):
    model = adapted()
    only = [name for name, _ in model.named_parameters() if "lora_" not in name]
    before = Snapshot(model)

    def adapters_are_as_they_were(report):
        assert before.changed()
        assert not any("lora_" in name for name in before.changed())

    return Case(
        model, like=nn.Linear(1, 1), inputs=None, options={"only": only}, after=adapters_are_as_they_were
    )


@state("peft merged")
def _(tmp):
    transformers = pytest.importorskip("transformers")
    return Case(adapted().merge_and_unload(), like=llama(transformers), inputs=None)


class Wide(nn.Module):
    """Linear layers of widths that quantisers take."""

    def __init__(self, linear: Callable[[int, int], nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.up, self.down = linear(128, 256), linear(256, 128)
        self.norm, self.head = nn.LayerNorm(128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.down(self.up(x).relu())))


def quantised(model: nn.Module, reason: str) -> Case:
    def usable(report):
        assert model(torch.zeros(2, 128, dtype=model.norm.weight.dtype)).isfinite().all()

    skipped = {"up.weight": reason, "down.weight": reason}
    return Case(model, like=Wide(), inputs=torch.zeros(2, 128), skipped=skipped, after=usable)


def torchao_case(config: str, **options: Any) -> Case:
    pytest.importorskip("torchao")
    import torchao.quantization as quantization

    model = Wide().to(torch.bfloat16)
    made = getattr(quantization, config)(**options)
    quantization.quantize_(model, made, filter_fn=lambda _, name: name in ("up", "down"))
    return quantised(model, "is held by the tensor subclass")


state("torchao int8")(lambda tmp: torchao_case("Int8WeightOnlyConfig"))
state("torchao int4")(lambda tmp: torchao_case("IntxWeightOnlyConfig", weight_dtype=torch.int4))
state("torchao float8")(lambda tmp: torchao_case("Float8WeightOnlyConfig"))


@state("torch dynamic int8")
def _(tmp):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.ao.quantization.quantize_dynamic(Wide(), {nn.Linear})
    return Case(model, inputs=torch.zeros(2, 128), refused="Initialise the float model, then quantise it")


class Packed(nn.Linear):
    """A linear layer that keeps two four-bit values in a byte, as bitsandbytes does."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__(into, out)
        self.weight = nn.Parameter(torch.zeros(into * out // 2, 1, dtype=torch.uint8), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.weight % 16, self.weight // 16
        weight = torch.stack([low, high], 1).view(self.out_features, self.in_features).to(x)
        return nn.functional.linear(x, weight / 8 - 1, self.bias)


state("bitsandbytes-shaped 4 bit")(lambda tmp: quantised(Wide(Packed), "has dtype torch.uint8"))


@state("bitsandbytes 4 bit")
def _(tmp):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    return quantised(Wide(bitsandbytes.nn.Linear4bit).to("cpu"), "has dtype torch.uint8")


@state("bitsandbytes 8 bit")
def _(tmp):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    model = Wide(lambda i, o: bitsandbytes.nn.Linear8bitLt(i, o, has_fp16_weights=False)).to("cpu")
    return quantised(model, "has dtype torch.int8")


@state("ZeRO-3-shaped")
def _(tmp):
    model = ConvNet()
    model.conv.weight.ds_shape = model.conv.weight.shape
    model.conv.weight.data = torch.empty(0)
    return Case(model, refused="GatheredParameters")


@state("lazy")
def _(tmp):
    model = ConvNet()
    model.head = nn.LazyLinear(10)
    return Case(model, refused="lazy")


@state("expanded")
def _(tmp):
    model = ConvNet()
    model.head.bias = nn.Parameter(torch.zeros(1).expand(10))
    return Case(model, refused="share memory")


@pytest.mark.parametrize("name", sorted(ROWS))
def test_state(name, tmp_path):
    case = ROWS[name](tmp_path)
    if case.refused is not None:
        before = None if any(map(is_lazy, case.model.parameters())) else Snapshot(case.model)
        with pytest.raises(ghn_init.GHNInitError, match=case.refused):
            ghn_init.apply(case.model, GHN, example_inputs=case.inputs, **case.options)
        assert before is None or before.changed() == []
        return
    inside = case.model if case.inside is None else case.inside
    trained = {key: parameter.requires_grad for key, parameter in inside.named_parameters()}
    expected = ghn_init.predict(case.like, GHN, example_inputs=case.inputs)
    report = ghn_init.apply(case.model, GHN, example_inputs=case.inputs, **case.options)
    assert len([*report.predicted, *report.kept, *report.skipped]) == len(report.sizes)
    for key, value in expected.items():
        if key in case.skipped:
            assert case.skipped[key] in report.skipped[key]
            continue
        now = (case.read or inside.get_parameter)(key).detach()
        assert torch.equal(now, value.to(now)) if case.exact else close(now, value)
    assert trained == {key: parameter.requires_grad for key, parameter in inside.named_parameters()}
    case.after(report)


@pytest.mark.slow
def test_trainer_builds_the_initialised_model_and_trains_it(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(num_labels=10, **SMALL)
    graphs: list[nn.Module] = []

    def model_init() -> nn.Module:
        model = transformers.AutoModelForSequenceClassification.from_config(config, ghn_init=GHN)
        graphs.append(copy.deepcopy(model))
        return model

    data = [{"input_ids": torch.arange(8), "labels": torch.tensor(i % 10)} for i in range(8)]
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, report_to=[], use_cpu=True,
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(model_init=model_init, args=arguments, train_dataset=data)
    trainer.train()
    assert trainer.state.global_step == 2
    first, last = graphs[0], graphs[-1]
    predicted = ghn_init.predict(first, GHN)
    assert all(torch.equal(last.get_parameter(name), value) for name, value in predicted.items())
    for name in ("classifier.weight", "bert.encoder.layer.0.attention.self.query.weight"):
        assert not torch.equal(trainer.model.get_parameter(name), predicted[name])
