# ruff: noqa: D103 - the name of a module says what it is
"""Weights that a forward computes, slices, shares or masks, and tensors of unusual kinds."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.coverage.suites.plain_entries import (
    IMAGE,
    SEQUENCE,
    TOKENS,
    Entries,
    Forward,
    X,
    two,
    weight,
)

ENTRIES = Entries()
add, entry = ENTRIES.add, ENTRIES.entry

# Weights made of weights
add("low rank", lambda: Forward(lambda m, x: F.linear(x, m.a @ m.b), a=weight(4, 2), b=weight(2, 8)), X)
add(
    "masked weight",
    lambda: Forward(lambda m, x: F.linear(x, m.w * torch.ones(8, 8).tril()), w=weight(8, 8)),
    X,
)
add(
    "standardised weight",
    lambda: Forward(lambda m, x: F.conv2d(x, (m.w - m.w.mean()) / (m.w.std() + 1e-5)), w=weight(4, 3, 3, 3)),
    IMAGE,
)
add(
    "tied autoencoder",
    lambda: Forward(lambda m, x: F.linear(F.linear(x, m.w).relu(), m.w.t()), w=weight(4, 8)),
    X,
)
add(
    "slice of a weight",
    lambda: Forward(lambda m, x: F.linear(x, m.w[:4, :8], m.b[:4]), w=weight(6, 10), b=weight(6)),
    X,
)
add(
    "fused projections",
    lambda: Forward(lambda m, x: sum(F.linear(x, part) for part in m.w.chunk(3)), w=weight(12, 8)),
    X,
)
add(
    "joined projections",
    lambda: Forward(lambda m, x: F.linear(x, torch.cat([m.a, m.b])), a=weight(4, 8), b=weight(2, 8)),
    X,
)
add(
    "scaled weight",
    lambda: Forward(lambda m, x: F.linear(x, m.w * m.s[:, None]), w=weight(4, 8), s=weight(4)),
    X,
)
add(
    "hyper-network",
    lambda: Forward(lambda m, x, z: F.linear(x, m.h(z).view(4, 8)) @ m.w, h=nn.Linear(3, 32), w=weight(4, 2)),
    (X, torch.zeros(3, device="cpu")),
)
add(
    "lookup by one-hot", lambda: Forward(lambda m, t: F.one_hot(t, 10).float() @ m.w, w=weight(10, 8)), TOKENS
)
add(
    "functional embedding",
    lambda: Forward(lambda m, t: F.linear(F.embedding(t, m.w), m.w), w=weight(10, 8)),
    TOKENS,
)
add(
    "stacked experts",
    lambda: Forward(lambda m, x: torch.einsum("bi,eio->beo", x, m.w).mean(1), w=weight(3, 8, 4)),
    X,
)
add(
    "ensemble by vmap",
    lambda: Forward(lambda m, x: torch.vmap(F.linear, (None, 0))(x, m.w).mean(0), w=weight(3, 4, 8)),
    X,
)
add(
    "fixed filter",
    lambda: Forward(lambda m, x: m.c(F.conv2d(x, torch.ones(3, 1, 3, 3), groups=3)), c=nn.Conv2d(3, 4, 1)),
    IMAGE,
)


# Sharing
@entry(lambda: X)
def shared_by_attribute() -> nn.Module:
    model = two(lambda m, x: m.b(m.a(x)), 8, 8, 8, 8)
    model.b.weight = model.a.weight  # type: ignore[union-attr]
    return model


@entry(lambda: X)
def shared_module_twice() -> nn.Module:
    model = two(lambda m, x: m.c(m.a(x).relu()), 8, 8, 8, 2)
    model.c = model.a
    model.b = nn.Identity()
    return model


# Normalisation and attention written by hand
add(
    "layer norm by hand",
    lambda: Forward(
        lambda m, x: m.h(
            (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True) + 1e-5).sqrt() * m.g + m.b
        ),
        g=nn.Parameter(torch.ones(8)),
        b=nn.Parameter(torch.zeros(8)),
        h=nn.Linear(8, 4),
    ),
    SEQUENCE,
)
add(
    "rms norm by hand",
    lambda: Forward(
        lambda m, x: m.h(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.g),
        g=nn.Parameter(torch.ones(8)),
        h=nn.Linear(8, 4),
    ),
    SEQUENCE,
)


@entry(lambda: SEQUENCE)
def attention_by_hand() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (part.view(2, 5, 2, 4).transpose(1, 2) for part in m.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-2, -1) / 2
        return m.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(2, 5, 8))

    return Forward(forward, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8))


@entry(lambda: SEQUENCE)
def attention_with_mixed_heads() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        q, k, v = (part.view(2, 5, 2, 4).transpose(1, 2) for part in m.qkv(x).chunk(3, -1))
        scores = torch.einsum("bhij,hg->bgij", q @ k.transpose(-2, -1), m.before)
        weights = torch.einsum("bhij,hg->bgij", scores.softmax(-1), m.after)
        return m.out((weights @ v).transpose(1, 2).reshape(2, 5, 8))

    return Forward(
        forward, qkv=nn.Linear(8, 24), out=nn.Linear(8, 8), before=weight(2, 2), after=weight(2, 2)
    )


@entry(lambda: SEQUENCE)
def slots() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        weights = F.normalize((m.q(m.slots) @ m.k(x).transpose(-2, -1)).softmax(-2), p=1.0, dim=-1)
        return m.o(weights @ m.v(x))

    parts = {name: nn.Linear(8, 8) for name in "qkvo"}
    return Forward(forward, slots=weight(3, 8), **parts)


# Unusual tensors
add(
    "complex weight",
    lambda: Forward(
        lambda m, x: m.h(torch.fft.irfft(torch.fft.rfft(x) * torch.view_as_complex(m.w), n=8)),
        w=weight(5, 2),
        h=nn.Linear(8, 2),
    ),
    SEQUENCE,
)
add(
    "spectral product",
    lambda: Forward(
        lambda m, x: torch.fft.irfft(
            torch.einsum("bci,co->boi", torch.fft.rfft(x), torch.view_as_complex(m.w)), n=8
        ),
        w=weight(5, 4, 2),
    ),
    SEQUENCE,
)
add(
    "sparse product",
    lambda: Forward(lambda m, x: torch.sparse.mm(torch.eye(2).to_sparse(), m.a(x)), a=nn.Linear(8, 4)),
    X,
)


class _Tagged(Tensor):
    """A subclass that sees every operation."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return super().__torch_function__(func, types, args, kwargs or {})


add("tensor subclass", lambda: two(lambda m, x: m.b(m.a(x).as_subclass(_Tagged).relu())), X)
add("half of a model in float64", lambda: two(lambda m, x: m.b(m.a(x).double().exp().float())), X)


class _Named(NamedTuple):
    logits: Tensor
    loss: Tensor | None


add("named tuple with nothing", lambda: two(lambda m, x: _Named(m.b(m.a(x)), None)), X)


@entry(lambda: (TOKENS, TOKENS))
def loss_inside() -> nn.Module:
    def forward(m: Any, tokens: Tensor, labels: Tensor) -> dict[str, Any]:
        logits = m.h(m.e(tokens))
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits, "size": 10}

    return Forward(forward, e=nn.Embedding(10, 8), h=nn.Linear(8, 10))


add(
    "mask of bytes",
    lambda: two(lambda m, x: m.b(torch.where(torch.ones(2, 1, dtype=torch.uint8), m.a(x), x))),
    X,
)
add(
    "parameter as an output",
    lambda: Forward(lambda m, x: (m.a(x), m.s.exp()), a=nn.Linear(8, 2), s=weight(3)),
    X,
)
