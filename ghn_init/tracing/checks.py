"""What cannot be traced, told before anything is tried."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from ghn_init.errors import TraceError


def check_traceable(model: nn.Module) -> None:
    """Raise for models that no front-end can trace.

    Raises:
        TraceError: Not a module, no parameters, an uninitialised (lazy) one, one that shares memory with
            itself (``expand``), or a scripted or quantised module.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"Expected a torch.nn.Module, got {type(model).__name__}.")
    for path, module in model.named_modules():
        where = (
            f"module {path!r} ({type(module).__name__})" if path else f"the model ({type(module).__name__})"
        )
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(f"{where} is scripted: its forward cannot be recorded. Pass the eager module.")
        if _is_quantised(module):
            raise TraceError(
                f"{where} is quantised: its weights are packed and cannot be predicted. Initialise the float "
                "model, then quantise it."
            )
    count = 0
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            raise TraceError(
                f"{name!r} is not initialised yet (a lazy module). Run the model once on real inputs, "
                "then trace it."
            )
    for name, parameter in model.named_parameters():
        count += 1
        if parameter.layout is torch.strided and _overlaps(parameter):
            raise TraceError(
                f"Parameter {name!r} of shape {tuple(parameter.shape)} has stride 0 (an expanded tensor): "
                "its elements share memory and cannot be written one by one. Replace it with its "
                ".contiguous() copy."
            )
    if not count:
        raise TraceError(f"{type(model).__name__} has no parameters: there is nothing to predict.")


def _is_quantised(module: nn.Module) -> bool:
    """Whether a module keeps integers or packed weights; float models for later quantisation do not."""
    home = type(module).__module__
    return home.startswith("torch.") and ".quantized" in home and bool(module.state_dict())


def _overlaps(tensor: torch.Tensor) -> bool:
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
