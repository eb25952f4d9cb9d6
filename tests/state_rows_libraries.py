"""Rows of the table of states: what other libraries do to a model."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from state_cases import Case, state
from state_rows_torch import on_meta
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import Tensor, nn

import ghn_init

GHN = tiny_ghn()
TOKENS = torch.zeros(1, 4, dtype=torch.long)


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


@state("tied, accelerate cpu_offload")
def _(tmp):
    accelerate = pytest.importorskip("accelerate")
    model, values = TiedNet(), ghn_init.predict(TiedNet(), GHN, example_inputs=TOKENS)
    accelerate.cpu_offload(model, execution_device="cpu")

    def one_memory(report):
        held = model.embed._hf_hook.weights_map, model.out._hf_hook.weights_map
        assert held[0]["weight"].data_ptr() == held[1]["weight"].data_ptr()
        assert torch.equal(held[1]["weight"], values["embed.weight"])
        assert {"embed.weight", "out.weight"} <= report.predicted.keys()

    return Case(model, like=TiedNet(), inputs=TOKENS, read=values.__getitem__, after=one_memory)


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
