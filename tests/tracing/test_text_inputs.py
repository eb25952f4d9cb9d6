from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init

transformers = pytest.importorskip("transformers")
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


def graph_of(name: str, **options: Any) -> ghn_init.ArchGraph:
    cls = getattr(transformers, name)
    with torch.device("meta"):
        model = cls(cls.config_class(**options)).eval()
    return ghn_init.trace(model, method="recorder")


def test_classifier_without_a_padding_token_gets_one_sequence() -> None:
    graph = graph_of("LlamaForSequenceClassification", **TEXT)
    assert "score.weight" in graph.slots
    assert not graph.unreached


def test_classifier_with_a_padding_token() -> None:
    assert "score.weight" in graph_of("LlamaForSequenceClassification", **TEXT, pad_token_id=0).slots


def test_one_language_adapter_is_reached() -> None:
    options = {name: value for name, value in TEXT.items() if name != "num_key_value_heads"}
    graph = graph_of("XmodModel", **options)
    assert not [name for name in graph.unreached if "adapter" in name]


def test_tokens_of_every_codebook() -> None:
    graph = graph_of(
        "MusicgenForCausalLM", hidden_size=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=2,
        vocab_size=50, num_codebooks=3, pad_token_id=50, bos_token_id=50,
    )  # fmt: skip
    assert {f"model.decoder.embed_tokens.{book}.weight" for book in range(3)} <= set(graph.slots)


class Sorted(nn.Module):
    """Each expert sees as many rows as a router sends it."""

    def __init__(self, experts: int) -> None:
        super().__init__()
        self.router = nn.Linear(8, experts)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.router(x).argmax(-1)
        sizes = torch.bincount(chosen, minlength=len(self.experts)).tolist()
        parts = x[chosen.argsort()].split(sizes, dim=0)
        return torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])


@pytest.mark.parametrize("experts", [3, 4])
def test_rows_are_split_among_experts_by_counts_that_nobody_knows(experts: int) -> None:
    graph = ghn_init.trace(Sorted(experts), torch.empty(10, 8), method="recorder")
    assert {f"experts.{expert}.weight" for expert in range(experts)} <= set(graph.slots)


def test_a_wrong_split_stays_an_error() -> None:
    class Wrong(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(x).split([3, 3], dim=0)[0]

    with pytest.raises(ghn_init.errors.GHNInitError, match="split"):
        ghn_init.trace(Wrong(), torch.empty(10, 8), method="recorder")
