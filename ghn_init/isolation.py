"""Keep a prediction apart from the caller's global torch state, and that state apart from the prediction."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

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
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


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
    with ExitStack() as stack:
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
        stack.callback(random.setstate, random.getstate())
        random.seed(seed)
        if (numpy := sys.modules.get("numpy")) is not None:
            stack.callback(numpy.random.set_state, numpy.random.get_state())
            numpy.random.seed(seed)
        stack.enter_context(torch.random.fork_rng(devices=devices))
        # torch.manual_seed would also queue a seed for a CUDA that is not initialised yet.
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        yield


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
