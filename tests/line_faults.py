"""Exceptions raised at any executed line of the library, as an interrupt that arrives there would be."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import ghn_init

ROOT = Path(ghn_init.__file__).resolve().parent


class LineFaults:
    """Counts the lines that the library executes in this thread, and raises at one of them, or more.

    Calls and lines count, so that an exception also arrives before the first line of a function.

    Args:
        rooms: Files of the package that count, by the beginning of their relative path; all by default.
        at: Number of the event at which ``fault`` is raised; none by default.
        fault: What is raised.
        again: Events after which another fault of the same type is raised.
    """

    def __init__(
        self,
        rooms: tuple[str, ...] = ("",),
        at: int = -1,
        fault: Callable[[], BaseException] = KeyboardInterrupt,
        again: int = -1,
    ) -> None:
        self.places = tuple(str(ROOT / room) for room in rooms)
        self.at, self.fault, self.again = at, fault, again
        self.count = 0
        self.where: list[str] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        before = sys.gettrace()
        sys.settrace(self._call)
        try:
            yield
        finally:
            sys.settrace(before)

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.places):
            return None
        self._count(frame)
        return self._line

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self._count(frame)
        return self._line

    def _count(self, frame: FrameType) -> None:
        self.count += 1
        if self.count == self.at:
            self.where.append(
                f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} in {frame.f_code.co_name}"
            )
            self.at = self.count + self.again if self.again > 0 else -1
            fault = self.fault()
            if self.at > 0:
                # Raising ends the tracing of this thread: the next call of the library starts it again.
                sys.setprofile(self._again)
            raise fault

    def _again(self, frame: FrameType, event: str, argument: Any) -> None:
        sys.setprofile(None)
        sys.settrace(self._call)
