"""What cannot be traced, told before anything is tried."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from ghn_init.errors import TraceError
from ghn_init.tracing.leaf import inside


def check_traceable(model: nn.Module, leaves: Iterable[str] = ()) -> None:
    """Raise for models that no front-end can trace.

    Args:
        model: What is to be traced.
        leaves: Paths of modules that are not entered, whatever they are.

    Raises:
        TraceError: Not a module, no parameters, an uninitialised (lazy) one, one that shares memory with
            itself (``expand``), or a scripted or quantised module.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"Expected a torch.nn.Module, got {type(model).__name__}.")
    leaves = list(leaves)
    for path, module in model.named_modules():
        reason = closed(module)
        if reason is not None and inside(leaves, f"{path}.") is None:
            where = (
                f"module {path!r} ({type(module).__name__})"
                if path
                else f"the model ({type(module).__name__})"
            )
            raise TraceError(f"{where} {reason}{_way_out(path)}")
    count = 0
    parameters = list(model.named_parameters())
    for name, tensor in [*parameters, *model.named_buffers()]:
        if is_lazy(tensor):
            raise TraceError(
                f"{name!r} is not initialised yet (a lazy module). Run the model once on real inputs, "
                "then trace it."
            )
    for name, parameter in parameters:
        count += 1
        if parameter.layout is torch.strided and _overlaps(parameter):
            raise TraceError(
                f"Parameter {name!r} of shape {tuple(parameter.shape)} has stride 0 (an expanded tensor): "
                "its elements share memory and cannot be written one by one. Replace it with its "
                ".contiguous() copy."
            )
    if not count:
        raise TraceError(f"{type(model).__name__} has no parameters: there is nothing to predict.")


def closed(module: nn.Module) -> str | None:
    """Why the operations of a module by itself cannot be recorded; ``None`` for those of Python code."""
    if isinstance(module, torch.jit.ScriptModule):
        return "is scripted: its forward cannot be recorded. Pass the eager module."
    if _is_quantised(module):
        return (
            "is quantised: its weights are packed and cannot be predicted. Initialise the float model, "
            "then quantise it."
        )
    return None


def _way_out(path: str) -> str:
    if not path:
        return ""
    return (
        f" Or leave it out: leaf={path!r} if its output is shaped like its input, else "
        f"leaf={{{path!r}: lambda module, *inputs: ...}} with what it returns."
    )


def _is_quantised(module: nn.Module) -> bool:
    """Whether a module keeps integers or packed weights; float models for later quantisation do not."""
    home = type(module).__module__
    return home.startswith("torch.") and ".quantized" in home and bool(module.state_dict())


def _overlaps(tensor: torch.Tensor) -> bool:
    return any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
