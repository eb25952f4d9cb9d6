"""Packages that only an extra of ghn_init brings: a missing one is an error that names the extra."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ghn_init.errors import MissingPackageError


@contextmanager
def needed(extra: str | None, what: str) -> Iterator[None]:
    """Around imports: what is missing among them is asked for by the extra that brings it.

    Args:
        extra: One of ``project.optional-dependencies`` in ``pyproject.toml``; None if none brings it.
        what: What the imports are for; begins the message.

    Raises:
        MissingPackageError: A package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or isinstance(error, MissingPackageError):
            raise
        package = error.name.partition(".")[0]
        wanted = package if extra is None else f"'ghn-init[{extra}]'"
        raise MissingPackageError(
            f"{what} needs {package}, which is not installed: pip install {wanted}", name=package
        ) from error
