"""What a training run is: everything that decides its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ghn_init.errors import ConfigError

CELLS_ONLY: dict[str, float] = {"cells": 1.0}
MIXED: dict[str, float] = {
    "cells": 4.0, "resnet": 2.0, "mobile": 1.5, "regnet": 1.0, "convnext": 0.5, "vit": 0.5, "mixer": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        ghn: Fields of :class:`ghn_init.GHNConfig`.
        families: Family of architectures → relative frequency.
        pool: Number of different architectures; None draws a new one at each step (each is traced anew).
        pool_start: Number of architectures of the pool that the first updates draw from.
        pool_growth: Architectures that join them at each update, until the whole pool is in use: a GHN leaves
            chance sooner on few architectures.
        steps: Updates of the GHN.
        meta_batch: Architectures for each update.
        batch_size: Images for each step of a target network.
        inner_steps: Gradient steps on a target network for each prediction.
        inner_lr: Their step size.
        lr: Peak learning rate of Adam.
        warmup: Steps over which the learning rate rises linearly.
        final_lr: Learning rate at the last step, as a share of ``lr`` (cosine in between).
        weight_decay: L2 penalty on the GHN's weights.
        clip: Largest norm of the GHN's gradient.
        norm_penalty: Weight of the sum of the norms of all predicted tensors in the objective, the
            predicted-parameter regularisation of GHN-3 (which has 3e-5); 0 = off.
        ema: Decay of the moving average of the GHN's weights that is saved and evaluated; 0 = off.
        data: Training images by name; see :func:`ghn_init.training.datasets.load_images`.
        image_size: Side of the images in pixels.
        small_size: Side of the images of the first updates, which are cheaper so.
        small_share: Share of the updates on small images.
        seed: Of the GHN's initial weights, the architectures and the order of the images.
        checkpoint_every: Updates between checkpoints.

    Raises:
        ConfigError: A number is out of range.
    """

    ghn: Mapping[str, Any] = field(default_factory=dict)
    families: Mapping[str, float] = field(default_factory=lambda: dict(MIXED))
    pool: int | None = 600
    pool_start: int = 8
    pool_growth: float = 0.2
    steps: int = 3000
    meta_batch: int = 1
    batch_size: int = 64
    inner_steps: int = 4
    inner_lr: float = 0.02
    lr: float = 1e-3
    warmup: int = 100
    final_lr: float = 0.02
    weight_decay: float = 1e-5
    clip: float = 5.0
    norm_penalty: float = 0.0
    ema: float = 0.99
    data: str = "fashion-mnist"
    image_size: int = 32
    small_size: int = 16
    small_share: float = 0.0
    seed: int = 0
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        positive = (
            "steps",
            "meta_batch",
            "batch_size",
            "inner_steps",
            "lr",
            "clip",
            "image_size",
            "small_size",
            "checkpoint_every",
        )
        for name in positive:
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)!r}")
        for name in ("pool_growth", "inner_lr", "warmup", "final_lr", "weight_decay", "norm_penalty"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)!r}")
        if not 0 <= self.small_share <= 1:
            raise ConfigError(f"small_share must be in [0, 1], got {self.small_share!r}")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must be in [0, 1), got {self.ema!r}")
        if self.pool is not None and self.pool < self.meta_batch:
            raise ConfigError(f"a pool of {self.pool} is smaller than the meta-batch of {self.meta_batch}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_dict`; missing fields take their defaults.

        Raises:
            ConfigError: A key is unknown.
        """
        known = {entry.name for entry in fields(cls)}
        if unknown := sorted(set(data) - known):
            raise ConfigError(f"unknown keys {unknown} in the training configuration; known: {sorted(known)}")
        return cls(**data)
