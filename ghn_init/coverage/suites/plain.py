"""What plain PyTorch offers: modules and idioms, one small model each."""

from __future__ import annotations

from collections.abc import Iterator

from ghn_init.coverage.case import Case

LIBRARIES = ()
TARGETS = {"": 100.0}


def cases() -> Iterator[Case]:
    """The cases of this suite."""
    yield from ()
