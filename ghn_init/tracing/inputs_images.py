"""Example images and videos: whole ones of every declared size, or patches with what tells their places."""

from __future__ import annotations

import inspect
import math
from collections.abc import Container, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_config import BATCH, Spec, sub_configs
from ghn_init.tracing.inputs_layers import first_layers

_GRIDS = ("image_grid_thw", "grid_thw", "video_grid_thw")
_MERGES = ("merge_sizes", "image_merge_sizes", "video_merge_sizes")
_POSITIONS = ("pixel_position_ids", "image_position_ids", "video_position_ids")
_PATCHED = (*_GRIDS, *_POSITIONS, "spatial_shapes", "target_sizes", "flattened_patches")
_SIZES = ("image_size", "img_size", "input_size", "crop_size", "max_img_size")
_FRAMES = ("num_frames", "frames_per_clip")
_PATCHES = 16
_COMMON_SIDES = (224, 256, 448, 512, 640, 1536)


def image_inputs(spec: Spec, accepted: Container[str], values: str) -> Iterator[dict[str, Any]]:
    """What a forward, or a method that gives image features, may take for two images; likeliest first.

    Args:
        spec: The model and its configuration.
        accepted: Names of the arguments.
        values: The one that holds the pixels or patches.
    """
    if any(name in accepted for name in _PATCHED):
        yield from _patches(spec, accepted, values)
        return
    if "aspect_ratio_ids" in accepted:
        yield from _tiles(spec, values)
    clip = values.endswith("_videos")
    for image in whole_images(spec):
        sizes = {"image_sizes": _sizes(*image.shape[-2:])} if "image_sizes" in accepted else {}
        if not clip:
            yield {values: image, **sizes}
        for frames in _frame_counts(spec):
            yield {values: torch.stack([image] * frames, 1), **sizes}
        if sizes:
            yield {values: image}
            # A whole image beside its tiles: one in an image of the tower's size, or two, or two by two.
            for down, across in ((1, 1), (1, 2), (2, 2)):
                large = _sizes(image.shape[-2] * down, image.shape[-1] * across)
                yield {values: torch.stack([image] * (1 + down * across), 1), "image_sizes": large}
    if not clip:
        for width, _ in _patch_shapes(spec):
            yield {values: spec.floats(BATCH * _PATCHES, width)}


def _tiles(spec: Spec, values: str) -> Iterator[dict[str, Any]]:
    """One image a sample, in tiles ``(2, 1, tiles, channels, height, width)`` of the first known layout."""
    tiles = spec.number("max_num_tiles", default=4)
    for image in whole_images(spec):
        yield {
            values: torch.stack([image] * tiles, 1).unsqueeze(1),
            "aspect_ratio_ids": torch.ones(BATCH, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(BATCH, 1, tiles, dtype=torch.long),
        }


def whole_images(spec: Spec) -> Iterator[Tensor]:
    """Images ``(2, channels, height, width)`` of each size that the model or its configuration declares."""
    channels = _channels(spec)
    for height, width in dict.fromkeys(_declared(spec)):
        yield spec.floats(BATCH, channels, height, width)


def declared_images(spec: Spec) -> list[Tensor]:
    """As :func:`whole_images`, of the sizes in the configuration; of a common size if there are none."""
    sizes = [size for value in everywhere(spec.config, *_SIZES) for size in _as_size(value)]
    sizes = sizes or [(_COMMON_SIDES[0], _COMMON_SIDES[0])]
    return [spec.floats(BATCH, _channels(spec), *size) for size in dict.fromkeys(sizes)]


def is_patched(accepted: Container[str]) -> bool:
    """Whether arguments of these names belong to images that were cut into patches."""
    return any(name in accepted for name in _PATCHED)


def _channels(spec: Spec) -> int:
    """Input channels that the configuration gives, else those of the first convolution on images."""
    found = spec.number("num_channels", "in_channels", "in_chans", default=0)
    for layer in first_layers(spec.model):
        kernel = getattr(layer, "kernel_size", ())
        if not found and isinstance(kernel, tuple) and len(kernel) > 1:
            found = int(layer.in_channels)  # type: ignore[arg-type]
    return found or 3


def _declared(spec: Spec) -> Iterator[tuple[int, int]]:
    """Sizes in the configurations, outer ones first, then those of modules, then common ones."""
    for value in everywhere(spec.config, *_SIZES):
        yield from _as_size(value)
    for module in spec.model.modules():
        for name in _SIZES[:2]:
            yield from _as_size(getattr(module, name, None))
    for side in _COMMON_SIDES:
        yield side, side


def _as_size(value: Any) -> Iterator[tuple[int, int]]:
    if isinstance(value, dict):
        value = (value.get("height"), value.get("width"))
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, (tuple, list)) and len(value) in (2, 3):
        height, width = value[-2:]
        if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
            yield height, width


def everywhere(config: Any, *names: str) -> Iterator[Any]:
    """The values of these fields at every level of a configuration, outer levels first."""
    levels = [config]
    while levels:
        for level in levels:
            for name in names:
                value = getattr(level, name, None)
                if value is not None:
                    yield value
        levels = [sub for level in levels for sub in sub_configs(level)]


