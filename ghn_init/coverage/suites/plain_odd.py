# ruff: noqa: D103 - the name of a module says what it is
"""Modules that ask for trouble: questions, derivatives inside, operators over functions, odd state."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.coverage.suites.plain_entries import SEQUENCE, Entries, Forward, X, two, weight

ENTRIES = Entries()
add, entry = ENTRIES.add, ENTRIES.entry
POINTS = torch.zeros(5, 3, device="cpu")


# Questions about values
def _counted(x: Tensor) -> Tensor:
    for step in range(300):
        if x[0, 0] > step:
            x = x + 1
    return x


add("many questions", lambda: two(lambda m, x: m.b(m.a(_counted(x)))), X)


# Operators over functions
def _conditional(m: Any, x: Tensor) -> Tensor:
    return m.c(torch.cond(x.sum() > 0, lambda x: m.a(x), lambda x: m.b(x), (x,)))


@entry(lambda: X)
def conditional_operator() -> nn.Module:
    return Forward(_conditional, a=nn.Linear(8, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2))


@entry(lambda: X)
def loop_operator() -> nn.Module:
    from torch._higher_order_ops.while_loop import while_loop

    def forward(m: Any, x: Tensor) -> Tensor:
        start = (torch.tensor(0), x)
        return m.b(while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, m.a(x)), start)[1])

    return two(forward)


# Derivatives, functions of parameters
def _forces(m: Any, points: Tensor) -> tuple[Tensor, Tensor]:
    points = points.requires_grad_(True)
    energy = m.b(m.a(points).tanh()).sum()
    return energy, -torch.autograd.grad(energy, points, create_graph=True)[0]


def _penalised(m: Any, x: Tensor) -> Tensor:
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        y = m.b(m.a(x).tanh())
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    return y + slope.norm()


def _generated(m: Any, x: Tensor) -> Tensor:
    made = m.maker(x.mean(0)).view(8, 8)
    return m.b(torch.func.functional_call(m.a, {"weight": made, "bias": m.a.bias}, (x,)))


def _ensemble(m: Any, x: Tensor) -> Tensor:
    rows = torch.func.vmap(lambda w, x: F.linear(x, w), in_dims=(0, None))(m.stack, x)
    return m.b(rows.mean(0))


add("forces", lambda: two(_forces, 3, 8, 8, 1), POINTS)
add("gradient penalty", lambda: two(_penalised), X)
add("generated weight", lambda: Forward(_generated, maker=nn.Linear(8, 64), **_pair()), X)
add("ensemble", lambda: Forward(_ensemble, stack=weight(3, 8, 8), b=nn.Linear(8, 2)), X)


def _pair() -> dict[str, nn.Module]:
    return {"a": nn.Linear(8, 8), "b": nn.Linear(8, 2)}


# Ways to run and to return
def _forked(m: Any, x: Tensor) -> Tensor:
    waiting = torch.jit.fork(m.a, x)
    return m.b(x + torch.jit.wait(waiting))


def _stored(m: Any, x: Tensor) -> Tensor:
    m.last = m.a(x)
    m.loss = m.b(m.last).sum()
    return m.loss


def _tree(m: Any, node: Any) -> Tensor:
    if isinstance(node, Tensor):
        return m.a(node)
    return m.b(torch.cat([_tree(m, child) for child in node], -1)).tanh()


def _pictures(m: Any, pictures: list[Tensor]) -> Tensor:
    return torch.stack([m.b(m.a(each.flatten(1).mean(1))) for each in pictures])


add("fork and wait", lambda: two(_forked), X)
add("results kept as attributes", lambda: two(_stored), X)
add("tree", lambda: two(_tree, 8, 8, 16, 8), (((X, X), X),))
add("list of pictures", lambda: two(_pictures, 3, 8, 8, 2), ([SEQUENCE[0][:3], SEQUENCE[0][:3, :4]],))


# State
def _clamped(m: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        m.a.weight.clamp_(-1, 1)
        m.a.weight.data.mul_(0.9)
    return m.b(m.a(x))


def _cached(m: Any, x: Tensor) -> Tensor:
    m.cache[:, m.place : m.place + 1] = m.a(x)
    m.place += 1
    keys = m.cache[:, : m.place]
    return m.b(F.scaled_dot_product_attention(x, keys, keys))


@entry(lambda: X)
def clamps_its_weight() -> nn.Module:
    return two(_clamped)


@entry(lambda: SEQUENCE[:, :1])
def cache_of_keys() -> nn.Module:
    model = two(_cached)
    model.register_buffer("cache", torch.zeros(2, 9, 8))
    model.place = 0  # type: ignore[assignment]
    return model
