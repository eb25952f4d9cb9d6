"""What a command reports as one line on stderr, without a traceback."""

from __future__ import annotations


class CommandError(Exception):
    """The command cannot do what was asked; the message says why and what to do."""
