"""Parametrised and packed tensors of a copied model become plain parameters of their logical shape."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ghn_init.tracing.values import Binding, StandIns, bind, binding_of

_SUFFIXES = ("_g", "_v", "_orig")


def collapse(module: nn.Module, stand_ins: StandIns) -> None:
    """Replace parametrised tensors in place, throughout a copy.

    Covers ``torch.nn.utils.parametrize`` and the older hooks (``weight_norm``, ``spectral_norm``, pruning)
    that compute an attribute before each forward.

    Args:
        module: The copy.
        stand_ins: How tensors without values are made.
    """
    for path, part in list(module.named_modules()):
        if "parametrizations" in part._modules and parametrize.is_parametrized(part):
            _collapse_parametrizations(part, path, stand_ins)
        for key, hook in list(part._forward_pre_hooks.items()):
            name = getattr(hook, "name", None) or getattr(hook, "_tensor_name", None)
            if isinstance(name, str) and (hasattr(hook, "compute_weight") or hasattr(hook, "apply_mask")):
                del part._forward_pre_hooks[key]
                _collapse_hook(part, path, name, stand_ins)


def _collapse_parametrizations(part: nn.Module, path: str, stand_ins: StandIns) -> None:
    shapes = {}
    for name in part.parametrizations:  # type: ignore[union-attr]
        with torch.no_grad(), stand_ins.context():
            shapes[name] = getattr(part, name)
    # The class with the properties is shared with the user's model: step back to its base, leave it as it is.
    part.__class__ = type(part).__mro__[1]
    del part._modules["parametrizations"]
    for name, value in shapes.items():
        _set(part, path, name, value, stand_ins)


def _collapse_hook(part: nn.Module, path: str, name: str, stand_ins: StandIns) -> None:
    computed = part.__dict__.pop(name, None)
    for suffix in _SUFFIXES:
        original = part._parameters.pop(name + suffix, None)
        if computed is None and suffix != "_g":
            computed = original
    if computed is not None:
        _set(part, path, name, computed, stand_ins)


def packed_linears(model: nn.Module) -> list[str]:
    """Paths of linear layers of a class of their own that keep the weight in a format of their own.

    Such a weight is of a class of its own too, or holds integers (4-bit and 8-bit layers).
    """
    return [path for path, part in model.named_modules() if isinstance(part, nn.Linear) and _is_packed(part)]


def _is_packed(layer: nn.Linear) -> bool:
    weight = layer._parameters.get("weight")
    if type(layer) is nn.Linear or weight is None or is_traceable_wrapper_subclass(weight):
        return False
    return type(weight) is not nn.Parameter or not weight.is_floating_point()


def unpack(module: nn.Module, paths: list[str], stand_ins: StandIns) -> None:
    """Make the linear layers at ``paths`` of a copy plain ones, with a weight of their logical shape."""
    for path in paths:
        part: Any = module.get_submodule(path)
        dtype = torch.get_default_dtype() if part.bias is None else part.bias.dtype
        part.__class__ = nn.Linear
        with stand_ins.context():
            value = torch.empty(part.out_features, part.in_features, dtype=dtype, device=stand_ins.device)
        _set(part, path, "weight", value, stand_ins)


def _set(part: nn.Module, path: str, name: str, value: Tensor, stand_ins: StandIns) -> None:
    parameter = nn.Parameter(stand_ins.like(value), requires_grad=False)
    bind(parameter, Binding(None, 0, known=False, slot=f"{path}.{name}" if path else name))
    part._parameters[name] = parameter


def logical_parameters(module: nn.Module) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Canonical names and shapes of a copy's parameters, and the aliases of tied ones."""
    parameters: dict[str, tuple[int, ...]] = {}
    tied: dict[str, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        binding = binding_of(parameter)
        first = binding.slot if binding is not None and binding.slot is not None else name
        if first in parameters:
            if name != first:
                tied[name] = first
            continue
        parameters[first] = tuple(parameter.shape)
    return parameters, tied
