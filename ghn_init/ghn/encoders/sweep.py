"""One sweep of the gated graph network over the levels of a graph, with its gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_MOST_WEIGHTS = 1 << 22  # factors between nodes that are spelled out at once, unless one level has more
_INVERSE = np.array([0.0, *(1.0 / distance for distance in range(1, 256))], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Levels:
    """Nodes in the order of their levels, and how much each hears of those before it.

    Attributes:
        order: ``(N,)`` node at each position; ``places`` is the inverse.
        starts: First position of each level, and N.
        distances: ``(N, N)`` uint8; row = who hears, column = who speaks, both by position.
    """

    order: Tensor
    places: Tensor
    starts: list[int]
    distances: np.ndarray

    @classmethod
    def of(cls, distances: np.ndarray, levels: np.ndarray) -> Levels:
        """Order nodes by their levels.

        Args:
            distances: ``(N, N)`` uint8; row = who hears, column = who speaks.
            levels: ``(N,)``.
        """
        order = np.argsort(levels, kind="stable")
        starts = np.searchsorted(levels[order], np.arange(levels.max() + 2))
        return cls(
            torch.from_numpy(order),
            torch.from_numpy(np.argsort(order)),
            [int(start) for start in starts],
            distances[order][:, order],
        )

    def heard(
        self, kinds: int, like: Tensor, *, backwards: bool = False
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Where each level starts and stops, and ``(n, start * kinds)`` factors of what is said before."""
        for first, last in self._blocks(backwards):
            top = self.starts[first]
            distances = self.distances[top : self.starts[last], : self.starts[last - 1]]
            factors = (distances == 1).astype(np.float32)
            if kinds == 2:
                factors = np.stack([factors, _INVERSE[distances]], axis=2).reshape(len(factors), -1)
            there = torch.from_numpy(factors).to(like)
            numbers = range(last - 1, first - 1, -1) if backwards else range(first, last)
            for start, stop in ((self.starts[i], self.starts[i + 1]) for i in numbers):
                yield start, stop, there[start - top : stop - top, : start * kinds]

    def _blocks(self, backwards: bool) -> list[tuple[int, int]]:
        """Runs of levels whose factors are spelled out together."""
        blocks, first = [], 0
        for last in range(1, len(self.starts)):
            rows = self.starts[min(last + 1, len(self.starts) - 1)] - self.starts[first]
            if last == len(self.starts) - 1 or rows * self.starts[last] > _MOST_WEIGHTS:
                blocks.append((first, last))
                first = last
        return blocks[::-1] if backwards else blocks


class Weights(NamedTuple):
    """Of the GRU cell, and of the two layers that make what a node says (all kinds of messages joined)."""

    into: Tensor  # (3 hid, hid)
    into_bias: Tensor
    state: Tensor  # (3 hid, hid)
    state_bias: Tensor
    first: Tensor  # (hidden, hid)
    first_bias: Tensor
    second: Tensor  # (kinds * hid, hidden)
    second_bias: Tensor


def sweep(x: Tensor, weights: Weights, levels: Levels) -> Tensor:
    """Update ``(N, hid)`` states level by level, differentiably; states are in the order of the levels.

    A node's new state is that of a GRU cell whose input is the weighted sum of what the nodes before it said
    in their new states. What needs no other node is computed for all of them at once, and the gradients of
    the weights at the end, so that a level costs a few small products.
    """
    with torch.autocast(x.device.type, enabled=False):
        return _Sweep.apply(x.to(weights.into.dtype), levels, *weights)  # pyright: ignore[reportReturnType]


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Levels, *tensors: Tensor) -> Tensor:
        weights = Weights(*tensors)
        count, hid = x.shape
        kinds = len(weights.second) // hid
        from_state = torch.addmm(weights.state_bias, x, weights.state.T)
        messages, updated = torch.zeros_like(x), torch.empty_like(x)
        gates = x.new_empty(count, 3 * hid)
        hidden = x.new_empty(count, len(weights.first))
        said = x.new_empty(count, kinds * hid)
        for start, stop, heard in levels.heard(kinds, x):
            level = slice(start, stop)
            if start:
                torch.mm(heard, said[:start].view(-1, hid), out=messages[level])
            from_input = torch.addmm(weights.into_bias, messages[level], weights.into.T)
            old = from_state[level]
            gate, new = gates[level, : 2 * hid], gates[level, 2 * hid :]
            torch.sigmoid(from_input[:, : 2 * hid] + old[:, : 2 * hid], out=gate)
            torch.tanh(torch.addcmul(from_input[:, 2 * hid :], gate[:, :hid], old[:, 2 * hid :]), out=new)
            torch.lerp(new, x[level], gate[:, hid:], out=updated[level])
            torch.addmm(weights.first_bias, updated[level], weights.first.T, out=hidden[level]).relu_()
            torch.addmm(weights.second_bias, hidden[level], weights.second.T, out=said[level]).relu_()
        ctx.levels = levels
        ctx.save_for_backward(x, from_state, messages, updated, gates, hidden, said, *weights)
        return updated

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        x, from_state, messages, updated, gates, hidden, said, *tensors = ctx.saved_tensors
        weights = Weights(*tensors)
        hid = x.shape[1]
        reset, keep, new = gates.split(hid, dim=1)
        # What does not depend on the gradient, for all nodes at once.
        by_new = (1 - keep) * (1 - new * new)
        by_keep = (x - new) * keep * (1 - keep)
        by_reset = from_state[:, 2 * hid :] * reset * (1 - reset)
        spoke, active = said > 0, hidden > 0
        for_said, for_hidden = torch.zeros_like(said), torch.empty_like(hidden)
        for_input, whole = torch.empty_like(gates), grad.clone()
        for start, stop, heard in ctx.levels.heard(len(weights.second) // hid, x, backwards=True):
            level = slice(start, stop)
            for_said[level].mul_(spoke[level])
            torch.mm(for_said[level], weights.second, out=for_hidden[level])
            for_hidden[level].mul_(active[level])
            whole[level].addmm_(for_hidden[level], weights.first)
            wanted, to_input = whole[level], for_input[level]
            torch.mul(wanted, by_new[level], out=to_input[:, 2 * hid :])
            torch.mul(to_input[:, 2 * hid :], by_reset[level], out=to_input[:, :hid])
            torch.mul(wanted, by_keep[level], out=to_input[:, hid : 2 * hid])
            if start:
                message = to_input @ weights.into
                for_said[:start].view(-1, hid).addmm_(heard.T, message)
        for_state = torch.cat([for_input[:, : 2 * hid], for_input[:, 2 * hid :] * reset], dim=1)
        for_x = torch.addmm(whole * keep, for_state, weights.state)
        by_weight = (
            *(for_input.T @ messages, for_input.sum(0), for_state.T @ x, for_state.sum(0)),
            *(for_hidden.T @ updated, for_hidden.sum(0), for_said.T @ hidden, for_said.sum(0)),
        )
        return for_x, None, *by_weight
