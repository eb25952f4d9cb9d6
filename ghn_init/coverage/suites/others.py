"""Other libraries of models that PyPI holds."""

from __future__ import annotations

from collections.abc import Iterator

from ghn_init.coverage.case import Case

LIBRARIES = ()
TARGETS = {"": 90.0}


def cases() -> Iterator[Case]:
    """The cases of this suite."""
    yield from ()
