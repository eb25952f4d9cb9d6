"""What a network costs: parameters, floating-point operations, latency."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ghn_init.ranking.evidence import call


def count_parameters(model: nn.Module) -> int:
    """Number of parameter values; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.no_grad()
def forward_flops(model: nn.Module, inputs: Any) -> int:
    """Floating-point operations of matrix products, convolutions and attention of one forward pass.

    A multiplication and an addition count as two. Works on the meta device.
    """
    training = model.training
    counter = FlopCounterMode(display=False)
    try:
        with counter:
            call(model.eval(), inputs)
    finally:
        model.train(training)
    return counter.get_total_flops()


@torch.no_grad()
def latency(model: nn.Module, inputs: Any, repeats: int = 10) -> float:
    """Median milliseconds of a forward pass of ``inputs`` in evaluation mode, after two for warming up."""
    model.eval()
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call(model, inputs)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[2:])
