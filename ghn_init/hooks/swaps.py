"""Replace attributes by hooked ones, and put the original objects back."""

from __future__ import annotations

import functools
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ghn_init.hooks.construction import idle

_ABSENT = object()


class Swaps:
    """A journal of the replaced attributes of one hook."""

    def __init__(self) -> None:
        self.live = False
        """Whether the hook is in place."""
        self._attributes: list[tuple[Any, str, Any, Any]] = []
        self._everywhere: list[tuple[Any, Any]] = []

    def attribute(self, owner: Any, name: str, hooked: Any) -> None:
        """Replace the attribute that ``owner`` itself (not a base class of it) holds, or add it."""
        self._attributes.append((owner, name, vars(owner).get(name, _ABSENT), hooked))
        setattr(owner, name, hooked)
        self.live = True

    def everywhere(self, original: Any, hooked: Any) -> None:
        """Replace ``original`` under every module-level name that holds it, in all imported modules."""
        self._everywhere.append((original, hooked))
        _rebind(original, hooked)
        self.live = True

    def guarded(self, original: Callable[..., Any], hooked: Callable[..., Any]) -> Callable[..., Any]:
        """A function like ``original`` that calls ``hooked`` where there is something to do for ghn_init.

        Outliving the hook, held by somebody under another name, it acts as ``original``.
        """

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if idle(self.live, kwargs):
                return original(*args, **kwargs)
            with _under_way():
                # Checked again: the hook may have been taken out before this call was counted.
                chosen = original if idle(self.live, kwargs) else hooked
                return chosen(*args, **kwargs)

        return call

    def undo(self) -> None:
        """Put every original back, except where somebody has replaced the hooked attribute since.

        Calls that other threads have under way end with the hook in place.
        """
        self.live = False
        _wait_for_others()
        for owner, name, original, hooked in reversed(self._attributes):
            if vars(owner).get(name) is not hooked:
                continue
            if original is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
        for original, hooked in reversed(self._everywhere):
            _rebind(hooked, original)
        self._attributes.clear()
        self._everywhere.clear()


def _rebind(old: Any, new: Any) -> None:
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            namespace = vars(module)
            for name in [name for name, value in list(namespace.items()) if value is old]:
                namespace[name] = new


_calls: Counter[int] = Counter()
"""Thread → hooked calls that it has under way."""
_calls_changed = threading.Condition()


@contextmanager
def _under_way() -> Iterator[None]:
    thread = threading.get_ident()
    with _calls_changed:
        _calls[thread] += 1
    try:
        yield
    finally:
        with _calls_changed:
            _calls[thread] -= 1
            if not _calls[thread]:
                del _calls[thread]
                _calls_changed.notify_all()


def _wait_for_others() -> None:
    own = threading.get_ident()
    with _calls_changed:
        _calls_changed.wait_for(lambda: _calls.keys() <= {own})
