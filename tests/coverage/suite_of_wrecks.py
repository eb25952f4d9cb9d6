"""A suite of models that do whatever a model can do to the process that measures it."""

from __future__ import annotations

import os
import signal
import time

import torch
from torch import nn

from ghn_init.coverage.case import Case, UnavailableError

LIBRARIES = ()
TARGETS = {"": 50.0}


class Layer(nn.Linear):
    """A linear layer; ``deed`` happens in its forward."""

    def __init__(self, deed=lambda: None):
        super().__init__(4, 4)
        self.deed = deed

    def forward(self, x):
        self.deed()
        return super().forward(x)


def eat():
    kept = [bytearray(1 << 28) for _ in range(100)]
    raise AssertionError(f"there was memory for {len(kept)} pieces")


def spin():
    while True:
        pass


def sleep():
    """Tell that it begins, if someone listens, then sleep."""
    if pipe := os.environ.get("GHN_INIT_TEST_PIPE"):
        os.write(int(pipe), b".")
    time.sleep(600)


def die_of_export():
    """End the process that ``torch.export`` runs in."""
    if torch.compiler.is_compiling():
        os.kill(os.getpid(), signal.SIGTERM)


def miss():
    raise UnavailableError("needs a package")


def raising():
    raise RuntimeError("no such layer")


def inputs(model):
    return torch.zeros(1, 4)


def cases():
    yield Case("fine", "good", Layer, inputs)
    yield Case("alone", "other", Layer, inputs, group="special")
    yield Case("raises", "bad", lambda: Layer(raising), inputs)
    yield Case("dies", "bad", lambda: Layer(lambda: os.kill(os.getpid(), signal.SIGTERM)), inputs)
    yield Case("leaves", "bad", lambda: Layer(lambda: os._exit(3)), inputs)
    yield Case("eats", "bad", lambda: Layer(eat), inputs)
    yield Case("spins", "bad", lambda: Layer(spin), inputs)
    yield Case("sleeps", "slow", lambda: Layer(sleep), inputs)
    yield Case("cannot be exported", "good", lambda: Layer(die_of_export), inputs)
    yield Case("missing", "absent", miss)
