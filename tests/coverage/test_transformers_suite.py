from __future__ import annotations

import pytest
import torch

from ghn_init.coverage.suites import cases, targets

transformers = pytest.importorskip("transformers")

from ghn_init.coverage.suites.transformers_shrink import LEVELS, shrink  # noqa: E402


def test_every_mapping_is_there() -> None:
    found = cases("transformers")
    assert len(found) > 900
    assert {case.group for case in found.values()} == set(targets("transformers"))


@pytest.mark.parametrize(
    "name",
    [
        "bert/BertModel",
        "llama/LlamaForCausalLM",
        "t5/T5ForConditionalGeneration",
        "mixtral/MixtralForCausalLM",
        "qwen3_5_moe/Qwen3_5MoeForCausalLM",
        "vit/ViTForImageClassification",
    ],
)
def test_models_are_small(name: str) -> None:
    with torch.device("meta"):
        model = cases("transformers")[name].build()
    assert type(model).__name__ == name.partition("/")[2]
    assert sum(parameter.numel() for parameter in model.parameters()) < 100_000_000


def test_heads_keep_their_width_and_layers_every_kind() -> None:
    config = transformers.Gemma2Config(
        num_hidden_layers=12, hidden_size=512, num_attention_heads=8, head_dim=64
    )
    small = shrink(config, LEVELS[0])
    assert small.hidden_size // small.num_attention_heads == 64 == small.head_dim
    assert small.num_hidden_layers == 2
    assert set(small.layer_types) == {"sliding_attention", "full_attention"}
    assert len(small.layer_types) == 2


def test_default_stays() -> None:
    assert shrink(transformers.BertConfig(), "default").to_dict() == transformers.BertConfig().to_dict()
