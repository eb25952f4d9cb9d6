"""Buffers that are not saved with a model (position ids, rotary tables), as its constructors compute them.

A module on the meta device has none of their values, and no method need give them; but what is not saved
follows from what the constructor was given. So the module is constructed a second time, from its own
attributes and from the configuration of a module above it, and what comes out counts only if it is the same
module again.
"""

from __future__ import annotations

import inspect
import logging
import threading
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ghn_init.parallel import own_class

logger = logging.getLogger("ghn_init")

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype)
_UNKNOWN = object()


def unsaved_values(module: nn.Module, above: list[nn.Module], device: torch.device) -> dict[str, Tensor]:
    """Values of the module's own buffers that are not saved; none where the constructor cannot be repeated.

    Args:
        module: Only read.
        above: The modules that contain it, innermost first.
        device: Where the values shall be.
    """
    wanted = [name for name in module._non_persistent_buffers_set if module._buffers[name] is not None]
    arguments = _arguments(module, above, device) if wanted else None
    if arguments is None:
        return {}
    kind = own_class(type(module))
    try:
        twin = _constructed(kind, arguments, device)
    except Exception as error:  # noqa: BLE001 - a constructor may do and refuse anything
        logger.debug("%s cannot be constructed again: %s", kind.__name__, error)
        return {}
    if not _alike(module, twin):
        return {}
    values = {name: twin._buffers[name] for name in wanted if name in twin._non_persistent_buffers_set}
    return {
        name: value.to(device) for name, value in values.items() if value is not None and not value.is_meta
    }


def _arguments(module: nn.Module, above: list[nn.Module], device: torch.device) -> dict[str, Any] | None:
    """What the constructor was given, as far as attributes tell; ``None`` if one argument is unknown."""
    kind = own_class(type(module))
    # One that is wrapped does more than construct: in hooks of ghn_init it would predict again.
    if hasattr(kind.__init__, "__wrapped__"):
        return None
    found: dict[str, Any] = {}
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            return None
        value = device if parameter.name == "device" else _attribute(module, above, parameter.name)
        if value is _UNKNOWN or isinstance(value, (nn.Module, Tensor)):
            return None
        found[parameter.name] = value
    return found


def _attribute(module: nn.Module, above: list[nn.Module], name: str) -> Any:
    if name in vars(module):
        return vars(module)[name]
    for each in above:
        # A number of that name above is another one; a configuration is handed down.
        if name in vars(each) and not isinstance(vars(each)[name], _PLAIN):
            return vars(each)[name]
    return _UNKNOWN


def _constructed(kind: type[nn.Module], arguments: dict[str, Any], device: torch.device) -> nn.Module:
    """Call the constructor; parameters lose their memory as they are registered. Random states stay."""
    thread = threading.get_ident()

    def shed(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != thread:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook = register_module_parameter_registration_hook(shed)  # type: ignore[arg-type]
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.device(device):
            return kind(**arguments)
    finally:
        hook.remove()


def _alike(module: nn.Module, twin: nn.Module) -> bool:
    """Whether both hold tensors of the same names and shapes, and equal plain attributes."""
    return _shapes(module) == _shapes(twin) and _settings(module) == _settings(twin)


def _shapes(module: nn.Module) -> dict[str, torch.Size]:
    held = {**module._parameters, **module._buffers}
    return {name: tensor.shape for name, tensor in held.items() if tensor is not None}


def _settings(module: nn.Module) -> dict[str, Any]:
    names = (name for name in vars(module) if not name.startswith("_") and name != "training")
    return {name: vars(module)[name] for name in names if isinstance(vars(module)[name], _PLAIN)}
