"""Small modules of many kinds that plain PyTorch offers, each with inputs that its forward takes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn
from torch.utils.checkpoint import checkpoint

ZOO: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {}
X = torch.zeros(2, 8)
SEQUENCE = torch.zeros(2, 5, 8)
IMAGE = torch.zeros(2, 3, 16, 16)
TOKENS = torch.arange(10).view(2, 5)


def entry(inputs: Callable[[], Any]) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Register a builder under its name."""

    def register(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        ZOO[build.__name__] = (build, inputs)
        return build

    return register


def add(name: str, build: Callable[[], nn.Module], inputs: Any) -> None:
    """Register a builder and its inputs."""
    ZOO[name] = (build, lambda: inputs)


class Forward(nn.Module):
    """Modules and parameters by name, and a forward over them."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def weight(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / 4)


def two(function: Callable[..., Any], *sizes: int) -> nn.Module:
    """Two linear layers ``a`` and ``b``."""
    first, second, third, fourth = sizes or (8, 8, 8, 2)
    return Forward(function, a=nn.Linear(first, second), b=nn.Linear(third, fourth))


# Attention and transformers
add("transformer", lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True), (SEQUENCE, SEQUENCE[:, :3]))
add(
    "transformer with keywords",
    lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True, norm_first=True).eval(),
    {"src": SEQUENCE, "tgt": SEQUENCE},
)
add("fast path", lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), SEQUENCE)
add("attention", lambda: nn.MultiheadAttention(8, 2, add_bias_kv=True), (SEQUENCE, SEQUENCE, SEQUENCE))
add(
    "attention of other widths",
    lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4, batch_first=True),
    (SEQUENCE, SEQUENCE[..., :6], SEQUENCE[..., :4]),
)
add(
    "attention without weights",
    lambda: Forward(lambda m, x: m.a(x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(8, 2)),
    SEQUENCE,
)
add(
    "learned queries",
    lambda: Forward(
        lambda m, x: F.scaled_dot_product_attention(m.q.expand(2, -1, -1), m.k(x), m.k(x)),
        q=weight(1, 3, 8),
        k=nn.Linear(8, 8),
    ),
    SEQUENCE,
)

# Recurrence
for _kind in (nn.RNN, nn.LSTM, nn.GRU):
    for _both, _first in ((False, True), (True, False)):
        add(
            f"{_kind.__name__} {_both}",
            lambda k=_kind, b=_both, f=_first: k(8, 6, 2, bidirectional=b, batch_first=f),
            SEQUENCE,
        )
add("projected LSTM", lambda: nn.LSTM(8, 6, proj_size=4, bias=False), SEQUENCE)


@entry(lambda: (TOKENS, torch.tensor([5, 3])))
def packed() -> nn.Module:
    def forward(m: Any, tokens: Tensor, lengths: Tensor) -> Tensor:
        sequence = rnn.pack_padded_sequence(m.e(tokens), lengths, batch_first=True, enforce_sorted=False)
        return m.h(rnn.pad_packed_sequence(m.r(sequence)[0], batch_first=True)[0])

    return Forward(forward, e=nn.Embedding(10, 8), r=nn.LSTM(8, 6, batch_first=True), h=nn.Linear(6, 3))


@entry(lambda: SEQUENCE)
def cells() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        h, c = x.new_zeros(2, 6), x.new_zeros(2, 6)
        for step in x.unbind(1):
            h, c = m.cell(step, (h, c))
        return m.h(h)

    return Forward(forward, cell=nn.LSTMCell(8, 6), h=nn.Linear(6, 3))


# Layers
add("bilinear", lambda: nn.Bilinear(8, 8, 4), (X, X))
add(
    "bags",
    lambda: Forward(lambda m, x, o: m.h(m.e(x, o)), e=nn.EmbeddingBag(10, 4), h=nn.Linear(4, 2)),
    (torch.tensor([1, 2, 4, 5]), torch.tensor([0, 2])),
)
_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_UP = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BN = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_IN = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
for _rank in (1, 2, 3):
    add(
        f"{_rank}-d convolutions",
        lambda r=_rank: nn.Sequential(
            *(_CONV[r](3, 4, 3), _BN[r](4), nn.ReLU(), _CONV[r](4, 4, 2, groups=2, dilation=2)),
            *(_IN[r](4, affine=True), _UP[r](4, 6, 2, stride=2), nn.GroupNorm(2, 6), _UP[r](6, 2, 1)),
        ),
        torch.zeros(2, 3, *(8,) * _rank),
    )
add(
    "images",
    lambda: nn.Sequential(
        *(nn.Conv2d(3, 12, 3), nn.PixelShuffle(2), nn.LocalResponseNorm(2), nn.Conv2d(3, 4, 1)),
        *(nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1), nn.LPPool2d(2, 2)),
    ),
    IMAGE,
)
add("root mean square", lambda: nn.Sequential(nn.Linear(8, 8), nn.RMSNorm(8), nn.PReLU(), nn.Linear(8, 2)), X)
add(
    "weight norm",
    lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 8)), nn.utils.weight_norm(nn.Linear(8, 2))
    ),
    X,
)
add(
    "spectral norm",
    lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(8, 8)), nn.Linear(8, 2)),
    X,
)
add("orthogonal", lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8)), nn.Linear(8, 2)), X)
add(
    "parameter lists",
    lambda: Forward(
        lambda m, x: (x @ m.w[0]).relu() @ m.w[1] + m.d["bias"],
        w=nn.ParameterList([weight(8, 8), weight(8, 3)]),
        d=nn.ParameterDict({"bias": weight(3)}),
    ),
    X,
)
add("einsum", lambda: Forward(lambda m, x: torch.einsum("bld,dh->blh", x, m.w), w=weight(8, 3)), SEQUENCE)
add("addmm", lambda: Forward(lambda m, x: torch.addmm(m.b, x, m.w), w=weight(8, 3), b=weight(3)), X)
add(
    "baddbmm",
    lambda: Forward(lambda m, x: torch.baddbmm(m.b, x, m.w), w=weight(2, 8, 3), b=weight(3)),
    SEQUENCE,
)
add("spectrum", lambda: two(lambda m, x: m.b(torch.fft.irfft(torch.fft.rfft(m.a(x)), n=8))), SEQUENCE)


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
