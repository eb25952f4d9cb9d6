# ruff: noqa: D103 - the name of a module says what it is
"""Control flow, containers and the ways to call a module."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ghn_init.coverage.suites.plain_entries import IMAGE, Entries, Forward, X, two

ENTRIES = Entries()
add, entry = ENTRIES.add, ENTRIES.entry


# Control and structure
class _Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0].exp()


@dataclasses.dataclass
class Pair:
    """Two tensors, one in a dict."""

    first: Tensor
    rest: dict[str, Tensor]


class Plain:
    """An object that is no container."""

    def __init__(self, value: Tensor) -> None:
        self.value = value


def _positive(x: Tensor) -> Tensor:
    if not (x > 0).all():
        raise ValueError("expected positive values")
    return x.log()


def _checked(x: Tensor) -> Tensor:
    assert x.shape[-1] == 8
    assert x.dim() == 2
    return x


def _frozen(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        fixed = x * 2
    return layer(fixed)


def _rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def _chosen(function: Any) -> nn.Module:
    return Forward(function, layers=nn.ModuleList(nn.Linear(8, 2) for _ in range(2)))


def _keyed() -> nn.Module:
    tasks = nn.ModuleDict({"one": nn.Linear(8, 2), "two": nn.Linear(8, 3)})
    return Forward(lambda m, x: {name: layer(x) for name, layer in m.tasks.items()}, tasks=tasks)


def _again(layer: nn.Module, x: Tensor, depth: int) -> Tensor:
    return x if depth == 0 else _again(layer, layer(x).relu(), depth - 1)


def _written(x: Tensor) -> Tensor:
    x = x.clone()
    half = x[:, :4]
    half *= 2
    x[:, 4:] += 1
    return x


def _filled(x: Tensor) -> Tensor:
    out = x.new_zeros(2, 8)
    for row in range(2):
        out[row] = x[row] * row
    return out


def _kept(x: Tensor, probability: float) -> bool:
    return bool(x.new_empty(1).uniform_(0, 1) >= probability)


def _settled(layer: nn.Module, x: Tensor) -> Tensor:
    for _ in range(3):
        new = layer(x).tanh()
        if (new - x).norm() < 1e-3:
            break
        x = new
    return x


add("autograd function", lambda: two(lambda m, x: m.b(_Exp.apply(m.a(x)))), X)
add("checkpoint", lambda: two(lambda m, x: m.b(checkpoint(m.a, x, use_reentrant=False))), X)
add("shared", lambda: two(lambda m, x: m.b(m.a(m.a(x).relu()))), X)
add("siamese", lambda: two(lambda m, x, y: m.b((m.a(x) - m.a(y)).abs())), (X, X))
add("branch on shape", lambda: two(lambda m, x: m.a(x) if x.shape[1] > 9 else m.b(x)), X)
add("check of values", lambda: two(lambda m, x: m.b(_positive(m.a(x).exp()))), X)
add(
    "dataclasses", lambda: two(lambda m, p: Pair(m.a(p.first), {"b": m.b(p.rest["y"])})), (Pair(X, {"y": X}),)
)
add("plain object", lambda: two(lambda m, x: Plain(m.b(m.a(x)))), X)
add(
    "nested containers", lambda: two(lambda m, d: {"a": (m.a(d["x"][0]), [m.b(d["x"][1])])}), ({"x": [X, X]},)
)
add(
    "list of images",
    lambda: Forward(lambda m, xs: [m.c(x) for x in xs], c=nn.Conv2d(3, 2, 1)),
    [IMAGE, IMAGE[:1]],
)
add(
    "functional",
    lambda: two(lambda m, x: m.b(torch.func.functional_call(m.a, dict(m.a.named_parameters()), x))),
    X,
)
add("vmap", lambda: two(lambda m, x: torch.vmap(m.b)(torch.vmap(m.a)(x))), X)
add("vector input", lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), X[0])
add(
    "item of an input",
    lambda: two(lambda m, x, n: m.b(m.a(x)[:, : int(n.item())]), 8, 8, 3, 2),
    (X, torch.tensor(3)),
)
add("asserted shape", lambda: two(lambda m, x: m.b(_checked(m.a(x)))), X)
add("numbers beside tensors", lambda: two(lambda m, x: (m.b(m.a(x)), 3, 0.5, "name", None)), X)
add("without gradients", lambda: two(lambda m, x: m.b(_frozen(m.a, x))), X)
add("straight through", lambda: two(lambda m, x: m.b(_rounded(m.a(x)))), X)
add("random noise", lambda: two(lambda m, x: m.b(m.a(x) + torch.randn_like(x) * torch.rand(1))), X)
add("chosen by index", lambda: _chosen(lambda m, x: m.layers[len(x) % 2](x)), X)
add("chosen by key", lambda: _keyed(), X)
add("recursion", lambda: two(lambda m, x: m.b(_again(m.a, x, 3))), X)
add("writes in place", lambda: two(lambda m, x: m.b(m.a(x).add_(1).mul_(2).sin())), X)
add("writes through views", lambda: two(lambda m, x: m.b(_written(m.a(x)))), X)
add("filled buffer", lambda: two(lambda m, x: m.b(_filled(m.a(x)))), X)
add("skipped at random", lambda: two(lambda m, x: m.b(m.a(x) if _kept(x, 0.3) else x)), X)
add("loop until it settles", lambda: two(lambda m, x: m.b(_settled(m.a, x))), X)
add(
    "conditional",
    lambda: two(lambda m, x: torch.cond(x.sum() > 0, lambda y: y + 1, lambda y: y - 1, (m.b(m.a(x)),))),
    X,
)
add("optional input", lambda: two(lambda m, x, y=None: m.b(m.a(x) if y is None else m.a(x) + y)), X)
add("keywords only", lambda: two(lambda m, *, x, scale: m.b(m.a(x) * scale)), {"x": X, "scale": X[:, :1]})
add("moved while running", lambda: two(lambda m, x: m.b(m.a(x).to(x.device, torch.float32, True).cpu())), X)
add("gradient inside", lambda: two(lambda m, x: m.b(sum(torch.func.jvp(m.a, (x,), (x,))))), X)


@entry(lambda: X)
def hooks() -> nn.Module:
    model = two(lambda m, x: m.b(m.a(x)), 8, 8, 9, 2)
    model.a.register_forward_hook(lambda module, args, output: torch.cat([output, output[:, :1]], 1))  # type: ignore[union-attr]
    model.b.register_forward_pre_hook(lambda module, args: (args[0] * 2,))  # type: ignore[union-attr]
    return model


@entry(lambda: X)
def running_buffer() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        hidden = m.a(x)
        m.mean.mul_(0.9).add_(hidden.detach().mean(0), alpha=0.1)
        m.count += 1
        return m.b(hidden - m.mean)

    model = two(forward)
    model.register_buffer("mean", torch.zeros(8))
    model.register_buffer("count", torch.tensor(0))
    return model


@entry(lambda: X)
def layer_made_while_running() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        if not hasattr(m, "late"):
            m.late = nn.Linear(8, 8).to(x.device)
        return m.b(m.late(m.a(x)))

    return two(forward)


@entry(lambda: X)
def large_layer_made_while_running() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        late = nn.Linear(8, 1 << 18, bias=False)
        return m.b(late(m.a(x))[:, :8])

    return two(forward)
