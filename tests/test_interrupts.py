"""Interrupts anywhere in the library: the model and the settings of the process are as they were."""

from __future__ import annotations

import gc
import logging
import sys
from typing import Any

import pytest
import torch
import torch._dynamo
from line_faults import LineFaults
from states import IMAGE, ConvNet, Snapshot, tiny_ghn
from torch import nn

import ghn_init
from ghn_init.report import report_of

GHN = tiny_ghn()
pytestmark = pytest.mark.usefixtures("quiet_log")


class Net(ConvNet):
    """A model whose forward passes through what a recording changes for the process."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.utils.checkpoint.checkpoint(torch.tanh, super().forward(x), use_reentrant=False)


def settings() -> tuple[Any, ...]:
    return (
        torch.get_rng_state().numpy().tobytes(),
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_default_dtype()),
        (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        (torch.jit.ScriptFunction.__call__, nn.Module.__call__, nn.Module._call_impl),
        (torch._dynamo.eval_frame._stance.stance, sys.getrecursionlimit()),
        logging.getLogger("torch._subclasses.fake_tensor").filters[:],
    )


def initialise(model: nn.Module) -> None:
    ghn_init.apply(model, GHN, example_inputs=IMAGE)


def interrupt_at_lines(first: int, step: int) -> int:
    """Interrupt at every ``step``-th line; returns the number of interrupts."""
    for _ in range(2):  # the first call imports modules
        initialise(Net())
    counted = LineFaults()
    with counted.active():
        initialise(Net())
    model = Net()
    before, around = Snapshot(model), settings()
    lines = range(first, counted.count + 1, step)
    for at in lines:
        faults = LineFaults(at=at)
        if not interrupted(model, faults):
            # The call went on: then all of it is there.
            assert settings() == around, faults.where
            assert report_of(model) is not None
            model = Net()
            before, around = Snapshot(model), settings()
            continue
        if ends_a_setting(faults.where[0]):
            gc.collect()
            initialise(Net())
            around = settings()
        assert settings() == around, faults.where
        if before.changed():
            # Arrived after the last step: then all of it is there, and the report too.
            assert at > 0.98 * counted.count, faults.where
            assert report_of(model) is not None
            model = Net()
            before, around = Snapshot(model), settings()
    initialise(model)
    return len(lines)


def interrupted(model: nn.Module, faults: LineFaults) -> bool:
    """Whether the fault came out of the call; Python drops what is raised while it closes a generator.

    No signal is handled there, so that it can only be a fault at a line which is lost.
    """
    dropped: list[tuple[type[BaseException], str]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda one: dropped.append((one.exc_type, repr(one.object))))
        try:
            with faults.active():
                initialise(model)
        except KeyboardInterrupt:
            return True
    if not faults.where:
        # One line fewer than when they were counted: there was no fault.
        return False
    ((kind, place),) = dropped
    assert kind is KeyboardInterrupt
    assert "generator object" in place
    return False


def ends_a_setting(place: str) -> bool:
    """Where a fault at a line, unlike an interrupt, comes before a setting of the process can be ended.

    Interrupts are delivered where a function begins or a loop goes round. The next recording ends it, once
    the frame of the use is collected.
    """
    return place.startswith("switches.py:") and place.endswith("__call__")


def test_interrupts_at_some_lines() -> None:
    assert interrupt_at_lines(1, 397) > 30


@pytest.mark.slow
def test_interrupts_at_many_lines() -> None:
    assert interrupt_at_lines(5, 17) > 700
