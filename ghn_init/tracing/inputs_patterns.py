"""Example inputs of models that begin with a layer that rearranges axes by a pattern (einops)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

BATCH = 2


def pattern_shapes(
    model: nn.Module, layer: nn.Module, sides: Mapping[int, tuple[Any, ...]]
) -> Iterator[tuple[int, ...]]:
    """Input shapes for a pattern ``"b c (h p) (w q) -> b (h w) (p q c)"`` that stands before the first layer.

    Args:
        model: The model.
        layer: Its first layer with parameters, whose width the last group of the pattern has.
        sides: Rank of images → lengths of their sides, likeliest first.
    """
    width = _width(layer)
    for module in model.modules() if width else ():
        if module is layer:
            return
        pattern, lengths = getattr(module, "pattern", None), getattr(module, "axes_lengths", None)
        if isinstance(pattern, str) and pattern.count("->") == 1 and isinstance(lengths, dict):
            yield from _shapes(pattern, dict(lengths), width, sides)
            return


def _width(layer: nn.Module) -> int:
    size = getattr(layer, "in_features", None) or getattr(layer, "normalized_shape", None)
    if isinstance(size, tuple) and len(size) == 1:
        size = size[0]
    return size if isinstance(size, int) else 0


def _shapes(
    pattern: str, lengths: dict[str, int], width: int, sides: Mapping[int, tuple[Any, ...]]
) -> Iterator[tuple[int, ...]]:
    left, right = (_groups(side) for side in pattern.split("->"))
    if len(left) < 2 or not right or "..." in pattern:
        return
    known = math.prod(lengths.get(axis, 1) for axis in right[-1])
    unknown = [axis for axis in right[-1] if axis not in lengths]
    if len(unknown) > 1 or width % known:
        return
    lengths.update(dict.fromkeys(unknown, width // known))
    free = [group for group in left[1:] if not all(axis in lengths for axis in group)]
    for side in sides.get(len(free), ()) if free else ((),):
        given = iter(side if isinstance(side, tuple) else (side,) * len(free))
        shape = [
            next(given) if group in free else math.prod(lengths[axis] for axis in group) for group in left[1:]
        ]
        parts = [math.prod(lengths.get(axis, 1) for axis in group) for group in left[1:]]
        if all(length % part == 0 for length, part in zip(shape, parts, strict=True)):
            yield (BATCH, *shape)


def _groups(side: str) -> list[list[str]]:
    """The axes of one side of a pattern, those in parentheses together."""
    found: list[list[str]] = []
    inside = False
    for word in side.replace("(", " ( ").replace(")", " ) ").split():
        if word in "()":
            inside = word == "("
            found += [[]] if inside else []
        elif inside:
            found[-1].append(word)
        else:
            found.append([word])
    return found
