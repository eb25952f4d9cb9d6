"""Small modules, one or more for each kind of parameter, that the page on parameters is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

TOKENS = torch.zeros(2, 6, 8)
IMAGE = torch.zeros(2, 8, 8, 8)
SIGNAL = torch.zeros(2, 8, 12)
VIDEO = torch.zeros(2, 8, 4, 6, 6)
WORDS = torch.arange(12).view(2, 6)


@dataclass(frozen=True)
class Kind:
    """One kind of parameter.

    Attributes:
        group: Heading of the table that it is shown in.
        name: What the field calls it.
        build: Makes a module that holds one.
        inputs: What the module's forward takes.
        shown: Names of the parameters of this kind in the module.
        why: The reason for the decision.
    """

    group: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Any
    shown: tuple[str, ...]
    why: str


class Run(nn.Module):
    """Modules and parameters by name, and a forward over them."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args: Any) -> Any:
        return self.function(self, *args)


KINDS: list[Kind] = []


def kind(group: str, name: str, build: Callable[[], nn.Module], inputs: Any, shown: str, why: str) -> None:
    """Add a kind; ``shown`` holds names separated by spaces."""
    KINDS.append(Kind(group, name, build, inputs, tuple(shown.split()), why))


def own(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape) / 4)


def dense(inputs: int = 8, outputs: int = 8) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def attend(scores: Tensor, x: Tensor) -> Tensor:
    return scores.softmax(-1) @ x


def deformable() -> nn.Module:
    from torchvision.ops import DeformConv2d

    return Run(
        lambda m, x: m.conv(x, m.offset(x)),
        conv=DeformConv2d(8, 4, 3, bias=False),
        offset=nn.Conv2d(8, 18, 3, bias=False),
    )


def codebook() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = m.encode(x)
        distances = x.pow(2).sum(-1, keepdim=True) - 2 * x @ m.codes.T + m.codes.pow(2).sum(-1)
        chosen = F.embedding(distances.argmin(-1), m.codes)
        return m.decode(x + (chosen - x).detach())

    return Run(forward, encode=dense(), decode=dense(), codes=own(16, 8))


def grouped() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        rows = x.flatten(0, 1)
        return F.grouped_mm(rows, m.experts, offs=torch.tensor([4, 8, 12], dtype=torch.int32))

    return Run(forward, experts=own(3, 8, 4))


LAYERS = "Layers"
kind(
    LAYERS,
    "linear layer",
    lambda: nn.Linear(8, 4),
    TOKENS,
    "weight bias",
    "A dense weight is one type, whatever it is used for; its bias is a node of its own behind it.",
)
kind(
    LAYERS,
    "Conv1d, Conv2d, Conv3d",
    lambda: nn.Sequential(
        nn.Conv3d(8, 8, 3, bias=False),
        nn.Flatten(2, 3),
        nn.Conv2d(8, 8, 3, bias=False),
        nn.Flatten(2),
        nn.Conv1d(8, 4, 3, bias=False),
    ),
    VIDEO,
    "0.weight 2.weight 4.weight",
    "The kernel of one axis is read as `(k, 1)`; of three, the first two are folded into rows.",
)
kind(
    LAYERS,
    "transposed convolution",
    lambda: nn.ConvTranspose2d(8, 4, 2, bias=False),
    IMAGE,
    "weight",
    "Read in the layout in which PyTorch stores and initialises it, `(in, out, kh, kw)`.",
)
kind(
    LAYERS,
    "grouped and depthwise convolution",
    lambda: nn.Conv2d(8, 8, 3, groups=8, bias=False),
    IMAGE,
    "weight",
    "More than one group; of a transposed convolution too.",
)
kind(
    LAYERS,
    "dilated grouped convolution",
    lambda: nn.Conv1d(8, 8, 3, groups=2, dilation=2, bias=False),
    SIGNAL,
    "weight",
    "As in DeepNets-1M: dilated *and* grouped; a dilated dense convolution is `conv`.",
)
kind(
    LAYERS,
    "deformable convolution",
    deformable,
    IMAGE,
    "conv.weight",
    "The offsets are data; the kernel is dense.",
)
kind(
    LAYERS,
    "bilinear layer",
    lambda: Run(lambda m, x: m.pair(x, x), pair=nn.Bilinear(8, 8, 4)),
    TOKENS,
    "pair.weight pair.bias",
    "One matrix for each output, stacked; the node reads both inputs.",
)
kind(
    LAYERS,
    "weight of an einsum or a matmul",
    lambda: Run(lambda m, x: torch.einsum("bld,dr,rk->blk", x, m.down, m.up), down=own(8, 4), up=own(4, 8)),
    TOKENS,
    "down up",
    "A product of activations with a parameter is a linear layer; several in one are layers in a row.",
)
kind(
    LAYERS,
    "vector in a product",
    lambda: Run(lambda m, x: m.fc(x) @ m.v, fc=dense(), v=own(8)),
    TOKENS,
    "v",
    "A projection onto one direction is no matrix that a GHN decodes, and as a vector it would start near 1.",
)
kind(
    LAYERS,
    "convolution with standardised weights",
    lambda: Run(
        lambda m, x: F.conv2d(
            x, F.batch_norm(m.w.reshape(1, 4, -1), None, None, m.gain, training=True).view_as(m.w)
        ),
        w=own(4, 8, 3, 3),
        gain=own(4),
    ),
    IMAGE,
    "w gain",
    "The standardised tensor is the weight; its gain starts at a value that the architecture chose.",
)
kind(
    LAYERS,
    "spline basis (KAN)",
    lambda: Run(
        lambda m, x: F.linear(
            torch.stack([x.relu() ** p for p in range(3)], -1).flatten(-2), m.spline.flatten(1)
        ),
        spline=own(4, 8, 3),
    ),
    TOKENS,
    "spline",
    "A linear layer on the values of the basis functions.",
)

