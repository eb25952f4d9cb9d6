"""Architectures of transformers, from small random configurations."""

from __future__ import annotations

from collections.abc import Iterator

from ghn_init.coverage.case import Case

LIBRARIES = ("transformers",)
TARGETS = {"": 95.0}


def cases() -> Iterator[Case]:
    """The cases of this suite."""
    yield from ()
