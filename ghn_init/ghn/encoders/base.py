"""The interface of encoders, and their names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.graph.batch import GraphBatch


class Encoder(nn.Module, ABC):
    """Updates node embeddings by what the graphs' edges say.

    Attributes:
        small_outputs: Whether a new GHN starts with small output layers, which keeps deep encoders
            stable in training (Knyazev et al., 2023).
    """

    small_outputs: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, config: GHNConfig) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, x: Tensor, batch: GraphBatch) -> Tensor:
        """Encode.

        Args:
            x: ``(N, hid)`` initial embeddings of all nodes of the batch; not changed.
            batch: The graphs; nodes of different graphs do not influence each other.

        Returns:
            ``(N, hid)`` embeddings.
        """


ENCODERS: dict[str, type[Encoder]] = {}
"""Name in :attr:`GHNConfig.encoder` → class."""


def register_encoder(name: str) -> Callable[[type[Encoder]], type[Encoder]]:
    """Class decorator that makes an encoder available to ``GHNConfig(encoder=name)``."""

    def register(cls: type[Encoder]) -> type[Encoder]:
        ENCODERS[name] = cls
        return cls

    return register
