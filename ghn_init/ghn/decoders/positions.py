"""A linear layer with outputs at each position of a square grid, of which some rectangles are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Crop = tuple[int, int, int, int]  # first row, the one after the last, and the same of columns


def positions_linear(
    weight: Tensor, bias: Tensor, crops: Sequence[Crop], inputs: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Apply the layer to each input at the positions of its crop.

    The weights are used where they are: those of a crop lie far apart, and to gather them costs more than to
    multiply with them.

    Args:
        weight: ``(C, S, S, K)``.
        bias: ``(C, S, S)``.
        crops: For each input the positions.
        inputs: ``(n, K)``.

    Returns:
        For each input ``(kh, kw, n, C)``.
    """
    inputs = [each.to(weight.dtype) for each in inputs]
    with torch.autocast(weight.device.type, enabled=False):
        return _PositionsLinear.apply(weight, bias, tuple(crops), *inputs)  # pyright: ignore[reportReturnType]


class _PositionsLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, crops: tuple[Crop, ...], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight, *inputs)
        ctx.crops = crops
        results = []
        for x, crop in zip(inputs, crops, strict=True):
            there, offsets = _at(weight, crop).transpose(2, 3), _at(bias, crop).unsqueeze(2)
            spread = x.expand(there.shape[1], *x.shape)
            lines = [torch.baddbmm(b, spread, w) for b, w in zip(offsets, there, strict=True)]
            results.append(torch.stack(lines))
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        weight, *inputs = ctx.saved_tensors
        for_weight, for_bias = torch.zeros_like(weight), weight.new_zeros(weight.shape[:3])
        for_inputs = [torch.zeros_like(each) for each in inputs]
        for x, for_x, crop, grad in zip(inputs, for_inputs, ctx.crops, grads, strict=True):
            _at(for_bias, crop).add_(grad.sum(2))
            spread = x.expand(grad.shape[1], *x.shape)
            for line, w, for_w in zip(grad, _at(weight, crop), _at(for_weight, crop), strict=True):
                for_x += torch.bmm(line, w).sum(0)
                for_w += torch.bmm(line.transpose(1, 2), spread)
        return for_weight, for_bias, None, *for_inputs


def _at(x: Tensor, crop: Crop) -> Tensor:
    """``(kh, kw, C, ...)`` view of the positions of a crop in ``(C, S, S, ...)``."""
    return x[:, crop[0] : crop[1], crop[2] : crop[3]].movedim(0, 2)
