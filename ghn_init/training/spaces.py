"""Spaces of random architectures: seeded, streamed, endless, with a held-out set that training never sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import count
from random import Random
from typing import Any

from torch import nn

from ghn_init.errors import ConfigError
from ghn_init.training.families import FAMILIES

HELD_OUT_SEED = "held-out"
HELD_OUT_NUMBER = 100
MAX_DRAWS = 2000


@dataclass(frozen=True)
class Architecture:
    """One drawn network: what is needed to build it again.

    Attributes:
        family: Name in :data:`ghn_init.training.families.FAMILIES`.
        args: JSON-able arguments of that family.
    """

    family: str
    args: Mapping[str, Any] = field(hash=False)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of family and arguments; equal for equal architectures."""
        text = json.dumps([self.family, self.args], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def build(self, num_classes: int = 10, image_size: int = 32) -> nn.Module:
        """A freshly initialised module for images ``(B, 3, image_size, image_size)``."""
        return FAMILIES[self.family].build(self.args, num_classes, image_size)


@dataclass(frozen=True)
class Space:
    """A weighted mixture of families, as an endless list of architectures.

    ``space[i]`` depends on ``seed`` and ``i`` alone. An architecture of the held-out set is never drawn.

    Attributes:
        weights: Family → relative frequency.
        seed: Seed of the stream.

    Raises:
        ConfigError: A family is unknown, or no weight is positive.
    """

    weights: Mapping[str, float]
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [name for name in self.weights if name not in FAMILIES]
        if unknown:
            raise ConfigError(f"unknown families {unknown}; known: {', '.join(FAMILIES)}")
        if not any(weight > 0 for weight in self.weights.values()):
            raise ConfigError(f"no family has a positive weight: {dict(self.weights)}")

    def __getitem__(self, index: int) -> Architecture:
        rng = Random(f"{self.seed}/{index}")
        names = [name for name in FAMILIES if self.weights.get(name, 0) > 0]
        family = rng.choices(names, [self.weights[name] for name in names])[0]
        forbidden = {architecture.fingerprint for architecture in _held_out(family)}
        for _ in range(MAX_DRAWS):
            drawn = Architecture(family, FAMILIES[family].sample(rng))
            if drawn.fingerprint not in forbidden:
                return drawn
        raise ConfigError(f"family {family!r}: {MAX_DRAWS} draws in a row are in the held-out set")

    def __iter__(self) -> Iterator[Architecture]:
        return (self[index] for index in count())


def held_out(family: str, number: int = 40) -> list[Architecture]:
    """The first ``number`` architectures of the frozen held-out set of one family, all different.

    Raises:
        ConfigError: The family is unknown, or more than :data:`HELD_OUT_NUMBER` are asked for.
    """
    if family not in FAMILIES:
        raise ConfigError(f"unknown family {family!r}; known: {', '.join(FAMILIES)}")
    if number > HELD_OUT_NUMBER:
        raise ConfigError(f"the held-out set has {HELD_OUT_NUMBER} architectures of a family, not {number}")
    return list(_held_out(family)[:number])


@cache
def _held_out(family: str) -> tuple[Architecture, ...]:
    rng = Random(f"{HELD_OUT_SEED}/{family}")
    found: dict[str, Architecture] = {}
    for _ in range(MAX_DRAWS):
        drawn = Architecture(family, FAMILIES[family].sample(rng))
        found.setdefault(drawn.fingerprint, drawn)
        if len(found) == HELD_OUT_NUMBER:
            return tuple(found.values())
    raise ConfigError(
        f"family {family!r} has too few members: {len(found)} different ones in {MAX_DRAWS} draws"
    )
