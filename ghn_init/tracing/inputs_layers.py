"""Example inputs guessed from a model's first layers and the names of its forward's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_patterns import BATCH, pattern_shapes

LENGTH = 16
_REDUCTIONS = (1, 2, 4)
# Image sizes by how many models take them; the fully convolutional ones take the first.
_SIDES: dict[int, tuple[int | tuple[int, ...], ...]] = {
    1: (64, 256, 1024, 16000),
    2: (224, 32, 28, 64, 299, 256, 96, 128, 384, 512, 1),
    3: (32, 16, 64, (16, 224, 224), 112, 8, 1),
}
_STEPS = ("t", "timestep", "timesteps", "time", "time_step", "noise_level", "sigma", "ts", "step")
_LABELS = ("y", "label", "labels", "class_labels", "classes", "target")
_LENGTHS = ("lengths", "length", "x_lens", "input_lengths", "seq_lens", "src_lengths")
_IDS = ("tokens", "input_ids", "token_ids", "ids", "idx")
_MASKS = ("mask", "attention_mask", "padding_mask", "src_key_padding_mask", "key_padding_mask")


def computing_dtype(model: nn.Module) -> torch.dtype:
    """Dtype of the model's first parameter of an ordinary floating dtype; float32 without one."""
    for parameter in model.parameters():
        if parameter.dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
            return parameter.dtype
    return torch.float32


def first_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Modules with parameters of their own whose input size can be read, in order of registration."""
    for module in model.modules():
        if _layer_shapes(module):
            yield module


def from_layers(
    model: nn.Module, layer: nn.Module | None = None
) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Arguments for the forward: its main input from a layer, the others by their names.

    Args:
        model: The model.
        layer: The one that its main input goes to; by default the first that is registered.
    """
    if layer is None:
        layer = next(first_layers(model), None)
    shapes = _free_shapes(model) if layer is None else [*_layer_shapes(layer), *_table_shapes(model, layer)]
    rearranged = () if layer is None else pattern_shapes(model, layer, _SIDES)
    for shape, whole in (*((shape, False) for shape in rearranged), *shapes):
        main = (
            torch.zeros(shape, dtype=torch.long)
            if whole
            else torch.empty(shape, dtype=computing_dtype(model), device="meta")
        )
        yield _arguments(model, main), {}


def _layer_shapes(module: nn.Module) -> list[tuple[tuple[int, ...], bool]]:
    """Input shapes that a layer takes, and whether they hold whole numbers; nothing for other modules."""
    owned = any(parameter is not None for parameter in module._parameters.values())
    if not owned and "parametrizations" not in module._modules:
        return []

    def size(name: str) -> int:
        value = getattr(module, name, None)
        return value if isinstance(value, int) and not isinstance(value, bool) else 0

    kernel = getattr(module, "kernel_size", None)
    if size("in_channels") and isinstance(kernel, (tuple, list)):
        rank = len(kernel)
        sides = [side if isinstance(side, tuple) else (side,) * rank for side in _SIDES.get(rank, ())]
        return [((BATCH, size("in_channels"), *side), False) for side in sides]
    if size("num_embeddings"):
        return [((BATCH, LENGTH), True), ((BATCH,), True)]
    if size("input_size"):
        return [((BATCH, LENGTH, size("input_size")), False), ((BATCH, size("input_size")), False)]
    if size("embed_dim") and size("num_heads"):
        return [((BATCH, LENGTH, size("embed_dim")), False)]
    features = size("in_features") or size("in1_features")
    if features:
        return [
            ((BATCH, features), False),
            ((BATCH, LENGTH, features), False),
            ((BATCH, 4, 4, features), False),
        ]
    normalized = getattr(module, "normalized_shape", None)
    if isinstance(normalized, tuple):
        return [((BATCH, LENGTH, *normalized), False), ((BATCH, *normalized), False)]
    channels = size("num_features") or size("num_channels")
    if channels:
        return [((BATCH, channels, *(32,) * rank), False) for rank in (2, 1, 0, 3)]
    return []


def _table_shapes(model: nn.Module, layer: nn.Module) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Lengths that a table of positions demands, which is as wide as the first one-dimensional convolution.

    What stands between the input and the table may halve the length once or twice.
    """
    if not isinstance(layer, nn.Conv1d):
        return
    tables = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dim() in (2, 3)]
    for rows in dict.fromkeys(
        table.shape[-2] for table in tables if table.shape[-1] == layer.out_channels != table.shape[-2]
    ):
        yield from (((BATCH, layer.in_channels, rows * factor), False) for factor in _REDUCTIONS)


def _free_shapes(model: nn.Module) -> list[tuple[tuple[int, ...], bool]]:
    """Inputs for a model that only has parameters of its own: what could multiply one of them."""
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    widths = dict.fromkeys(side for shape in shapes for side in (shape[:1] + shape[-1:]))
    found = [((BATCH, width), False) for width in widths] + [
        ((BATCH, LENGTH, width), False) for width in widths
    ]
    return [*found, ((BATCH, 3, 224, 224), False)] if found else []


def _arguments(model: nn.Module, main: Tensor) -> tuple[Any, ...]:
    """One value for each argument that the forward requires."""
    try:
        signature = inspect.signature(model.forward)
    except (TypeError, ValueError):
        return (main,)
    required = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
    if not required:
        return (main,)
    return (main, *(_companion(name, main) for name in required[1:]))


def _companion(name: str, main: Tensor) -> Tensor:
    """A further argument: by its name, else like the main input."""
    if name in _STEPS or name in _LABELS:
        return torch.zeros(BATCH, dtype=torch.long)
    if name in _LENGTHS:
        return torch.full((BATCH,), main.shape[1] if main.dim() > 1 else 1, dtype=torch.long)
    if name in _IDS:
        return torch.zeros(BATCH, LENGTH, dtype=torch.long)
    if name in _MASKS:
        return torch.ones(main.shape[:2], dtype=torch.bool)
    if name == "edge_index":
        return torch.zeros(2, main.shape[0], dtype=torch.long)
    if name == "batch":
        return torch.zeros(main.shape[0], dtype=torch.long)
    return main.clone()
