"""Keep a prediction apart from the caller's global torch state, and that state apart from the prediction."""

from __future__ import annotations

import gc
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def plain_settings() -> Iterator[None]:
    """Run a block without gradients, inference mode and autocast, with default dtype float32 on the CPU.

    The caller's settings are as before afterwards.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_dtype() != torch.float32:
            stack.enter_context(_default_dtype(torch.float32))
        # A device context makes every torch call slower: entered only where one must be overridden.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


class Surroundings:
    """The settings and random generators of the caller; as before when a block of it is left.

    It sets back what a context inside it could not, because an interrupt arrived right when that was left. It
    can be entered twice (``with around, around:``), for it may be interrupted itself.
    """

    def __init__(self) -> None:
        self._gradients = torch.is_grad_enabled()
        self._modes = torch._C._len_torch_function_stack()
        self._dtype = torch.get_default_dtype()
        self._autocast = {kind: torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")}
        self._generators = _generators() if _draws_alone() else []
        self._collects = gc.isenabled()

    def __enter__(self) -> Surroundings:
        return self

    def __exit__(self, *_: object) -> None:
        # A mode left on the stack would see every torch function that the caller uses from now on.
        while torch._C._len_torch_function_stack() > self._modes:
            torch._C._pop_torch_function_stack()
        if torch.get_default_dtype() != self._dtype:
            torch.set_default_dtype(self._dtype)
        for kind, enabled in self._autocast.items():
            if torch.is_autocast_enabled(kind) != enabled:
                torch.set_autocast_enabled(kind, enabled)
        for set_state, state in self._generators:
            set_state(state)
        torch.set_grad_enabled(self._gradients)
        if self._collects:
            gc.enable()


@contextmanager
def collector_paused() -> Iterator[None]:
    """Run a block without garbage collection, which reads every object of the process.

    For blocks that make many small objects and keep them, as copies of models are.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _generators() -> list[tuple[Callable[[Any], object], Any]]:
    """For each generator of the process the function that sets its state, and its state."""
    found: list[tuple[Callable[[Any], object], Any]] = [
        (random.setstate, random.getstate()),
        (torch.default_generator.set_state, torch.default_generator.get_state()),
    ]
    if (numpy := sys.modules.get("numpy")) is not None:
        found.append((numpy.random.set_state, numpy.random.get_state()))
    if torch.cuda.is_initialized():
        found += [(each.set_state, each.get_state()) for each in torch.cuda.default_generators]
    return found


@contextmanager
def own_generators(seed: int) -> Iterator[None]:
    """Run a block with the random generators seeded by ``seed``; afterwards they are as before.

    Covers torch (CPU and CUDA), Python and NumPy. Generators belong to the process: beside other threads
    that may draw they are neither seeded nor set back, as either would make those threads draw the same
    numbers again. What the block draws from the global generators then counts as drawn.
    """
    if not _draws_alone():
        yield
        return
    before = _generators()
    try:
        random.seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(seed)
        # torch.manual_seed would also queue a seed for a CUDA that is not initialised yet.
        torch.default_generator.manual_seed(seed)
        for generator in torch.cuda.default_generators if torch.cuda.is_initialized() else ():
            generator.manual_seed(seed)
        yield
    finally:
        for set_state, state in before:
            set_state(state)


def _draws_alone() -> bool:
    """Whether no other thread may draw random numbers.

    Daemon threads beside the main one are taken for those that notebooks and progress bars keep for good.
    """
    own = threading.current_thread()
    return all(thread is own or thread.daemon for thread in threading.enumerate())


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
