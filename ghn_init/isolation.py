"""Keep a prediction apart from the caller's global torch state, and that state apart from the prediction."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def isolated(seed: int = 0) -> Iterator[None]:
    """Run a block under plain torch settings, with generators seeded by ``seed``.

    Inside: no gradients, no inference mode, no autocast, default dtype float32, default device CPU.
    Afterwards the caller's settings and all random generators (torch CPU and CUDA, Python, NumPy)
    are as before.
    """
    with ExitStack() as stack:
        stack.enter_context(_generators(seed))
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
def _generators(seed: int) -> Iterator[None]:
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    numpy = sys.modules.get("numpy")
    numpy_state = None if numpy is None else numpy.random.get_state()
    python_state = random.getstate()
    with torch.random.fork_rng(devices=devices):
        # torch.manual_seed would also queue a seed for a CUDA that is not initialised yet.
        torch.default_generator.manual_seed(seed)
        for index in devices:
            torch.cuda.default_generators[index].manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            if numpy is not None:
                numpy.random.set_state(numpy_state)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
