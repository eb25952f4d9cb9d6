"""Inputs that reach every part of a model, and sizes that nobody computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init

transformers = pytest.importorskip("transformers")
from ghn_init.coverage.suites import cases  # noqa: E402


def missed(model: nn.Module) -> set[str]:
    return {name for name, why in ghn_init.trace(model.eval()).unreached.items() if "not used" in why}


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        # Prompts of all kinds are given, so nothing stands for the lack of a mask.
        pytest.param("sam2/Sam2Model", {"prompt_encoder.no_mask_embed.weight"}, marks=pytest.mark.slow),
        ("luke/LukeModel", set()),
        ("mllama/MllamaModel", set()),
        ("kosmos-2.5/Kosmos2_5Model", set()),
        ("voxtral/VoxtralModel", set()),
        ("neomme/NeoMMEModel", set()),
        pytest.param("xcodec2/Xcodec2Model", {"semantic_encoder.masked_spec_embed"}, marks=pytest.mark.slow),
        ("muse_glimmer_assistant/MuseGlimmerAssistantModel", set()),
    ],
)
def test_every_part_is_reached(name: str, unused: set[str]) -> None:
    if name not in cases("transformers"):
        pytest.skip(f"this transformers has no {name}")
    with torch.device("meta"):
        model = cases("transformers")[name].build()
    assert missed(model) == unused


class Regulator(nn.Module):
    """Repeats each step as often as a layer predicts, into a tensor as long as the longest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.durations, self.last = nn.Linear(4, 4), nn.Linear(4, 1), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        repeats = self.durations(x).squeeze(-1).exp().long()
        longest = int(repeats.sum(1).max())
        out = torch.zeros(x.shape[0], longest, 4)
        for row, (steps, times) in enumerate(zip(x, repeats, strict=True)):
            long = torch.repeat_interleave(steps, times, dim=0)
            out[row, : len(long)] = long
        return self.last(out)


class Selecting(nn.Module):
    """As many of each row are chosen by a mask, which the forward relies on."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        mask = x[..., :1] > x[..., :1].median()
        both = torch.cat([x, -x], 1)[torch.cat([mask, ~mask], 1).squeeze(-1)]
        return self.last(both.reshape(x.shape[0], x.shape[1], 4))


@pytest.mark.parametrize("model", [Regulator(), Selecting()])
def test_sizes_that_depend_on_values(model: nn.Module) -> None:
    graph = ghn_init.trace(model, torch.zeros(2, 3, 4))
    assert graph.unreached.keys() <= {"durations.weight", "durations.bias"}


def test_a_reshape_that_does_not_fit_is_an_error_still() -> None:
    class Wrong(Selecting):
        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x).reshape(5, 4))

    with pytest.raises(ghn_init.InputError, match="reshape"):
        ghn_init.trace(Wrong(), torch.zeros(2, 3, 4))


class Optional(nn.Module):
    """A second tower runs if its argument is there."""

    main_input_name = "pixel_values"

    def __init__(self) -> None:
        super().__init__()
        self.config = transformers.PretrainedConfig(num_channels=3, image_size=8, hidden_size=6)
        self.image, self.text = nn.Conv2d(3, 6, 8), nn.Linear(6, 6)

    def forward(self, pixel_values: Tensor, encoder_hidden_states: Any = None) -> Tensor:
        out = self.image(pixel_values).flatten(1)
        return out if encoder_hidden_states is None else out + self.text(encoder_hidden_states).mean(1)


def test_arguments_that_reach_more_are_given() -> None:
    assert missed(Optional()) == set()


class OnePlus(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        return F.layer_norm(input, self.normalized_shape, self.weight + 1, self.bias)


def test_a_norm_with_an_offset_weight_owns_its_bias() -> None:
    graph = ghn_init.trace(nn.Sequential(nn.Linear(4, 4), OnePlus(4)), torch.zeros(2, 4))
    node = graph.nodes[graph.slots["1.bias"]]
    assert (node.primitive, [slot.role for slot in node.params]) == ("ln", ["bias"])
    assert "added to a constant" in graph.unreached["1.weight"]
