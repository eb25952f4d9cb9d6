"""The interface of weight decoders, and their names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig


class Request(NamedTuple):
    """Arguments of :meth:`WeightDecoder.forward`, or those of :meth:`WeightDecoder.class_weight`."""

    x: Tensor
    out: int
    into: int
    kernel: tuple[int, int]
    is_class: bool = False


class WeightDecoder(nn.Module, ABC):
    """Decodes weights of two and more dimensions from node embeddings."""

    @abstractmethod
    def __init__(self, config: GHNConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, out: int, into: int, kernel: tuple[int, int]) -> Tensor:
        """Decode convolution kernels.

        Args:
            x: ``(n, hid)`` embeddings.
            out: Output channels, at most ``max_shape[0]``.
            into: Input channels, at most ``max_shape[1]``.
            kernel: ``(kh, kw)``, of any size.

        Returns:
            ``(n, out, into, kh, kw)``; what a wider call would give, cut to the wanted channels.
        """

    def decode_many(self, requests: Sequence[Request]) -> list[Tensor]:
        """What :meth:`forward` or :meth:`class_weight` gives for each request.

        A decoder may share work between requests; the bits of a result may depend on the others.
        """
        return [
            self.class_weight(request.x, request.into)
            if request.is_class
            else self(request.x, request.out, request.into, request.kernel)
            for request in requests
        ]

    @abstractmethod
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Layers that yield weights: a new GHN with a deep encoder starts with small ones."""

    @abstractmethod
    def class_weight(self, x: Tensor, into: int) -> Tensor:
        """``(n, num_classes, into, 1, 1)`` weights of class layers with at most ``max_shape[1]`` inputs."""


DECODERS: dict[str, type[WeightDecoder]] = {}
"""Name in :attr:`GHNConfig.decoder` → class."""


def register_decoder(name: str) -> Callable[[type[WeightDecoder]], type[WeightDecoder]]:
    """Class decorator that makes a decoder available to ``GHNConfig(decoder=name)``."""

    def register(cls: type[WeightDecoder]) -> type[WeightDecoder]:
        DECODERS[name] = cls
        return cls

    return register