def _frame_counts(spec: Spec) -> list[int]:
    """Frames of a clip, or images of a sample: the declared number, one, two."""
    declared = [n for n in everywhere(spec.config, *_FRAMES) if isinstance(n, int) and 0 < n <= 64]
    return list(dict.fromkeys([*declared[:1], 1, 2]))


def _sizes(height: int, width: int) -> Tensor:
    return torch.tensor([[height, width]] * BATCH)


def _patches(spec: Spec, accepted: Container[str], values: str) -> Iterator[dict[str, Any]]:
    """Patches of two square images, flat or as small images, and where they lie."""
    merge = spec.number(
        "spatial_merge_size", "merge_size", "merge_kernel_size", "pooling_kernel_size", default=2
    )
    side = 4 * max(1, merge)
    grid = _named(accepted, values, _GRIDS)
    for width, patch in _patch_shapes(spec):
        if grid is not None:
            for frames in (1, 2) if "video" in values else (1,):
                yield from _placed(spec, accepted, values, grid, (frames, side, merge), width, patch)
        elif "target_sizes" in accepted:
            if patch is not None:
                channels, height, across = patch
                strip = spec.floats(1, channels, height, across * BATCH * side * side)
                yield {values: strip, "target_sizes": _sizes(side, side)}
        elif "flattened_patches" in accepted:
            # Column and row may stand before a patch's values.
            for before in (0, 2):
                yield {"flattened_patches": spec.floats(BATCH, side * side, before + width)}
        else:
            yield {values: spec.floats(BATCH, side * side, width), **_places(accepted, values, side)}


def _placed(
    spec: Spec,
    accepted: Container[str],
    values: str,
    grid: str,
    size: tuple[int, int, int],
    width: int,
    patch: tuple[int, ...] | None,
) -> Iterator[dict[str, Any]]:
    """Patches of two clips of ``(frames, side, merged patches)`` with the grid in which they lie."""
    frames, side, merge = size
    count = BATCH * frames * side * side
    placed = {grid: torch.tensor([[frames, side, side]] * BATCH)}
    merges = _named(accepted, values, _MERGES)
    if merges is not None:
        placed[merges] = torch.full((BATCH,), merge)
    yield {values: spec.floats(count, width), **placed}
    if patch is not None:
        channels, height, across = patch
        yield {values: spec.floats(count, *patch), **placed}
        yield {values: spec.floats(count, merge * height, merge * across, channels), **placed}


def _places(accepted: Container[str], values: str, side: int) -> dict[str, Tensor]:
    """Where the patches of square images lie, and which of them count."""
    placed: dict[str, Tensor] = {}
    positions = _named(accepted, values, _POSITIONS)
    if positions is not None:
        placed[positions] = _coordinates(side)
    if "spatial_shapes" in accepted:
        placed["spatial_shapes"] = _sizes(side, side)
    if "pixel_attention_mask" in accepted:
        placed["pixel_attention_mask"] = torch.ones(BATCH, side * side, dtype=torch.long)
    return placed


def _named(accepted: Container[str], values: str, names: tuple[str, ...]) -> str | None:
    """The accepted one of the names; those for videos belong to videos."""
    clip = "video" in values
    fitting = [name for name in names if name in accepted and ("video" in name) == clip]
    plain = [name for name in names if name in accepted and "image" not in name and "video" not in name]
    return next(iter([*fitting, *plain]), None)


def _coordinates(side: int) -> Tensor:
    """Column and row of each patch ``(2, side * side, 2)``."""
    grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="xy"), -1)
    return grid.reshape(1, side * side, 2).repeat(BATCH, 1, 1)


def _patch_shapes(spec: Spec) -> list[tuple[int, tuple[int, ...] | None]]:
    """Values in a patch, and its shape as a small image, from the layer that embeds patches."""
    found: list[tuple[int, tuple[int, ...] | None]] = []
    for layer in first_layers(_patched_part(spec.model)):
        weight = getattr(layer, "weight", None)
        if not isinstance(weight, Tensor):
            continue
        if isinstance(getattr(layer, "kernel_size", None), tuple) and weight.dim() > 3:
            shape = tuple(weight.shape[1:])
            found.append((math.prod(shape), shape if len(shape) == 3 else None))
            break
        if isinstance(getattr(layer, "in_features", None), int):
            found.append((int(layer.in_features), None))  # type: ignore[arg-type]
            break
    patch, channels = spec.number("patch_size", default=14), _channels(spec)
    frames = spec.number("temporal_patch_size", default=1)
    found.append((channels * frames * patch * patch, (channels, patch, patch)))
    return list(dict.fromkeys(found))


def _patched_part(model: nn.Module) -> nn.Module:
    """The innermost of the first nested modules that take patches: the vision tower, or the model itself."""
    for module in list(model.modules())[1:]:
        try:
            names = inspect.signature(module.forward).parameters
        except (TypeError, ValueError):
            continue
        if is_patched(names) and not {"pixel_values", "hidden_states", "flattened_patches"}.isdisjoint(names):
            return _patched_part(module)
    return model
