# ruff: noqa: D103 - the name of a module says what it is
"""Small architectures of many kinds."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.coverage.suites.plain_entries import IMAGE, SEQUENCE, Entries, Forward, X, two

ENTRIES = Entries()
add, entry = ENTRIES.add, ENTRIES.entry


# Architectures
@entry(lambda: (IMAGE, torch.tensor([1, 5])))
def diffusion_unet() -> nn.Module:
    def forward(m: Any, x: Tensor, step: Tensor) -> Tensor:
        angle = step.float()[:, None] * torch.exp(-math.log(1e4) * torch.arange(4) / 4)
        shift = m.time(torch.cat([angle.sin(), angle.cos()], -1))[:, :, None, None]
        skip = m.stem(x)
        low = m.down(F.silu(skip)) + shift
        tokens = low.flatten(2).transpose(1, 2)
        mixed = (tokens + m.mix(tokens, tokens, tokens, need_weights=False)[0]).transpose(1, 2)
        return m.out(torch.cat([m.up(mixed.reshape(low.shape)), skip], 1))

    return Forward(
        forward,
        time=nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8)),
        stem=nn.Conv2d(3, 8, 3, padding=1),
        down=nn.Conv2d(8, 8, 3, stride=2, padding=1),
        mix=nn.MultiheadAttention(8, 2, batch_first=True),
        up=nn.ConvTranspose2d(8, 8, 2, stride=2),
        out=nn.Conv2d(16, 3, 3, padding=1),
    )


@entry(lambda: (torch.zeros(6, 8), torch.arange(12).view(2, 6) % 6))
def graph_network() -> nn.Module:
    def forward(m: Any, x: Tensor, edges: Tensor) -> Tensor:
        h, (source, target) = m.a(x), edges
        message = m.message(torch.cat([h[source], h[target]], -1)).relu()
        summed = torch.zeros_like(h).index_add_(0, target, message)
        degree = torch.zeros(len(x)).scatter_add_(0, target, torch.ones(len(target))).clamp(min=1)
        return m.b(h + summed / degree[:, None])

    return Forward(forward, a=nn.Linear(8, 8), message=nn.Linear(16, 8), b=nn.Linear(8, 2))


@entry(lambda: X)
def variational() -> nn.Module:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        normal = torch.distributions.Normal(m.mean(x), F.softplus(m.scale(x)))
        return m.decode(normal.rsample()), normal.scale

    return Forward(forward, mean=nn.Linear(8, 4), scale=nn.Linear(8, 4), decode=nn.Linear(4, 8))


@entry(lambda: torch.zeros(10, 8))
def experts() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        weights, chosen = m.gate(x).softmax(-1).topk(2, -1)
        out = torch.zeros_like(x)
        for index, expert in enumerate(m.experts):
            rows, slots = torch.where(chosen == index)
            if rows.numel():
                out.index_add_(0, rows, expert(x[rows]) * weights[rows, slots][:, None])
        return out

    return Forward(forward, gate=nn.Linear(8, 2), experts=nn.ModuleList(nn.Linear(8, 8) for _ in range(2)))


add("deep sets", lambda: two(lambda m, x: m.b(m.a(x).relu().sum(1))), SEQUENCE)
add("positions", lambda: two(lambda m, x: m.b(torch.cat([m.a(x).sin(), m.a(x).cos()], -1)), 8, 8, 16, 3), X)
add("unique values", lambda: two(lambda m, x: m.b(m.a(x)[torch.unique((m.a(x) > 0).long())])), X)
add(
    "gated dilated",
    lambda: Forward(
        lambda m, x: m.o(m.f(x).tanh() * m.g(x).sigmoid()),
        f=nn.Conv1d(3, 4, 2, dilation=2),
        g=nn.Conv1d(3, 4, 2, dilation=2),
        o=nn.Conv1d(4, 2, 1),
    ),
    torch.zeros(2, 3, 16),
)


@entry(lambda: IMAGE)
def spatial_transformer() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        theta = m.where(m.look(x).mean((2, 3))).view(-1, 2, 3)
        return m.classify(F.grid_sample(x, F.affine_grid(theta, list(x.shape), False), align_corners=False))

    return Forward(forward, look=nn.Conv2d(3, 4, 3), where=nn.Linear(4, 6), classify=nn.Conv2d(3, 2, 3))


@entry(lambda: SEQUENCE)
def quantised_codes() -> nn.Module:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        z = m.encode(x)
        chosen = torch.cdist(z, m.codes.weight.expand(2, -1, -1)).argmin(-1)
        codes = m.codes(chosen)
        return m.decode(z + (codes - z).detach()), (codes - z.detach()).square().mean()

    return Forward(forward, encode=nn.Linear(8, 4), codes=nn.Embedding(6, 4), decode=nn.Linear(4, 8))


@entry(lambda: IMAGE)
def gated_channels() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.c(x)
        return m.o(x * m.up(m.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid())

    return Forward(
        forward, c=nn.Conv2d(3, 8, 3), down=nn.Conv2d(8, 2, 1), up=nn.Conv2d(2, 8, 1), o=nn.Conv2d(8, 2, 1)
    )


@entry(lambda: X)
def coupling_flow() -> nn.Module:
    def forward(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = x.chunk(2, -1)
        scale, shift = m.net(first).chunk(2, -1)
        return torch.cat([first, second * scale.tanh().exp() + shift], -1), scale.sum(-1)

    return Forward(forward, net=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8)))