NORMS = "Norms"
kind(
    NORMS,
    "BatchNorm1d, 2d, 3d, SyncBatchNorm",
    lambda: nn.Sequential(
        nn.BatchNorm3d(8),
        nn.Flatten(2, 3),
        nn.BatchNorm2d(8),
        nn.Flatten(2),
        nn.BatchNorm1d(8),
        nn.SyncBatchNorm(8),
    ),
    VIDEO,
    "0.weight 0.bias 2.weight 4.weight 5.weight 5.bias",
    "One node with two slots. Running statistics are buffers and are not predicted.",
)
kind(
    NORMS,
    "LayerNorm, GroupNorm, InstanceNorm, RMSNorm",
    lambda: nn.Sequential(
        nn.LayerNorm(12), nn.GroupNorm(2, 8), nn.InstanceNorm1d(8, affine=True), nn.RMSNorm(12)
    ),
    SIGNAL,
    "0.weight 0.bias 1.weight 2.weight 3.weight",
    "Statistics of one example.",
)
kind(
    NORMS,
    "norm written by hand",
    lambda: Run(lambda m, x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * m.w, w=own(8)),
    TOKENS,
    "w",
    "Division by a root of a statistic, then an element-wise weight: the same operation.",
)
kind(
    NORMS,
    "weight used as `1 + w` (Gemma)",
    lambda: Run(lambda m, x: F.rms_norm(x, (8,), 1 + m.w), w=own(8)),
    TOKENS,
    "w",
    "It starts at zero; a GHN decodes weights near 1, which would double every norm. The node stays.",
)
kind(
    NORMS,
    "weight applied behind a norm without one",
    lambda: Run(lambda m, x: F.rms_norm(x, (8,)) * m.w + m.b, w=own(8), b=own(8)),
    TOKENS,
    "w b",
    "The same operation as a norm with a weight.",
)
kind(
    NORMS,
    "global response norm",
    lambda: Run(
        lambda m, x: (
            x + m.w * (x * (x.norm(dim=1, keepdim=True) / x.norm(dim=1, keepdim=True).mean(-1, True))) + m.b
        ),
        w=own(8),
        b=own(8),
    ),
    TOKENS,
    "w b",
    "Normalised activations times a weight.",
)
kind(
    NORMS,
    "affine module (ResMLP)",
    lambda: Run(
        lambda m, x: torch.addcmul(m.beta, m.alpha, m.fc(x)), fc=nn.Linear(8, 8), alpha=own(8), beta=own(8)
    ),
    TOKENS,
    "alpha beta",
    "It has no statistics, hence its gain is a scale, which is kept, and its shift is a plain bias.",
)

