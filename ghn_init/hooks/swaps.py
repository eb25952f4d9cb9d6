"""Replace attributes by hooked ones, and put the original objects back."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import Any

_ABSENT = object()


class Swaps:
    """A journal of replaced attributes of one hook."""

    def __init__(self) -> None:
        self._attributes: list[tuple[Any, str, Any, Any]] = []
        self._everywhere: list[tuple[Any, Any]] = []
        self._lock = threading.RLock()

    @property
    def live(self) -> bool:
        """Whether the hook is in place; a hooked function that outlived it must act as the original."""
        return bool(self._attributes or self._everywhere)

    def attribute(self, owner: Any, name: str, hooked: Any) -> None:
        """Replace the attribute that ``owner`` itself (not a base class of it) holds, or add it."""
        with self._lock:
            self._attributes.append((owner, name, vars(owner).get(name, _ABSENT), hooked))
            setattr(owner, name, hooked)

    def everywhere(self, original: Any, hooked: Any) -> None:
        """Replace ``original`` under every module-level name that holds it, in all imported modules."""
        with self._lock:
            self._everywhere.append((original, hooked))
            _rebind(original, hooked)

    def undo(self) -> None:
        """Put every original back, except where somebody has replaced the hooked attribute since."""
        with self._lock:
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
