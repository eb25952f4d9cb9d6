"""Install a hook when its library is imported, without importing the library."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ghn_init.errors import HookError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec


class Hook(NamedTuple):
    """What to patch in one module of a library.

    Args:
        name: Name of the hook, for messages and tests.
        module: Full name of the module whose import installs the hook.
        install: Patches that (imported) module; returns False where its layout is not one it knows.
        remove: Puts every original object back; does nothing where the hook is not installed.
    """

    name: str
    module: str
    install: Callable[[ModuleType], bool]
    remove: Callable[[], None]


class PostImportFinder:
    """A finder that finds nothing itself: it wraps the loader of a hooked module to install the hook."""

    def __init__(self, hooks: Iterable[Hook]) -> None:
        self._hooks = {hook.module: hook for hook in hooks}
        self._installed: set[str] = set()
        self._lock = threading.RLock()
        self._started = False

    def start(self) -> None:
        """Install the hooks of imported modules, and wait for the others."""
        with self._lock:
            self._started = True
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)
        for name in list(self._hooks):
            if name in sys.modules:
                # Returns at once, or waits for another thread that is importing the module.
                self.install(importlib.import_module(name))

    def add(self, hook: Hook) -> None:
        """Take up one more hook: install it now where its module is imported, else wait for the import.

        Raises:
            HookError: The module has a hook already.
        """
        with self._lock:
            if hook.module in self._hooks:
                raise HookError(
                    f"{hook.module} already has the hook {self._hooks[hook.module].name!r}; take it back "
                    f"before you register {hook.name!r}"
                )
            self._hooks[hook.module] = hook
            started = self._started
        if started and hook.module in sys.modules:
            self.install(importlib.import_module(hook.module))

    def drop(self, hook: Hook) -> None:
        """Remove one hook and forget it; does nothing where it is not known."""
        with self._lock:
            if self._hooks.get(hook.module) is not hook:
                return
            installed = hook.module in self._installed
        if installed:
            hook.remove()
        with self._lock:
            self._hooks.pop(hook.module, None)
            self._installed.discard(hook.module)

    def stop(self) -> None:
        """Remove every hook, and stop waiting for imports. Not to run in two threads at once."""
        with self._lock:
            self._started = False
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            installed = sorted(self._installed)
        # Without the lock: a removal waits for models under construction, and these may import a module.
        for name in installed:
            self._hooks[name].remove()
        with self._lock:
            self._installed.difference_update(installed)

    def install(self, module: ModuleType) -> None:
        """Install the hook of ``module``, once."""
        name = module.__name__
        with self._lock:
            if not self._started or name in self._installed:
                return
            hook = self._hooks[name]
            if hook.install(module):
                self._installed.add(name)
            else:
                import logging  # which costs as much as all of this package's own import

                logging.getLogger("ghn_init").warning(
                    "the %s hook of ghn_init does not know this version of %s, so its constructors do not "
                    "take ghn_init; call ghn_init.apply(model) on the finished model instead",
                    hook.name,
                    name.partition(".")[0],
                )

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec that the other finders give for a hooked module, its loader wrapped; None for others."""
        if fullname not in self._hooks or fullname in self._installed:
            return None
        for finder in sys.meta_path:
            find_spec = getattr(finder, "find_spec", None)
            if finder is self or find_spec is None:
                continue
            spec = find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _InstallingLoader(spec.loader, self)
                return spec
        return None


class _InstallingLoader:
    """Loads a module with its own loader, which it gives back to the module, then installs the hook."""

    def __init__(self, loader: Any, finder: PostImportFinder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """As the module's own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Execute the module as its own loader does, then install the hook."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        # A module may replace itself in sys.modules while it executes, as lazy packages do.
        self._finder.install(sys.modules.get(module.__name__, module))
