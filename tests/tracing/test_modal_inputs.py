"""Inputs that the library makes for models that take patches, sound and other arguments beside them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ghn_init

transformers = pytest.importorskip("transformers")
SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def unused(model: nn.Module) -> list[str]:
    unreached = ghn_init.trace(model.eval(), method="recorder").unreached
    return [name for name, why in unreached.items() if "not used" in why]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Siglip2VisionModel", {**SMALL, "patch_size": 8, "num_patches": 16}),
        ("Blip2QFormerModel", {**SMALL, "encoder_hidden_size": 24, "cross_attention_frequency": 1}),
        (
            "DecisionTransformerModel",
            {"hidden_size": 32, "n_layer": 1, "n_head": 2, "state_dim": 5, "act_dim": 3, "max_ep_len": 64},
        ),
        (
            "VisualBertModel",
            {**SMALL, "visual_embedding_dim": 24, "vocab_size": 100},
        ),
    ],
)
def test_arguments_beside_the_main_one_are_made(name: str, options: dict[str, Any]) -> None:
    cls = getattr(transformers, name)
    config = getattr(transformers, name.removesuffix("Model") + "Config")(**options)
    missed = unused(cls(config))
    # The third of a decision transformer's position tables, and a word table that it never looks up.
    assert all("wte" in name for name in missed)


def test_image_and_text_towers_of_a_model_with_patches_are_reached() -> None:
    vision = {**SMALL, "patch_size": 8, "num_patches": 16}
    text = {**SMALL, "vocab_size": 100, "max_position_embeddings": 16}
    config = transformers.Siglip2Config(text_config=text, vision_config=vision)
    assert unused(transformers.Siglip2Model(config)) == []


class Checked(nn.Module):
    """Two checks of values that a trace does not compute, each of which raises on the other answer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if not (x >= 0).all():
            raise ValueError("negative")
        if torch.isnan(x).any():
            raise ValueError("not a number")
        return self.second(x)


def test_checks_with_opposite_answers_are_both_passed() -> None:
    graph = ghn_init.trace(Checked(), torch.empty(2, 4), method="recorder")
    assert graph.slots.keys() == {"first.weight", "first.bias", "second.weight", "second.bias"}
