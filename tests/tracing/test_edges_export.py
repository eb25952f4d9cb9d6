"""The recorder's data flow against that of ``torch.export``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ghn_init.coverage.edges import Comparison, compare_edges


def image_model(library: str, name: str, size: int = 224) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def build() -> tuple[nn.Module, Any, Any]:
        module = pytest.importorskip(library)
        model = (
            module.create_model(name) if library == "timm" else module.models.get_model(name, weights=None)
        )
        return model.eval(), (torch.rand(2, 3, size, size),), {}

    return build


def text_model(name: str, config: str, **options: Any) -> Callable[[], tuple[nn.Module, Any, Any]]:
    def build() -> tuple[nn.Module, Any, Any]:
        transformers = pytest.importorskip("transformers")
        keywords = {"input_ids": torch.arange(4, 16).repeat(2, 1)}
        settings = getattr(transformers, config)(vocab_size=120, use_cache=False, **options)
        if settings.is_encoder_decoder:
            keywords["decoder_input_ids"] = torch.arange(4, 10).repeat(2, 1)
        return getattr(transformers, name)(settings).eval(), (), keywords

    return build


SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
ENCODER_DECODER = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4},
}


class Scribbler(nn.Module):
    """Writes in place through views, into computed constants, and reads before and after."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.last = (nn.Linear(8, 8) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        early = y + 1
        y[:, :4].add_(self.second(x)[:, :4])
        slots = torch.zeros(2, 2, 8)
        slots[:, 0] = self.third(y)
        slots[:, 1] = early
        left, right = slots[:, 0], slots[:, 1]
        right.mul_(2)
        return self.last(left + slots.sum(1)) + torch.zeros_like(y)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.cells = nn.ModuleList([nn.GRUCell(8, 8), nn.GRUCell(8, 8)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        states = [torch.zeros_like(x[:, 0]) for _ in self.cells]
        for step in range(3):
            value = x[:, step]
            for index, cell in enumerate(self.cells):
                value = states[index] = cell(value, states[index])
        return self.head(states[-1])


FAST = {
    "scribbler": lambda: (Scribbler(), (torch.rand(2, 8),), {}),
    "recurrent": lambda: (Recurrent(), (torch.zeros(2, 3, dtype=torch.long),), {}),
    "transformer": lambda: (
        nn.Transformer(8, 2, 1, 2, 16, batch_first=True).train(),
        (torch.rand(2, 5, 8), torch.rand(2, 4, 8)),
        {},
    ),
    "resnet18": image_model("torchvision", "resnet18"),
    "bert": text_model("BertForSequenceClassification", "BertConfig", **SMALL),
    "t5": text_model(
        "T5ForConditionalGeneration", "T5Config", d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    ),
}
SPREAD = {
    **{
        f"torchvision/{name}": image_model("torchvision", name)
        for name in (
            "googlenet",
            "densenet121",
            "efficientnet_b0",
            "swin_t",
            "vit_b_32",
            "shufflenet_v2_x0_5",
        )
    },
    **{
        f"timm/{name}": image_model("timm", name)
        for name in (
            *(
                "convnext_atto",
                "nf_regnet_b1",
                "mixer_s32_224",
                "deit_tiny_patch16_224",
                "xcit_nano_12_p16_224",
            ),
            *(
                "coat_tiny",
                "levit_128s",
                "mobilevit_xxs",
                "res2net50_14w_8s",
                "hrnet_w18_small",
                "ghostnet_100",
            ),
            *("volo_d1_224", "pvt_v2_b0", "poolformer_s12", "edgenext_xx_small"),
        )
    },
    "timm/crossvit_tiny_240": image_model("timm", "crossvit_tiny_240", 240),
    "gpt2": text_model("GPT2LMHeadModel", "GPT2Config", n_embd=32, n_layer=2, n_head=4),
    "llama": text_model("LlamaForCausalLM", "LlamaConfig", **SMALL, num_key_value_heads=2),
    "albert": text_model("AlbertModel", "AlbertConfig", **SMALL, embedding_size=16),
    "bart": text_model("BartModel", "BartConfig", **ENCODER_DECODER),
    "deberta": text_model(
        "DebertaV2Model", "DebertaV2Config", **SMALL, relative_attention=True, pos_att_type=["c2p", "p2c"]
    ),
    "falcon": text_model(
        "FalconForCausalLM", "FalconConfig", hidden_size=32, num_hidden_layers=2, num_attention_heads=4
    ),
}


def compare(build: Callable[[], tuple[nn.Module, Any, Any]]) -> None:
    model, args, kwargs = build()
    assert compare_edges(model, args or kwargs) == Comparison()


class TwoWays(nn.Module):
    """Another forward under ``torch.export``: a recording that is wrong, as seen from there."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self.second(self.first(x))
        return self.first(x) + self.second(x)


class Asking(nn.Linear):
    """Branches on a value, which ``torch.export`` refuses."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) if input.sum() > 0 else input


@pytest.mark.skipif(not hasattr(torch.compiler, "is_exporting"), reason="this torch does not tell")
def test_a_difference_is_told() -> None:
    problems = compare_edges(TwoWays(), torch.empty(2, 8)).problems
    assert "first.weight -> output is only in the recording" in problems
    assert "first.weight -> second.weight is only in the export" in problems


def test_a_model_that_does_not_export_is_no_problem_and_no_agreement() -> None:
    found = compare_edges(Asking(8, 8), torch.empty(2, 8))
    assert "torch.export failed on Asking" in found.refusal
    assert not found.problems


def test_models_without_weights_are_compared_too() -> None:
    with torch.device("meta"):
        model, args, _ = image_model("torchvision", "mnasnet0_5")()
    assert compare_edges(model, args) == Comparison()


@pytest.mark.parametrize("name", list(FAST))
def test_edges_are_those_of_export(name: str) -> None:
    compare(FAST[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SPREAD))
def test_edges_are_those_of_export_on_a_spread(name: str) -> None:
    compare(SPREAD[name])
