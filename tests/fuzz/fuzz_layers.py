"""Layers that a fuzzed model may hold: for each a proposal of arguments that may fit a value."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16, 17, 24, 31)
Proposal = tuple[str, dict[str, Any]]


def size(rng: Random) -> int:
    return rng.choice(SIZES)


def divisor(rng: Random, *numbers: int) -> int:
    return rng.choice([d for d in range(1, min(numbers) + 1) if all(n % d == 0 for n in numbers)])


class Attention(nn.Module):
    """Self-attention written out, with a fused projection and a learned bias of the scores."""

    def __init__(self, dim: int, heads: int, length: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.qkv = nn.Linear(dim, 3 * dim, bias=fused)
        self.scores = nn.Parameter(torch.randn(heads, length, length))
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        split = self.qkv(x).reshape(batch, length, 3, self.heads, dim // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        if self.fused:
            y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.scores)
        else:
            y = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5 + self.scores).softmax(-1) @ v
        return self.out(y.transpose(1, 2).reshape(batch, length, dim))


class ChannelGate(nn.Module):
    """Squeeze-and-excitation over the second axis of a value of any rank."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, squeezed), nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = x.flatten(2).mean(2)
        gate = self.up(self.down(pooled).relu()).sigmoid()
        return x * gate.reshape(*gate.shape, *(1,) * (x.dim() - 2))


