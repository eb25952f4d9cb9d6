"""Settings of the whole process that recordings need; several may run at once, in threads."""

from __future__ import annotations

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakSet

import torch

from ghn_init.errors import TraceError
from ghn_init.tracing.rules.registry import autograd_functions
from ghn_init.tracing.scripted import as_python

_CALL_SCRIPTED = torch.jit.ScriptFunction.__call__
_DEEPER = 4
_stacks: dict[int, list[str]] = {}
"""Thread → paths of the modules whose forward it is recording."""


class Shared:
    """A context that the first of several overlapping users enters and the last one leaves.

    Left in the order of entry, contexts that save and restore one global value would end with the value of a
    user that has already left.
    """

    def __init__(self, make: Callable[[], AbstractContextManager[Any]]) -> None:
        self._make = make
        self._lock = threading.RLock()
        # Weak: a user whose end an interrupt prevented is forgotten with its frame.
        self._users: WeakSet[_User] = WeakSet()
        self._held = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the context while the block runs."""
        user = _User()
        try:
            self._enter(user)
            yield
        finally:
            try:
                self._leave(user)
            except BaseException:
                self._leave(user)
                raise

    def _enter(self, user: _User) -> None:
        with self._lock:
            if not self._users:
                self._held.close()
                self._users.add(user)
                self._held.enter_context(self._make())
            self._users.add(user)

    def _leave(self, user: _User) -> None:
        with self._lock:
            self._users.discard(user)
            if not self._users:
                self._held.close()


class _User:
    """One use of a :class:`Shared` context."""


def _make_eager() -> AbstractContextManager[Any]:
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _make_guard() -> Iterator[None]:
    def call(function: Any, *args: Any, **kwargs: Any) -> Any:
        stack = _stacks.get(threading.get_ident())
        if stack is None:
            return _CALL_SCRIPTED(function, *args, **kwargs)
        try:
            python = as_python(function)
        except (SyntaxError, NameError) as error:
            raise TraceError(
                f"Module {stack[-1]!r} calls the scripted function {function.name!r}: it cannot be recorded, "
                f"for {error}. Set PYTORCH_JIT=0 before torch is imported, and it stays eager."
            ) from error
        return python(*args, **kwargs)

    functions = autograd_functions()
    forwards = [function.__dict__.get("forward") for function in functions]

    def restore() -> None:
        torch.jit.ScriptFunction.__call__ = _CALL_SCRIPTED
        for function, forward in zip(functions, forwards, strict=True):
            if forward is not None:
                function.forward = forward
            elif "forward" in function.__dict__:
                del function.forward

    # Twice, here and below: an interrupt of the first leaves some of them as they are.
    try:
        try:
            torch.jit.ScriptFunction.__call__ = call  # type: ignore[method-assign]
            for function in functions:
                function.forward = staticmethod(_recorded_forward(function))  # type: ignore[method-assign]
            yield
        finally:
            restore()
    finally:
        restore()


def _recorded_forward(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """The forward of an autograd function that has a rule, as one operation where it is recorded."""
    forward = function.forward

    @functools.wraps(forward)
    def recorded(ctx: Any, *args: Any) -> Any:
        if threading.get_ident() in _stacks and torch.overrides.has_torch_function(args):
            return torch.overrides.handle_torch_function(function.apply, args, *args)
        return forward(ctx, *args)

    return recorded


@contextmanager
def _make_deep() -> Iterator[None]:
    limit = sys.getrecursionlimit()
    try:
        try:
            sys.setrecursionlimit(_DEEPER * limit)
            yield
        finally:
            sys.setrecursionlimit(limit)
    finally:
        sys.setrecursionlimit(limit)


deep_stack = Shared(_make_deep)
"""Room for modules in modules: copying one level takes several times the frames of running it."""
_eager = Shared(_make_eager)
_guard = Shared(_make_guard)


def uncompiled() -> AbstractContextManager[None]:
    """Functions decorated with ``torch.compile`` run uncompiled."""
    # Nothing is compiled before dynamo is imported, which is slow.
    compiling = "torch._dynamo" in sys.modules or "torch.nn.attention.flex_attention" in sys.modules
    return _eager() if compiling and hasattr(torch.compiler, "set_stance") else nullcontext()


@contextmanager
def unscripted(stack: list[str]) -> Iterator[None]:
    """Scripted functions run as Python in this thread: a torch-function mode would see only parts of them.

    Args:
        stack: Paths of the modules whose forward is running, outermost first.
    """
    thread = threading.get_ident()
    before = _stacks.get(thread)
    with _guard():
        _stacks[thread] = stack
        try:
            yield
        finally:
            if before is None:
                del _stacks[thread]
            else:
                _stacks[thread] = before


@contextmanager
def unlogged(*names: str) -> Iterator[None]:
    """Loggers of these names write nothing: what they tell is in the error that follows."""
    loggers = [logging.getLogger(name) for name in names]

    def restore() -> None:
        for logger in loggers:
            logger.removeFilter(_reject)

    try:
        try:
            for logger in loggers:
                logger.addFilter(_reject)
            yield
        finally:
            restore()
    finally:
        restore()


def _reject(record: logging.LogRecord) -> bool:
    return False
