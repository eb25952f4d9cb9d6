"""What commands print: with rich on a terminal, as plain text elsewhere."""

from __future__ import annotations

import os
import sys
from typing import Any


def tell(value: Any) -> None:
    """Print a report or a ranking; rich's own settings hold (``NO_COLOR``, ``TERM``, ``COLUMNS``).

    Args:
        value: What rich can draw and ``str`` can write.
    """
    if sys.stdout.isatty():
        try:
            import rich
        except ModuleNotFoundError:
            pass
        else:
            rich.print(value)
            return
    print(value)


def tell_written(*paths: str | os.PathLike[str] | None) -> None:
    """Print which files were written, if any.

    Args:
        paths: None for one that was not asked for.
    """
    names = [os.fspath(path) for path in paths if path]
    if names:
        print(f"\nwritten: {', '.join(names)}")
