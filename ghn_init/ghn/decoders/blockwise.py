"""A linear layer of ``(out, in)`` outputs for several inputs that each need a part of the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghn_init.ghn.memory import large_empty

Width = tuple[int, int]

_BLOCK_ELEMENTS = 1 << 20  # weights that are used for all inputs before the next ones are read


def blockwise_linear(
    weight: Tensor, bias: Tensor, widths: Sequence[Width], rows: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Apply the first ``(out, in)`` outputs of a layer to each input.

    The weight is read once, block by block, forward and backward, however many inputs there are; nothing
    is computed that no input needs.

    Args:
        weight: ``(O, I, K)``.
        bias: ``(O, I)``.
        widths: For each input the wanted ``(out, in)``, at most ``(O, I)``.
        rows: ``(m, K)`` inputs.

    Returns:
        For each input ``(m, out, in)``.
    """
    rows = [each.to(weight.dtype) for each in rows]
    with torch.autocast(weight.device.type, enabled=False):
        return _BlockwiseLinear.apply(weight, bias, tuple(widths), *rows)  # pyright: ignore[reportReturnType]


def _blocks(weight: Tensor, widths: Sequence[Width]) -> Iterator[tuple[int, int, slice, int]]:
    """Number of an input, its ``in``, and the outputs of a block that it needs, block after block."""
    step = max(1, _BLOCK_ELEMENTS // weight[0].numel())
    for start in range(0, max(out for out, _ in widths), step):
        for i, (out, into) in enumerate(widths):
            if start < out:
                stop = min(start + step, out)
                yield i, into, slice(start, stop), (stop - start) * into


class _BlockwiseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, widths: tuple[Width, ...], *rows: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight, *rows)
        ctx.widths = widths
        results = [large_empty((len(x), *width), x) for x, width in zip(rows, widths, strict=True)]
        for i, into, span, size in _blocks(weight, widths):
            block = weight[span, :into].flatten(0, 1)
            offset = bias[span, :into].flatten()
            torch.addmm(offset, rows[i], block.T, out=results[i][:, span].view(-1, size))
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        weight, *rows = ctx.saved_tensors
        for_weight, for_bias = torch.zeros_like(weight), weight.new_zeros(weight.shape[:2])
        for_rows = [torch.zeros_like(each) for each in rows]
        for i, into, span, size in _blocks(weight, ctx.widths):
            grad = grads[i][:, span].reshape(-1, size)
            for_rows[i].addmm_(grad, weight[span, :into].flatten(0, 1))
            for_bias[span, :into] += grad.sum(0).view(-1, into)
            if into == weight.shape[1]:
                for_weight[span].view(size, -1).addmm_(grad.T, rows[i])
            else:
                for_weight[span, :into] += (grad.T @ rows[i]).view(-1, into, weight.shape[2])
        return for_weight, for_bias, None, *for_rows
