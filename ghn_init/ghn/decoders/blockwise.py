"""A linear layer of ``(out, in)`` outputs for several inputs that each need a part of the outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ghn_init.ghn.decoders.cells import Cell, Width, cells, gathered
from ghn_init.ghn.memory import large_empty

_BLOCK_ELEMENTS = 1 << 18  # outputs that are computed, for all their inputs, before they are handed out
_GATHERED_ELEMENTS = 1 << 20  # weights that are gathered at once, so that they are still in the cache


def blockwise_linear(
    weight: Tensor, bias: Tensor, widths: Sequence[Width], rows: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """Apply the first ``(out, in)`` outputs of a layer to each input.

    The weight is read once, block by block, forward and backward, however many inputs there are. What only
    few inputs need is computed for these alone.

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


class _Share(NamedTuple):
    """What an input has of a block: its number, its rows among those of the cell, its channels."""

    number: int
    rows: slice
    outs: slice
    ins: slice


class _Block(NamedTuple):
    """Some output channels of a cell; ``within`` are those of each share, counted from the block's first."""

    outs: slice
    ins: slice
    shares: list[_Share]

    def part(self, block: Tensor, share: _Share) -> Tensor:
        """``(m, out, in)`` of an input in the ``(out, rows, in)`` outputs of all."""
        first, into = self.outs.start, self.ins.start
        there = block[: share.outs.stop - first, share.rows, : share.ins.stop - into]
        return there.transpose(0, 1)


def _blocks(cell: Cell, widths: Sequence[Width], counts: Sequence[int], features: int) -> Iterator[_Block]:
    """Blocks of a cell."""
    (first, last), (into, stop_in) = cell.outs, cell.ins
    rows = sum(counts[i] for i in cell.inputs)
    step = _BLOCK_ELEMENTS // max(1, rows * (stop_in - into))
    if gathered(stop_in - into):
        step = min(step, _GATHERED_ELEMENTS // (features * (stop_in - into)))
    step = max(1, step)
    for start in range(first, last, step):
        stop, row, shares = min(start + step, last), 0, []
        for i in cell.inputs:
            out, most_in = widths[i]
            if start < out:
                channels = slice(start, min(stop, out)), slice(into, min(stop_in, most_in))
                shares.append(_Share(i, slice(row, row + counts[i]), *channels))
            row += counts[i]
        yield _Block(slice(start, stop), slice(into, stop_in), shares)


class _BlockwiseLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, bias: Tensor, widths: tuple[Width, ...], *rows: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(weight, *rows)
        ctx.widths = widths
        counts = tuple(map(len, rows))
        results = [large_empty((len(x), *width), x) for x, width in zip(rows, widths, strict=True)]
        for cell in cells(widths, counts, weight.shape[2]):
            x = torch.cat([rows[i] for i in cell.inputs])
            for block in _blocks(cell, widths, counts, weight.shape[2]):
                values = _product(x, weight[block.outs, block.ins])
                for share in block.shares:
                    there = results[share.number][:, share.outs, share.ins]
                    torch.add(block.part(values, share), bias[share.outs, share.ins], out=there)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        weight, *rows = ctx.saved_tensors
        counts = tuple(map(len, rows))
        for_weight, for_bias = torch.zeros_like(weight), weight.new_zeros(weight.shape[:2])
        for_rows = [torch.zeros_like(each) for each in rows]
        for cell in cells(ctx.widths, counts, weight.shape[2]):
            x = torch.cat([rows[i] for i in cell.inputs])
            for_x = torch.zeros_like(x)
            for block in _blocks(cell, ctx.widths, counts, weight.shape[2]):
                outs, ins = block.outs, block.ins
                # A transposed view: joined outputs are columns of one matrix.
                grad = x.new_zeros(len(x), outs.stop - outs.start, ins.stop - ins.start).transpose(0, 1)
                for share in block.shares:
                    block.part(grad, share).copy_(grads[share.number][:, share.outs, share.ins])
                flat = grad.transpose(0, 1).flatten(1)
                for_x.addmm_(flat, weight[outs, ins].flatten(0, 1))
                for_weight[outs, ins] += (flat.T @ x).view(*grad.shape[::2], -1)
                for_bias[outs, ins] += grad.sum(1)
            for i, part in zip(cell.inputs, for_x.split([counts[i] for i in cell.inputs]), strict=True):
                for_rows[i] += part
        return for_weight, for_bias, None, *for_rows


def _product(x: Tensor, weight: Tensor) -> Tensor:
    """``(out, rows, in)`` products of ``(rows, K)`` and ``(out, in, K)``."""
    out, into, _ = weight.shape
    if gathered(into):
        return torch.mm(x, weight.flatten(0, 1).T).unflatten(1, (out, into)).transpose(0, 1)
    return torch.bmm(x.expand(out, *x.shape), weight.transpose(1, 2))
