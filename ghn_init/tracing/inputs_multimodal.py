"""Example inputs of models that put a tower's features in the place of special tokens (LLaVA's way)."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import TraceError
from ghn_init.tracing.inputs_config import BATCH, MAKERS, Spec, is_config, tokens
from ghn_init.tracing.recorder import record

_GRIDS = ("image_grid_thw", "grid_thw")
_TOWERS = (
    ("get_image_features", ("image_token_id", "image_token_index")),
    ("get_audio_features", ("audio_token_id", "audio_token_index")),
)


class _Features(nn.Module):
    """A model whose forward is one of its towers with its projection."""

    def __init__(self, model: nn.Module, method: str) -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, **inputs: Any) -> Any:
        """The features that take the place of tokens."""
        found = getattr(self.model, self.method)(**inputs)
        return getattr(found, "pooler_output", found)


def from_towers(model: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Token ids with as many placeholders as the towers give features, and what the towers take."""
    config = getattr(model, "config", None)
    if not is_config(config):
        return
    spec, accepted = Spec(model, config), inspect.signature(model.forward).parameters
    if "hidden_states" in accepted and "grid_thw" in accepted:
        yield (), patches(spec, "hidden_states", "grid_thw")
    elif "pixel_values" in accepted and "grid_thw" in accepted:
        yield (), patches(spec, "pixel_values", "grid_thw")
    if "input_ids" not in accepted:
        return
    kwargs: dict[str, Any] = {}
    placeholders: list[int] = []
    for method, names in _TOWERS:
        token = spec.find(*names)
        if not isinstance(token, int) or not hasattr(model, method):
            continue
        for inputs in _tower_inputs(spec, method):
            count = _count(model, method, inputs)
            if count:
                kwargs.update({name: value for name, value in inputs.items() if name in accepted})
                placeholders += [token] * (count // BATCH)
                break
    if placeholders:
        row = torch.tensor([placeholders] * BATCH)
        text = tokens(spec)
        kwargs["input_ids"] = torch.cat([text[:, :1], row, text[:, 1:]], 1)
        if "mm_token_type_ids" in accepted:
            image = spec.find("image_token_id", "image_token_index")
            kwargs["mm_token_type_ids"] = (kwargs["input_ids"] == image).long()
        yield (), kwargs


def patches(spec: Spec, values: str, grid: str) -> dict[str, Tensor]:
    """Flattened patches ``(patches, channels * frames * side * side)`` and their grid ``(2, 3)``."""
    side = 4 * spec.number("spatial_merge_size", "merge_size", default=2)
    patch, frames = spec.number("patch_size", default=14), spec.number("temporal_patch_size", default=1)
    width = spec.number("in_channels", "in_chans", "num_channels", default=3) * frames * patch * patch
    return {
        values: spec.floats(BATCH * side * side, width),
        grid: torch.tensor([[1, side, side]] * BATCH),
    }


def _tower_inputs(spec: Spec, method: str) -> Iterator[dict[str, Any]]:
    """What the tower may take, likeliest first."""
    accepted = inspect.signature(getattr(spec.model, method)).parameters
    for grid in _GRIDS:
        if grid in accepted and "pixel_values" in accepted:
            yield patches(spec, "pixel_values", grid)
            return
    main = {name: MAKERS[name](spec) for name in ("pixel_values", "input_features") if name in accepted}
    masks = ("input_features_mask", "feature_attention_mask")
    for name, value in main.items():
        height, width = value.shape[-2:]
        sizes: dict[str, Any] = {}
        if "image_sizes" in accepted:
            sizes["image_sizes"] = torch.tensor([[height, width]] * BATCH)
        for mask in masks:
            if mask in accepted:
                sizes[mask] = torch.ones(BATCH, width, dtype=torch.long)
        yield {name: value, **sizes}
        if sizes:
            yield {name: value}
        if value.dim() == 4:
            yield {name: value.unsqueeze(1), **sizes}
            # A whole image beside its tiles, of which there is one in an image of the tower's size, or two.
            for tiles in (2, 3):
                large = dict(sizes)
                if "image_sizes" in sizes:
                    large["image_sizes"] = torch.tensor([[height, width * (tiles - 1)]] * BATCH)
                yield {name: value.unsqueeze(1).expand(-1, tiles, -1, -1, -1), **large}


def _count(model: nn.Module, method: str, inputs: dict[str, Any]) -> int:
    """Number of features that the tower gives; 0 where it does not take the inputs."""
    try:
        recording = record(_Features(model, method), (), inputs)
    except TraceError:
        return 0
    (outputs,) = next(node for node in recording.graph.nodes if node.op == "output").args
    shapes = [tuple(node.meta["shape"]) for node in outputs]  # type: ignore[union-attr]
    return sum(math.prod(shape[:-1]) for shape in shapes if shape)