TABLES = "Embeddings and tokens"
kind(
    TABLES,
    "token, position and type embedding",
    lambda: Run(
        lambda m, w: m.words(w) + m.places(torch.arange(6)),
        words=nn.Embedding(12, 8),
        places=nn.Embedding(6, 8),
    ),
    WORDS,
    "words.weight places.weight",
    "A lookup in a table. One of more rows than the GHN decodes is kept, for tiling would repeat vectors.",
)
kind(TABLES, "embedding bag", lambda: nn.EmbeddingBag(12, 8), WORDS, "weight", "A lookup and a sum.")
kind(
    TABLES,
    "position embedding added to activations",
    lambda: Run(lambda m, x: m.fc(x) + m.place, fc=dense(), place=own(1, 6, 8)),
    TOKENS,
    "place",
    "One vector for each position.",
)
kind(
    TABLES,
    "class, register and distillation tokens",
    lambda: Run(
        lambda m, x: torch.cat([m.cls.expand(2, 1, 8), m.reg.expand(2, 4, 8), m.fc(x)], 1),
        fc=dense(),
        cls=own(1, 1, 8),
        reg=own(1, 4, 8),
    ),
    TOKENS,
    "cls reg",
    "No published GHN decodes a token: the original code puts a random vector there, as most models do.",
)
kind(
    TABLES,
    "mask token",
    lambda: Run(lambda m, x: torch.where(x[..., :1] > 0, m.token, m.fc(x)), fc=dense(), token=own(1, 1, 8)),
    TOKENS,
    "token",
    "It stands in for activations, as a class token does.",
)
kind(
    TABLES,
    "learned queries (DETR), latents (Perceiver)",
    lambda: Run(
        lambda m, x: F.scaled_dot_product_attention(m.q(m.queries).expand(2, 5, 8), m.k(x), m.k(x)),
        q=dense(),
        k=dense(),
        queries=own(5, 8),
    ),
    TOKENS,
    "queries",
    "A table whose rows are activations: a source of the graph.",
)
kind(
    TABLES,
    "codebook (VQ)",
    codebook,
    TOKENS,
    "codes",
    "Its rows are looked up; distances to them only choose.",
)
kind(
    TABLES,
    "quantile table",
    lambda: Run(lambda m, x: (m.fc(x) > m.quantiles).sum(-1), fc=dense(), quantiles=own(8)),
    TOKENS,
    "quantiles fc.weight",
    "Only comparisons read it, so that no value flows from it to an output.",
)

