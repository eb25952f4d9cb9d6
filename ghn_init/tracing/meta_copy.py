"""A weightless copy of a model: every parameter, buffer and tensor attribute becomes a meta twin."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ghn_init.tracing.values import Binding, bind, meta_like

_KNOWN_BUFFER_ELEMENTS = 1 << 16


@dataclass
class MetaCopy:
    """A copy that can be run on meta inputs without touching the original.

    Attributes:
        module: The copy. Its tensors carry a :class:`Binding` with their qualified name.
        parameters: Canonical name → shape of each logical parameter.
        tied: Alias → canonical name.
        originals: ``id`` of an original tensor → its twin.
        stack: Paths of the modules whose forward is running, outermost first.
    """

    module: nn.Module
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    originals: dict[int, Tensor]
    stack: list[str] = field(default_factory=lambda: [""])


class _TwinOnCopy(TorchFunctionMode):
    """Turns each deep copy of a tensor into a twin, so that no value is copied."""

    def __init__(self, memo: dict[int, Any]) -> None:
        super().__init__()
        self.memo = memo

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            return self.memo.setdefault(id(args[0]), _value_twin(args[0], None))
        return func(*args, **(kwargs or {}))


def make_meta_copy(model: nn.Module) -> MetaCopy:
    """Copy the model's structure; see :class:`MetaCopy`.

    Args:
        model: The user's model; only read.
    """
    originals: dict[int, Tensor] = {}
    parameters: dict[str, tuple[int, ...]] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            tied[name] = first[id(parameter)]
            continue
        first[id(parameter)] = name
        parameters[name] = tuple(parameter.shape)
        originals[id(parameter)] = _parameter_twin(parameter, name)
    for name, buffer in model.named_buffers():
        originals[id(buffer)] = _value_twin(buffer, name)
    memo: dict[int, Any] = dict(originals)
    with _TwinOnCopy(memo):
        module = copy.deepcopy(model, memo)
    result = MetaCopy(module, parameters, tied, originals)
    for path, child in module.named_modules():
        _watch(child, path, result.stack)
    return result


def _parameter_twin(parameter: Tensor, name: str) -> nn.Parameter:
    twin = nn.Parameter(meta_like(parameter), requires_grad=parameter.requires_grad)
    bind(twin, Binding(None, 0, known=False, slot=name))
    return twin


def _value_twin(tensor: Tensor, name: str | None) -> Tensor:
    """Twin of a buffer or tensor attribute; small whole-number ones keep their value."""
    whole = not (tensor.is_floating_point() or tensor.is_complex())
    if whole and not tensor.is_meta and tensor.numel() <= _KNOWN_BUFFER_ELEMENTS:
        twin = tensor.detach().to("cpu", copy=True)
        bind(twin, Binding(None, 0, known=True, slot=name or "constant"))
    else:
        twin = meta_like(tensor)
        bind(twin, Binding(None, 0, known=False, slot=name or "constant"))
    return twin


def _watch(module: nn.Module, path: str, stack: list[str]) -> None:
    """Keep ``stack`` up to date while the module's forward runs."""
    forward = module.forward

    @functools.wraps(forward)
    def watched(*args: Any, **kwargs: Any) -> Any:
        stack.append(path)
        try:
            return forward(*args, **kwargs)
        finally:
            stack.pop()

    module.__dict__["forward"] = watched
