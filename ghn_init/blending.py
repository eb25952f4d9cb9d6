"""From a prediction to an initialisation: scale, base and noise of what is written into a model.

A bare prediction is made to be used as it is; training that starts from it may want something else. Each of
the steps here is off unless :class:`Blend` asks for it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ghn_init.errors import ConfigError
from ghn_init.graph import ArchGraph

Base = Literal["own", "kaiming"]
Vectors = Literal["blend", "predict", "keep"]
BaseOf = Callable[[str], Tensor]

_WEIGHTS = frozenset({"conv", "sep_conv", "dil_conv"})
_NORMS = frozenset({"bn", "ln"})


@dataclass(frozen=True)
class Blend:
    """What :func:`ghn_init.apply` makes of a prediction before it writes it.

    A weight of two or more dimensions becomes ``sqrt(1 - share^2) * base + share * prediction``, which keeps
    the variance of independent parts. Before that come, in this order, orthogonal, noise, scale.

    Attributes:
        share: Of the prediction, 0 to 1; 0 writes exactly the base, 1 exactly the prediction.
        base: ``own`` (the values that the model has) or ``kaiming`` (a normal draw of variance 2 / fan-in,
            seeded by the tensor's name and the seed of ``apply``; vectors: 1 for norm weights, 0 for biases).
        scale: Scales a predicted weight's root mean square to this multiple of Kaiming's before the share is
            taken, where a norm follows, which takes the scale away again: the network computes the same, but
            the same learning rate turns its weights more slowly. None leaves it as predicted.
        vectors: Norm weights and biases: ``blend`` (``(1 - share) * base + share * prediction``),
            ``predict`` or ``keep``.
        orthogonal: Replaces each predicted weight, as a matrix ``(out, in * kh * kw)``, by the nearest one
            with orthonormal rows or columns, of the same norm (the re-initialisation of Knyazev et al. 2023).
        noise: Standard deviation of normal noise on predicted weights, relative to each root mean square.

    Raises:
        ConfigError: A value is out of range.
    """

    share: float = 1.0
    base: Base = "own"
    scale: float | None = None
    vectors: Vectors = "blend"
    orthogonal: bool = False
    noise: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ConfigError(f"blend: the share of the prediction is 0 to 1, got {self.share!r}")
        if self.base not in get_args(Base) or self.vectors not in get_args(Vectors):
            raise ConfigError(
                f"blend: base is one of {get_args(Base)} and vectors one of {get_args(Vectors)}, got "
                f"{self.base!r} and {self.vectors!r}"
            )
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ConfigError(f"blend: noise must be a number of at least 0, got {self.noise!r}")
        if self.scale is not None and not (self.scale > 0 and math.isfinite(self.scale)):
            raise ConfigError(f"blend: scale must be positive, got {self.scale!r}")

    @property
    def is_bare(self) -> bool:
        """Whether predictions are written as they are."""
        return self == Blend() or self == Blend(base="kaiming")

    @classmethod
    def of(cls, value: float | Blend) -> Blend:
        """A blend as it is; a number as the share of a blend with the model's own values."""
        return value if isinstance(value, Blend) else cls(share=float(value))


def blended(
    groups: Iterable[Mapping[str, Tensor]], blend: Blend, graph: ArchGraph, own: BaseOf, seed: int
) -> Iterator[dict[str, Tensor]]:
    """Groups of predicted tensors as groups of what is to be written.

    Args:
        groups: Mappings of tensor name → prediction.
        blend: What to make of them.
        graph: The graph that they were predicted from.
        own: Name → the tensor that the model has now, of the same shape.
        seed: Of noise and of the Kaiming draws.
    """
    if blend.is_bare:
        yield from map(dict, groups)
        return
    free = scale_free(graph)
    for group in groups:
        yield {name: _blended(name, value, blend, graph, free, own, seed) for name, value in group.items()}


def _blended(
    name: str, predicted: Tensor, blend: Blend, graph: ArchGraph, free: frozenset[str], own: BaseOf, seed: int
) -> Tensor:
    if blend.share == 0:
        return _base(name, predicted, blend, graph, own, seed)
    node = graph.nodes[graph.slots[name]]
    if node.primitive not in _WEIGHTS or predicted.dim() < 2:
        share = {"blend": blend.share, "predict": 1.0, "keep": 0.0}[blend.vectors]
        if share == 1:
            return predicted
        if share == 0:
            return _base(name, predicted, blend, graph, own, seed)
        return (1 - share) * _base(name, predicted, blend, graph, own, seed) + share * predicted
    value = _orthogonal(predicted) if blend.orthogonal else predicted
    if blend.noise:
        drawn = torch.randn(value.shape, generator=_generator(name, seed, "noise")).to(value)
        value = value + blend.noise * _rms(value) * drawn
    if blend.scale is not None and name in free:
        value = value * (blend.scale * _kaiming_std(predicted.shape) / _rms(value).clamp_min(1e-12))
    if blend.share == 1:
        return value
    base = _base(name, predicted, blend, graph, own, seed)
    return (1 - blend.share**2) ** 0.5 * base + blend.share * value


def _base(name: str, like: Tensor, blend: Blend, graph: ArchGraph, own: BaseOf, seed: int) -> Tensor:
    if blend.base == "own":
        found = own(name)
        return found if blend.share == 0 else found.to(like)
    node = graph.nodes[graph.slots[name]]
    if node.primitive in _WEIGHTS and like.dim() > 1:
        drawn = torch.randn(like.shape, generator=_generator(name, seed, "kaiming"))
        return (drawn * _kaiming_std(like.shape)).to(like)
    slot = next(slot for slot in node.params if slot.name == name)
    if node.primitive in _NORMS and slot.role == "weight":
        return torch.ones_like(like)
    return torch.zeros_like(like) if slot.role == "bias" else own(name).to(like)


def scale_free(graph: ArchGraph) -> frozenset[str]:
    """Weights whose scale the network takes away again.

    All that reads them is a norm; or, of a depthwise convolution, a convolution that is such a weight itself
    (a separable convolution), between which this library's graphs have no operation but an activation.
    """
    after = graph.successors()
    free = [False] * len(graph)
    for index in reversed(range(len(graph))):
        kinds = {graph.nodes[each].primitive for each in after[index]}
        if kinds and kinds <= _NORMS:
            free[index] = True
        elif graph.nodes[index].primitive in ("sep_conv", "dil_conv") and kinds == {"conv"}:
            free[index] = all(free[each] for each in after[index])
    return frozenset(
        slot.name
        for index, node in enumerate(graph.nodes)
        if free[index] and node.primitive in _WEIGHTS
        for slot in node.params
    )


def _orthogonal(weight: Tensor) -> Tensor:
    """The nearest matrix ``(out, rest)`` with orthonormal rows or columns, of the same norm, in its shape."""
    left, _, right = torch.linalg.svd(weight.flatten(1).double(), full_matrices=False)
    nearest = left @ right
    return (nearest * (weight.double().norm() / nearest.norm())).to(weight).reshape(weight.shape)


def _kaiming_std(shape: tuple[int, ...]) -> float:
    return (2 / math.prod(shape[1:])) ** 0.5


def _rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def _generator(name: str, seed: int, purpose: str) -> torch.Generator:
    """A generator of one tensor alone, so that order, threads and ranks play no part."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
