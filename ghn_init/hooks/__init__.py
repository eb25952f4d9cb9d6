"""Constructor hooks of timm and transformers: initialise a model as it is built.

`patch` puts every hook of `HOOKS` in place and `unpatch` takes it out again; both are idempotent and
thread-safe. A hook is installed at once where its library is already imported, otherwise as soon as the
library is; none is ever imported from here. While no ``ghn_init`` argument and no `enabled` block asks for
a GHN, a patched constructor calls the original one and does nothing else.

Names bound before the hooks are in place are found again in the namespaces of imported modules. A
reference held elsewhere (a ``functools.partial``, a closure, an entry of a dict) is out of reach: import
ghn_init before making it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ghn_init.hooks import timm, transformers
from ghn_init.hooks.construction import Construction, construction, enabled
from ghn_init.hooks.imports import Hook, PostImportFinder
from ghn_init.hooks.swaps import Swaps

__all__ = [
    "HOOKS",
    "Construction",
    "Hook",
    "Swaps",
    "construction",
    "enabled",
    "patch",
    "register_hook",
    "unpatch",
]

HOOKS: tuple[Hook, ...] = (timm.HOOK, transformers.MODEL_HOOK, transformers.AUTO_HOOK)

_lock = threading.RLock()
_finder = PostImportFinder(HOOKS)


def register_hook(hook: Hook) -> Callable[[], None]:
    """Teach the constructors of one more library to take ``ghn_init=``.

    The hook is installed at once where its module is imported, otherwise as soon as it is; `patch`, `unpatch`
    and `enabled` cover it from then on.

    Args:
        hook: What to patch. `Swaps` replaces functions and puts them back, `construction` tells which GHN is
            asked for.

    Returns:
        A function that takes the hook out and the registration back.

    Raises:
        HookError: The module has a hook already.
    """
    with _lock:
        _finder.add(hook)

    def undo() -> None:
        with _lock:
            _finder.drop(hook)

    return undo


def patch() -> None:
    """Put the hooks in place: now where the library is imported, else when it is.

    Runs on ``import ghn_init``.
    """
    with _lock:
        _finder.start()


def unpatch() -> None:
    """Take the hooks out: every patched attribute is the original object again."""
    with _lock:
        _finder.stop()