ATTENTION = "Attention"
kind(
    ATTENTION,
    "projections of queries, keys and values",
    lambda: Run(
        lambda m, x: m.attention(x, x, x, need_weights=False)[0],
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    TOKENS,
    "attention.in_proj_weight attention.in_proj_bias attention.out_proj.weight",
    "Linear layers. The attention itself is `msa`, and has no parameter.",
)
kind(
    ATTENTION,
    "table of relative positions (Swin, BEiT)",
    lambda: Run(
        lambda m, x: attend(m.q(x) @ x.mT + m.table[torch.arange(36) % 11].view(6, 6), x),
        q=dense(),
        table=own(11),
    ),
    TOKENS,
    "table",
    "A term of the scores that starts at about zero by design; no published GHN has seen one.",
)
kind(
    ATTENTION,
    "buckets of relative positions (T5)",
    lambda: Run(
        lambda m, x: attend(m.q(x) @ x.mT + m.table(torch.arange(36).view(6, 6) % 4)[..., 0], x),
        q=dense(),
        table=nn.Embedding(4, 1),
    ),
    TOKENS,
    "table.weight",
    "The same, though looked up as an embedding.",
)
kind(
    ATTENTION,
    "sinks",
    lambda: Run(
        lambda m, x: torch.cat([m.q(x) @ x.mT, m.sinks.expand(2, 6, 1)], -1).softmax(-1)[..., :-1] @ x,
        q=dense(),
        sinks=own(1),
    ),
    TOKENS,
    "sinks",
    "A score of no key.",
)
kind(
    ATTENTION,
    "talking heads",
    lambda: Run(
        lambda m, x: (
            m.mix((x[:, None] @ x[:, None].mT).expand(2, 2, 6, 6).permute(0, 2, 3, 1))
            .softmax(2)
            .permute(0, 3, 1, 2)
            @ x[:, None]
        ),
        mix=nn.Linear(2, 2),
    ),
    TOKENS,
    "mix.weight mix.bias",
    "A linear layer over the heads.",
)
kind(
    ATTENTION,
    "logit scale, temperature",
    lambda: Run(
        lambda m, x: attend((F.normalize(m.q(x), dim=-1) @ F.normalize(x, dim=-1).mT) * m.scale.exp(), x),
        q=dense(),
        scale=own(1, 1),
    ),
    TOKENS,
    "scale",
    "It starts at a value chosen for the softmax.",
)
kind(
    ATTENTION,
    "rotary frequencies",
    lambda: Run(
        lambda m, x: m.q(x) * (torch.arange(6.0)[:, None] * m.frequencies).cos(),
        q=dense(),
        frequencies=own(8),
    ),
    TOKENS,
    "frequencies",
    "They start as a geometric series, which is what they are for.",
)

SCALES = "Scales and gates"
kind(
    SCALES,
    "layer scale",
    lambda: Run(lambda m, x: x + m.gamma * m.fc(x), fc=nn.Linear(8, 8), gamma=own(8)),
    TOKENS,
    "gamma",
    "Starts near zero (1e-5) or at 1, so that a block begins as meant: a prediction would undo it.",
)
kind(
    SCALES,
    "zero-initialised gate (ReZero, Flamingo)",
    lambda: Run(
        lambda m, x: x + m.alpha.tanh() * m.fc(x), fc=nn.Linear(8, 8), alpha=nn.Parameter(torch.zeros(1))
    ),
    TOKENS,
    "alpha",
    "The same.",
)
kind(
    SCALES,
    "mix coefficient",
    lambda: Run(
        lambda m, x: m.a(x) * m.mix.sigmoid() + m.b(x) * (1 - m.mix.sigmoid()),
        a=dense(),
        b=dense(),
        mix=own(8),
    ),
    TOKENS,
    "mix",
    "The same.",
)
kind(
    SCALES,
    "gate computed from activations",
    lambda: Run(lambda m, x: m.up(x) * m.gate(x).sigmoid(), up=dense(), gate=dense()),
    TOKENS,
    "up.weight gate.weight",
    "Its layers are layers; the product is `cse`.",
)
kind(
    SCALES,
    "slopes (PReLU)",
    lambda: nn.Sequential(dense(), nn.PReLU()),
    TOKENS,
    "1.weight",
    "It starts at a chosen slope (0.25); no published GHN has seen one.",
)
kind(
    SCALES,
    "single number added",
    lambda: Run(lambda m, x: m.fc(x) + m.shift, fc=dense(), shift=own(1)),
    TOKENS,
    "shift",
    "A vector of one element carries no shape that a GHN could read.",
)

SEQUENCES = "Recurrence and state spaces"
kind(
    SEQUENCES,
    "LSTM, GRU, RNN",
    lambda: Run(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(8, 4, proj_size=2)),
    TOKENS,
    "rnn.weight_ih_l0 rnn.bias_ih_l0 rnn.weight_hh_l0 rnn.bias_hh_l0 rnn.weight_hr_l0",
    "A linear layer for each weight: input, recurrent, projection.",
)
kind(
    SEQUENCES,
    "Mamba: decay `A_log`, skip `D`",
    lambda: Run(
        lambda m, x: torch.exp(-m.A_log.exp() * F.softplus(m.dt(x))) * x + m.D * x,
        dt=nn.Linear(8, 8),
        A_log=own(8),
        D=own(8),
    ),
    TOKENS,
    "A_log D",
    "They start at values that set the memory of the recurrence.",
)
kind(
    SEQUENCES,
    "Mamba: step size, convolution",
    lambda: Run(
        lambda m, x: F.softplus(m.dt(m.conv(x.mT).mT)),
        conv=nn.Conv1d(8, 8, 3, groups=8, padding=1),
        dt=nn.Linear(8, 8),
    ),
    TOKENS,
    "conv.weight dt.weight dt.bias",
    "Layers like others. Some authors choose the start of the step size's bias: leave it out by `only=`.",
)
kind(
    SEQUENCES,
    "RWKV: decay, mix of tokens",
    lambda: Run(
        lambda m, x: m.k(x * m.mix + x.roll(1, 1) * (1 - m.mix)) * torch.exp(-torch.exp(m.decay)),
        k=dense(),
        mix=own(8),
        decay=own(8),
    ),
    TOKENS,
    "mix decay",
    "Scales.",
)

EXPERTS = "Experts"
kind(
    EXPERTS,
    "experts stacked in one tensor",
    lambda: Run(
        lambda m, x: torch.bmm(x.flatten(0, 1).expand(3, -1, -1), m.experts) + m.shifts[:, None],
        experts=own(3, 8, 4),
        shifts=own(3, 4),
    ),
    TOKENS,
    "experts shifts",
    "One node; each expert is decoded at a position of its own.",
)
kind(EXPERTS, "experts in a grouped product", grouped, TOKENS, "experts", "The same.")
kind(
    EXPERTS,
    "experts as modules, and their router",
    lambda: Run(
        lambda m, x: sum(e(x) * m.route(x).softmax(-1)[..., i : i + 1] for i, e in enumerate(m.experts)),
        route=dense(8, 2),
        experts=nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)]),
    ),
    TOKENS,
    "route.weight experts.0.weight experts.1.bias",
    "Linear layers.",
)

