"""How much ghn_init says, and its progress bars: the functions of ``transformers.logging``.

The library logs to the logger ``ghn_init`` and prints nothing. Warnings are shown by default; the
environment variable ``GHN_INIT_VERBOSITY`` (``debug``, ``info``, ``warning``, ``error``, ``critical``) or
:func:`set_verbosity` changes that. Progress bars appear on a terminal or in a notebook where something takes
long; ``GHN_INIT_DISABLE_PROGRESS_BARS=1``, ``HF_HUB_DISABLE_PROGRESS_BARS=1`` or
:func:`disable_progress_bar` turns them off.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

VERBOSITY = "GHN_INIT_VERBOSITY"
DISABLE_BARS = ("GHN_INIT_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS")
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}

_logger = logging.getLogger("ghn_init")
_bars: bool | None = None  # what the program asked for; None: nothing


class _Handler(logging.StreamHandler):  # a type with a parameter only since Python 3.11
    """Writes to what is ``sys.stderr`` now, unless the program has set up logging itself."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if not logging.getLogger().handlers:
            self.stream = sys.stderr
            super().emit(record)


_handler = _Handler()
_handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))


def get_verbosity() -> int:
    """The level of the logger ``ghn_init``, as a number of :mod:`logging`."""
    return _logger.getEffectiveLevel()


def set_verbosity(level: int | str) -> None:
    """Show records of this level and above; on stderr, unless the program has set up logging itself.

    Args:
        level: A number of :mod:`logging`, or one of ``debug, info, warning, error, critical``.

    Raises:
        ValueError: There is no such level.
    """
    if isinstance(level, str):
        if level.lower() not in LEVELS:
            raise ValueError(f"there is no verbosity {level!r}: choose of {', '.join(LEVELS)}")
        level = LEVELS[level.lower()]
    _logger.setLevel(level)
    if _handler not in _logger.handlers:
        _logger.addHandler(_handler)


def set_verbosity_debug() -> None:
    """Show everything."""
    set_verbosity(logging.DEBUG)


def set_verbosity_info() -> None:
    """Show what was done to each model, too."""
    set_verbosity(logging.INFO)


def set_verbosity_warning() -> None:
    """Show warnings and errors: the default."""
    set_verbosity(logging.WARNING)


def set_verbosity_error() -> None:
    """Show errors only."""
    set_verbosity(logging.ERROR)


def enable_progress_bar() -> None:
    """Show progress bars, wherever stderr goes and whatever the environment says."""
    global _bars
    _bars = True


def disable_progress_bar() -> None:
    """Show no progress bars, those of downloads included."""
    global _bars
    _bars = False


def is_progress_bar_enabled() -> bool:
    """Whether progress bars may be shown at all."""
    return _bars is not False and (_bars is True or not any(_is_set(name) for name in DISABLE_BARS))


def progress_bar(*, show: bool | None = None, **options: Any) -> tqdm[Any]:
    """A bar of tqdm, hidden where bars are off.

    Args:
        show: The caller's own wish; by default a terminal or a notebook of the first process shows it.
        **options: Arguments of tqdm. With ``delay=2`` only what takes longer than two seconds shows a bar.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="IProgress not found")  # a notebook without ipywidgets
        from tqdm.auto import tqdm as chosen

    if show is None:
        show = is_progress_bar_enabled() and (_bars is True or _someone_watches(chosen))
    return chosen(disable=not show, **options)


def _someone_watches(chosen: Any) -> bool:
    if os.environ.get("RANK", "0") != "0":
        return False
    in_notebook = any(each.__module__ == "tqdm.notebook" for each in chosen.__mro__)
    return in_notebook or (sys.stderr is not None and sys.stderr.isatty())


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")


def read_environment() -> None:
    """Set the verbosity that ``GHN_INIT_VERBOSITY`` names; called when the package is imported."""
    level = os.environ.get(VERBOSITY, "").strip()
    if not level:
        return
    try:
        set_verbosity(level)
    except ValueError as error:
        _logger.warning("%s is ignored: %s", VERBOSITY, error)