class Scale(nn.Module):
    """A learned scale and shift of the last axis, their shapes odd on purpose."""

    def __init__(self, width: int, lead: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn((1,) * lead + (width,)))
        self.shift = nn.ParameterList([nn.Parameter(torch.randn(width)) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift[0] - self.shift[1]


class Mixture(nn.Module):
    """Experts in one stacked tensor, mixed by a gate."""

    def __init__(self, dim: int, experts: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, experts)
        self.weights = nn.ParameterDict({"up": nn.Parameter(torch.randn(experts, dim, dim))})

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gate(x).softmax(-1)
        return torch.einsum("...d,edf,...e->...f", x, self.weights["up"], gates)


class Overlapping(nn.Module):
    """Two parameters that share a part of their memory, beside a buffer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        memory = torch.randn(3 * width)
        self.first, self.second = nn.Parameter(memory[: 2 * width]), nn.Parameter(memory[width:])
        self.register_buffer("mean", torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        width = len(self.mean)
        return (x - self.mean) * self.first[:width] + self.second[width:]


class Unrolled(nn.Module):
    """A recurrent cell called at each position, by a loop."""

    def __init__(self, cell: str, dim: int, hidden: int) -> None:
        super().__init__()
        self.cell = getattr(nn, cell)(dim, hidden)

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for step in x.unbind(1):
            state = self.cell(step, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, dim=1)


OWN = {cls.__name__: cls for cls in (Attention, ChannelGate, Scale, Mixture, Overlapping, Unrolled)}


def build_layer(kind: str, arguments: dict[str, Any]) -> nn.Module:
    return OWN[kind](**arguments) if kind in OWN else getattr(nn, kind)(**arguments)


def conv(rng: Random, x: Tensor) -> Proposal:
    axes = x.dim() - 2
    channels, out = x.shape[1], size(rng)
    groups = divisor(rng, channels, out) if rng.random() < 0.4 else 1
    if rng.random() < 0.15:
        groups, out = channels, channels * rng.choice((1, 2))
    kernel: Any = rng.choice((1, 1, 2, 3, 3, 5, 7))
    if rng.random() < 0.3:
        kernel = tuple(rng.choice((1, 3, 5)) for _ in range(axes))
    arguments = {
        **{"in_channels": channels, "out_channels": out, "kernel_size": kernel, "groups": groups},
        **{"bias": rng.random() < 0.6, "dilation": rng.choice((1, 1, 1, 2, 3))},
        "stride": rng.choice((1, 1, 2, 3)),
        "padding": rng.choice((0, 1, 2, 3)),
    }
    if rng.random() < 0.25:
        return f"ConvTranspose{axes}d", {**arguments, "output_padding": 0}
    if rng.random() < 0.2:
        arguments["padding_mode"] = rng.choice(("reflect", "circular", "replicate"))
    if rng.random() < 0.2:
        arguments |= {"padding": "same", "stride": 1}
    return f"Conv{axes}d", arguments


def channel_norm(rng: Random, x: Tensor) -> Proposal:
    axes, channels = max(1, x.dim() - 2), x.shape[1]
    kind = rng.choice(("BatchNorm", "BatchNorm", "GroupNorm", "InstanceNorm", "PReLU", "LocalResponseNorm"))
    if kind == "GroupNorm":
        return kind, {"num_groups": divisor(rng, channels), "num_channels": channels}
    if kind == "PReLU":
        return kind, {"num_parameters": rng.choice((1, channels))}
    if kind == "LocalResponseNorm":
        return kind, {"size": 2}
    affine = rng.random() < 0.8
    return f"{kind}{axes}d", {
        **{"num_features": channels, "affine": affine},
        "track_running_stats": rng.random() < 0.8,
    }


def last_norm(rng: Random, x: Tensor) -> Proposal:
    shape = tuple(x.shape[-rng.choice((1, 1, 1, min(2, x.dim() - 1))) :])
    kind = rng.choice(("LayerNorm", "LayerNorm", "RMSNorm"))
    return kind, {"normalized_shape": shape, "elementwise_affine": rng.random() < 0.9}


def linear(rng: Random, x: Tensor) -> Proposal:
    if rng.random() < 0.15:
        return "Scale", {"width": x.shape[-1], "lead": rng.randrange(x.dim())}
    if rng.random() < 0.1:
        return "Mixture", {"dim": x.shape[-1], "experts": rng.choice((1, 2, 3))}
    if rng.random() < 0.03:
        return "Overlapping", {"width": x.shape[-1]}
    out = 10 if rng.random() < 0.15 else x.shape[-1] if rng.random() < 0.3 else size(rng)
    return "Linear", {"in_features": x.shape[-1], "out_features": out, "bias": rng.random() < 0.7}


def sequence(rng: Random, x: Tensor) -> Proposal:
    length, dim = x.shape[1:]
    kind = rng.choice(("RNN", "attention", "attention", "block", "cell"))
    if kind == "RNN":
        name = rng.choice(("LSTM", "GRU", "RNN"))
        hidden = size(rng)
        extra = {"proj_size": hidden // 2} if name == "LSTM" and hidden > 3 and rng.random() < 0.3 else {}
        return name, {
            **{"input_size": dim, "hidden_size": hidden, "num_layers": rng.choice((1, 1, 2))},
            **{"bidirectional": rng.random() < 0.3, "batch_first": rng.random() < 0.8},
            **{"bias": rng.random() < 0.8, **extra},
        }
    if kind == "cell":
        return "Unrolled", {
            "cell": rng.choice(("LSTMCell", "GRUCell", "RNNCell")), "dim": dim, "hidden": size(rng),
        }  # fmt: skip
    heads = divisor(rng, dim)
    if kind == "attention":
        return "Attention", {"dim": dim, "heads": heads, "length": length, "fused": rng.random() < 0.5}
    if rng.random() < 0.5:
        return "MultiheadAttention", {"embed_dim": dim, "num_heads": heads, "batch_first": True}
    arguments = {"d_model": dim, "nhead": heads, "dim_feedforward": size(rng), "batch_first": True}
    return "TransformerEncoderLayer", arguments | {"norm_first": rng.random() < 0.5}


def pool(rng: Random, x: Tensor) -> Proposal:
    axes = x.dim() - 2
    kind = rng.choice(("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "Upsample", "LPPool"))
    if kind.startswith("Adaptive"):
        return f"{kind}{axes}d", {"output_size": rng.choice((1, 1, 2, 3))}
    if kind == "Upsample":
        return kind, {"scale_factor": 2}
    if kind == "LPPool":
        return f"LPPool{min(axes, 2)}d", {"norm_type": 2, "kernel_size": 2}
    return f"{kind}{axes}d", {"kernel_size": rng.choice((2, 3)), "stride": rng.choice((1, 2)), "padding": 1}


def gate(rng: Random, x: Tensor) -> Proposal:
    return "ChannelGate", {"channels": x.shape[1], "squeezed": size(rng)}


def embedding(rng: Random, x: Tensor) -> Proposal:
    rows = rng.choice((32, 37, 50))
    if rng.random() < 0.2:
        return "EmbeddingBag", {"num_embeddings": rows, "embedding_dim": size(rng), "mode": "mean"}
    padding = {"padding_idx": 0} if rng.random() < 0.2 else {}
    return "Embedding", {"num_embeddings": rows, "embedding_dim": size(rng), **padding}


def proposals(x: Tensor) -> list[Callable[[Random, Tensor], Proposal]]:
    """What may be called on a value of this rank and dtype."""
    if not x.is_floating_point():
        return [embedding]
    found: list[Callable[[Random, Tensor], Proposal]] = [linear, linear, last_norm] if x.dim() else []
    if 2 <= x.dim() <= 5:
        found.append(channel_norm)
    if 3 <= x.dim() <= 5:
        found += [conv, conv, conv, pool, gate]
    if x.dim() == 3:
        found += [sequence, sequence]
    return found


def decorate(layer: nn.Module, how: str) -> None:
    """Compute the weight of a layer from other tensors, as users do; raises where it does not apply."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if how == "old weight norm":
            nn.utils.weight_norm(layer)
        elif how == "old spectral norm":
            nn.utils.spectral_norm(layer)
        elif how == "pruned":
            prune.random_unstructured(layer, "weight", amount=0.3)
        else:
            getattr(parametrizations, how)(layer)


DECORATIONS = ("weight_norm", "spectral_norm", "orthogonal", "old weight norm", "old spectral norm", "pruned")