COMPUTED = "Weights computed from parameters"
kind(
    COMPUTED,
    "parametrised weight (weight, spectral, orthogonal norm)",
    lambda: nn.Sequential(
        parametrizations.weight_norm(dense()),
        parametrizations.spectral_norm(dense()),
        parametrizations.orthogonal(dense()),
    ),
    TOKENS,
    " ".join(
        f"{i}.parametrizations.weight.original{end}" for i, end in ((0, "0"), (0, "1"), (1, ""), (2, ""))
    ),
    "The tensor that the layer uses is predicted, and what it is computed from is set accordingly.",
)
kind(
    COMPUTED,
    "low-rank weight `A @ B`",
    lambda: Run(lambda m, x: F.linear(x, m.a @ m.b), a=own(8, 2), b=own(2, 8)),
    TOKENS,
    "a b",
    "The same as two layers in a row.",
)
kind(
    COMPUTED,
    "low-rank term beside a weight (LoRA)",
    lambda: Run(lambda m, x: F.linear(x, m.w + m.a @ m.b), w=own(8, 8), a=own(8, 2), b=own(2, 8)),
    TOKENS,
    "w a b",
    "The weight is predicted; the term starts at zero by design and is kept.",
)
kind(
    COMPUTED,
    "weight with a mask or a gain",
    lambda: Run(lambda m, x: F.linear(x, m.w * m.gain.sigmoid()), w=own(8, 8), gain=own(8, 1)),
    TOKENS,
    "w gain",
    "The largest parameter is the weight; the others shape it and keep their start.",
)
kind(
    COMPUTED,
    "filter in the frequency domain (GFNet)",
    lambda: Run(
        lambda m, x: torch.fft.irfft(
            torch.fft.rfft(m.fc(x), dim=1) * torch.view_as_complex(m.filter), n=6, dim=1
        ),
        fc=dense(),
        filter=own(4, 8, 2),
    ),
    TOKENS,
    "filter",
    "An element-wise scale of frequencies.",
)
kind(
    COMPUTED,
    "complex parameter (FNO)",
    lambda: Run(
        lambda m, x: torch.fft.irfft(
            torch.einsum("bld,de->ble", torch.fft.rfft(m.fc(x), dim=1), m.w), n=6, dim=1
        ),
        fc=dense(),
        w=nn.Parameter(torch.randn(8, 8, dtype=torch.complex64)),
    ),
    TOKENS,
    "w",
    "A layer like others, but a GHN's values are real.",
)
