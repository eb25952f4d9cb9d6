# ruff: noqa: D103 - the name of a module says what it is
"""Layers of ``torch.nn`` and what wraps their weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, rnn

from ghn_init.coverage.suites.plain_entries import IMAGE, SEQUENCE, TOKENS, Entries, Forward, X, two, weight

ENTRIES = Entries()
add, entry = ENTRIES.add, ENTRIES.entry

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
add("gated linear unit", lambda: nn.Sequential(nn.Linear(8, 16), nn.GLU(), nn.Linear(8, 2)), X)
add(
    "depthwise",
    lambda: nn.Sequential(
        nn.Conv2d(3, 3, 3, groups=3), nn.Conv2d(3, 8, 1), nn.ChannelShuffle(2), nn.Conv2d(8, 2, 1)
    ),
    IMAGE,
)
add(
    "patches",
    lambda: Forward(
        lambda m, x: F.fold(m.a(F.unfold(x, 2, stride=2).mT).mT, 16, 2, stride=2), a=nn.Linear(12, 8)
    ),
    IMAGE,
)
add("GRU cell", lambda: Forward(lambda m, x: m.h(m.c(x)), c=nn.GRUCell(8, 6), h=nn.Linear(6, 2)), X)
add("batch norm without weights", lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, affine=False)), X)
add("adaptive softmax", lambda: nn.AdaptiveLogSoftmaxWithLoss(8, 20, [5, 10]), (X, torch.tensor([7, 12])))
add(
    "same padding",
    lambda: nn.Sequential(nn.Conv1d(3, 4, 3, padding="same"), nn.Conv1d(4, 2, 3, padding_mode="reflect")),
    torch.zeros(2, 3, 16),
)
