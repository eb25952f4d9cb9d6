"""Operations of a fuzzed model: wiring, views, in-place writes, control flow, raw parameters."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint


class OddError(Exception):
    """An exception of the user's own, raised by a forward."""


def _raise(x: Tensor, kind: str) -> Tensor:
    raise {"odd": OddError, "key": KeyError, "assert": AssertionError, "stop": StopIteration}[kind]("fuzzed")


def _write_slice(x: Tensor, y: Tensor, half: int) -> Tensor:
    z = x.clone()
    z[..., :half] = y[..., :half]
    z[..., half:] *= 2
    return z


def _in_place(x: Tensor, how: str) -> Tensor:
    z = x.clone()
    view = z.view(-1)
    getattr(view, how)()
    return z


def _branch(x: Tensor, data: bool) -> Tensor:
    if (x.mean() > 0) if data else x.shape[0] > 1:
        return x * 2
    return x - 1


def _loop(x: Tensor, times: int) -> Tensor:
    values = [x]
    while len(values) < times:
        values.append(values[-1] * 0.5 + x)
    return sum(values[1:], values[0])


def _pieces(x: Tensor, how: str, axis: int) -> Tensor:
    if how == "chunk":
        first, *rest = x.chunk(2, axis)
        return first if not rest else torch.cat([rest[0], first], axis)
    if how == "split gate":
        a, b = x.split(x.shape[axis] // 2, axis)
        return a * b.sigmoid()
    if how == "unbind":
        return torch.stack([part.tanh() for part in x.unbind(axis)], axis)
    return x.narrow(axis, 0, (x.shape[axis] + 1) // 2)


def _no_grad(x: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        return (x * 2).float()


OPS: dict[str, Callable[..., Any]] = {
    "activation": lambda x, name: getattr(F, name)(x),
    "scalar": lambda x, a, b: (x * a + b).clamp(-50, 50),
    "soft": lambda x, axis: x.softmax(axis),
    "reduce": lambda x, how, axis, keep: getattr(x, how)(axis, keepdim=keep),
    "max": lambda x, axis: x.max(axis).values,
    "dropout": lambda x: F.dropout(x, 0.5),
    "noise": lambda x: x + torch.randn_like(x) * torch.rand(()),
    "clone": lambda x: x.clone(),
    "transpose": lambda x, a, b: x.transpose(a, b),
    "permute": lambda x, order: x.permute(order),
    "contiguous": lambda x: x.transpose(0, -1).contiguous().transpose(0, -1),
    "flatten": lambda x, axis: x.flatten(axis),
    "reshape": lambda x, shape: x.reshape(shape),
    "unsqueeze": lambda x, axis: x.unsqueeze(axis),
    "squeeze": lambda x: x.squeeze(),
    "flip": lambda x: x.flip(-1).roll(1, 0),
    "step": lambda x: x[..., ::2],
    "pieces": _pieces,
    "in place": _in_place,
    "write slice": _write_slice,
    "iadd": lambda x, y: x.clone().add_(y),
    "add": lambda x, y: x + y,
    "sub": lambda x, y: torch.sub(x, y, alpha=2),
    "mul": lambda x, y: x * y,
    "gate": lambda x, y: x * torch.sigmoid(y),
    "maximum": torch.maximum,
    "where": lambda x, y: torch.where(x > 0, x, y),
    "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "cat": lambda x, y, axis: torch.cat((x, y), axis),
    "stack": lambda x, y, axis: torch.stack([x, y], axis),
    "matmul": lambda x, y: x @ y.transpose(-1, -2),
    "gram": lambda x: torch.einsum("b...i,b...j->b...ij", x, x).flatten(-2),
    "branch": _branch,
    "loop": _loop,
    "raise": _raise,
    "item": lambda x: x * x.abs().max().item(),
    "numpy": lambda x: torch.from_numpy(x.detach().numpy() * 2),
    "topk": lambda x: x.topk(1, -1).values,
    "sort": lambda x: x.sort(-1).values,
    "gather": lambda x: x.gather(-1, x.argsort(-1)),
    "masked": lambda x: x.masked_fill(x < 0, 0.0),
    "fft": lambda x: torch.fft.rfft(x, dim=-1).abs(),
    "pad": lambda x: F.pad(x, (1, 2)),
    "interpolate": lambda x: F.interpolate(x, scale_factor=2),
    "unfold": lambda x: x.unfold(-1, 2, 1).mean(-1),
    "double": lambda x: x.double().mul(2).to(torch.float32),
    "no grad": _no_grad,
    "checkpoint": lambda x: checkpoint(torch.tanh, x, use_reentrant=False),
    "vmap": lambda x: torch.vmap(torch.sin)(x),
    "ints": lambda x: (x.abs() * 7).long() % 7,
    "arange": lambda x: x + torch.arange(x.shape[-1], dtype=x.dtype),
    # With a raw parameter, which comes first.
    "linear": lambda p, x: F.linear(x, p),
    "project": lambda p, x: x @ p,
    "contract": lambda p, x: torch.einsum("...i,io->...o", x, p),
    "shift": lambda p, x: x + p,
    "scale": lambda p, x: x * p,
    "soft scale": lambda p, x: x * F.softplus(p),
    "token": lambda p, x: torch.cat([p.expand(x.shape[0], -1, -1), x], 1),
    "table": lambda p, x: F.embedding(x, p),
    "rows": lambda p, x: p[x],
    "twice": lambda p, x: F.linear(F.linear(x, p), p.t()),
    "normalised": lambda p, x: F.linear(x, F.normalize(p, dim=-1)),
    "half of": lambda p, x: F.linear(x, p[: (p.shape[0] + 1) // 2]),
    "learned power": lambda p, x: x.clamp(min=1e-3) ** p,
}

ACTIVATIONS = (
    "relu",
    "gelu",
    "silu",
    "tanh",
    "sigmoid",
    "leaky_relu",
    "softplus",
    "hardswish",
    "mish",
    "elu",
)
ON_ONE = (
    *("dropout", "noise", "clone", "contiguous", "squeeze", "flip", "step", "gram", "item", "numpy", "topk"),
    *("sort", "gather", "masked", "fft", "pad", "interpolate", "unfold", "double", "no grad", "checkpoint"),
    *("vmap", "ints", "arange"),
)
ON_TWO = ("iadd", "add", "add", "add", "sub", "mul", "gate", "maximum", "where", "lerp", "matmul")
RAISING = 0.01
"""Share of steps that raise an exception of the user's."""


def propose_op(rng: Random, x: Tensor) -> tuple[str, tuple[Any, ...]]:
    """An operation on one value and its further arguments."""
    axis = rng.randrange(x.dim()) if x.dim() else 0
    choice = rng.randrange(16)
    if rng.random() < RAISING:
        return "raise", (rng.choice(("odd", "key", "assert", "stop")),)
    if choice < 4:
        return "activation", (rng.choice(ACTIVATIONS),)
    fixed: dict[int, tuple[str, tuple[Any, ...]]] = {
        4: ("scalar", (0.5, 1.0)),
        5: ("soft", (axis,)),
        6: ("reduce", (rng.choice(("mean", "sum", "amax", "std")), axis, rng.random() < 0.5)),
        7: ("transpose", (axis, x.dim() - 1)),
        8: ("permute", (tuple(rng.sample(range(x.dim()), x.dim())),)),
        9: ("flatten", (rng.choice((0, 1)),)),
        10: ("unsqueeze", (axis,)),
        11: ("pieces", (rng.choice(("chunk", "split gate", "unbind", "narrow")), axis)),
        12: ("in place", (rng.choice(("relu_", "tanh_", "zero_", "neg_")),)),
        13: ("branch", (rng.random() < 0.3,)),
        14: ("loop", (rng.choice((1, 3)),)),
    }
    if choice in fixed:
        return fixed[choice]
    return rng.choice(ON_ONE), ()


def propose_pair(rng: Random, x: Tensor, y: Tensor) -> tuple[str, tuple[Any, ...]]:
    """An operation on two values of one shape, and its further arguments."""
    axis = rng.randrange(x.dim()) if x.dim() else 0
    choice = rng.random()
    if choice < 0.25:
        return "cat", (axis,)
    if choice < 0.3:
        return "stack", (axis,)
    if choice < 0.4:
        return "write slice", (max(1, x.shape[-1] // 2 if x.dim() else 1),)
    return rng.choice(ON_TWO), ()


def propose_raw(rng: Random, x: Tensor, out: int) -> tuple[str, tuple[int, ...]]:
    """An operation with a raw parameter and the parameter's shape."""
    if not x.is_floating_point():
        return rng.choice(("table", "rows")), (40, out)
    width = x.shape[-1]
    if rng.random() < 0.2 and x.dim() == 3:
        return "token", (1, rng.choice((1, 2)), width)
    if rng.random() < 0.4:
        shape = rng.choice([(width,), (1,) * (x.dim() - 1) + (width,), (), tuple(x.shape[1:]), (1,)])
        return rng.choice(("shift", "scale", "soft scale", "learned power")), shape
    name = rng.choice(("linear", "project", "contract", "twice", "normalised", "half of"))
    return name, ((width, out) if name in ("project", "contract") else (out, width))
