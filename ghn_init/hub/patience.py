"""Wait as long as the Hub asks to, and ask again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

logger = logging.getLogger("ghn_init")

LONGEST_WAIT = 60.0
"""Seconds that a request of the Hub to wait may ask for; longer ones are the user's to decide about."""
_TRIES = 3

T = TypeVar("T")


def patiently(call: Callable[[], T]) -> T:
    """The result of ``call``, which is done again where the Hub answered 429 and said when to come back."""
    for _ in range(_TRIES - 1):
        try:
            return call()
        except Exception as error:
            seconds = asked_wait(error)
            if seconds is None or not 0 <= seconds <= LONGEST_WAIT:
                raise
        logger.warning("the Hub asks to slow down: waiting %g seconds", seconds)
        time.sleep(seconds)
    return call()


def asked_wait(error: BaseException) -> float | None:
    """Seconds that the answer behind an error (429) asks to wait; ``None`` if it does not say."""
    response: Any = getattr(error.__cause__ or error, "response", None)
    if response is None or response.status_code != 429:
        return None
    try:
        return float(response.headers.get("Retry-After", ""))
    except ValueError:  # a date, or nothing
        return None
