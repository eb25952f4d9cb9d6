"""Before anything is written: find the memory of every predicted tensor and check it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ghn_init.assigning.meta import MetaTarget
from ghn_init.assigning.offloaded import OffloadedTarget, names_in_host_memory, offloaded_memory
from ghn_init.assigning.parametrized import ParametrizedTarget, hooked_target
from ghn_init.assigning.sharded import ShardedComputedTarget
from ghn_init.assigning.storage import memory_key, overlapping, refuse_impossible, why_unwritable
from ghn_init.assigning.targets import PlainTarget, Target, locate
from ghn_init.errors import AssignError
from ghn_init.parallel import is_distributed, local_part, reshard
from ghn_init.wrappers import unwrapped


@dataclass(frozen=True)
class Binding:
    """Where in a model each predicted tensor goes; made by :func:`bind`.

    Attributes:
        model: The model, without wrappers.
        targets: Name of a predicted tensor → where it is written.
        skipped: Name of a predicted tensor → why the model's state does not allow writing it.
        shares: Name of a predicted tensor → name of the one in the same memory, which is written.
        held_by: Name of a predicted tensor → names of the parameters that hold it (its aliases and,
            for a parametrised tensor, its parts).
        materialize: Device for tensors on the meta device, or ``None``.
        elsewhere: Name of a predicted tensor → where it would be written, if this process held any element
            of it: no value needs to come for it.
    """

    model: nn.Module
    targets: dict[str, Target]
    skipped: dict[str, str]
    shares: dict[str, str]
    held_by: dict[str, tuple[str, ...]]
    materialize: torch.device | None = None
    elsewhere: dict[str, Target] = field(default_factory=dict)


def bind(
    model: nn.Module, names: Iterable[str], *, materialize: torch.device | str | bool = False
) -> Binding:
    """Find and check the memory of every named tensor; nothing is written.

    Args:
        model: The model; wrappers are taken off by :func:`ghn_init.wrappers.unwrapped`.
        names: Names of predicted tensors, as the architecture graph gives them.
        materialize: Give memory to parameters on the meta device: on the CPU, or on this device.

    Raises:
        AssignError: A name is not in the model; a parameter is lazy or expanded, or on the meta
            device without ``materialize``.
    """
    model = unwrapped(model)
    reshard(model)
    device = _device(materialize)
    named = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in named.items():
        refuse_impossible(name, tensor)
    clashes = overlapping(dict(model.named_parameters()))
    names_of: dict[int, list[str]] = {}
    for name, tensor in named.items():
        names_of.setdefault(id(tensor), []).append(name)
    kept_at = names_in_host_memory(model)
    bound = Binding(model, {}, {}, {}, {}, device)
    owners: dict[tuple[object, ...], str] = {}
    for name in names:
        target = _target(model, name, device)
        held_by = tuple(alias for t in target.parameters for alias in names_of[id(t)])
        if isinstance(target, OffloadedTarget):
            held_by = tuple(dict.fromkeys([*held_by, *kept_at.get(target.memory.data_ptr(), ())]))
        reason = _why_skipped(target, held_by, clashes)
        owner = owners.setdefault(_memory_of(target), name)
        bound.held_by[name] = held_by
        if reason is not None:
            bound.skipped[name] = reason
        elif owner != name:
            bound.shares[name] = owner
        elif isinstance(target, (PlainTarget, MetaTarget)) and local_part(target.tensor).numel() == 0:
            bound.elsewhere[name] = target
        else:
            bound.targets[name] = target
    return bound


def holders(model: nn.Module, name: str) -> tuple[Tensor, ...]:
    """The parameters that hold a tensor of the graph: itself, or the parts of a parametrised one."""
    module, attribute = locate(model, name)
    computed = _computed_target(name, module, attribute)
    if computed is not None:
        return computed.parameters
    tensor = dict(module._parameters.items()).get(attribute)  # a scripted module has no plain dict of them
    return () if tensor is None else (tensor,)


def _computed_target(name: str, module: nn.Module, attribute: str) -> Target | None:
    if parametrize.is_parametrized(module, attribute):
        return ParametrizedTarget(name, module, attribute)
    return None if attribute in module._parameters else hooked_target(name, module, attribute)


def _computed(name: str, attribute: str, module: nn.Module) -> Target:
    found = _computed_target(name, module, attribute)
    assert found is not None, f"{name} is computed in the module, but not in its copy"
    return found


def _memory_of(target: Target) -> tuple[object, ...]:
    held = (target.memory,) if isinstance(target, OffloadedTarget) else target.parameters
    return tuple(memory_key(tensor) for tensor in held)


def _target(model: nn.Module, name: str, device: torch.device | None) -> Target:
    module, attribute = locate(model, name)
    computed = _computed_target(name, module, attribute)
    if computed is not None and any(map(is_distributed, computed.parameters)):
        return ShardedComputedTarget(module, functools.partial(_computed, name, attribute))
    if computed is not None:
        return computed
    tensor = dict(module._parameters.items()).get(attribute)  # a scripted module has no plain dict of them
    if tensor is None:
        raise AssignError(f"{name!r} is no parameter of the model, so nothing can be written into it")
    if not tensor.is_meta:
        return PlainTarget(name, tensor)
    memory = offloaded_memory(module, name, attribute)
    if memory is not None:
        return OffloadedTarget(name, tensor, memory)
    if device is None:
        raise AssignError(
            f"parameter {name!r} is on the meta device and has no memory to write into: pass "
            "materialize=True (or a device), or use ghn_init.predict, which needs no memory of the model"
        )
    return MetaTarget(name, model, tensor, device)


def _why_skipped(target: Target, held_by: tuple[str, ...], clashes: Mapping[str, str]) -> str | None:
    for name in held_by:
        if name in clashes:
            return f"shares part of its memory with {clashes[name]!r}, so writing one would change the other"
    for tensor in target.parameters:
        reason = why_unwritable(tensor)
        if reason is not None:
            return reason
    return _why_no_inverse(target)


def _why_no_inverse(target: Target) -> str | None:
    if isinstance(target, ShardedComputedTarget):
        return _why_no_inverse(target.on_one_process)
    return target.why_unwritable() if isinstance(target, ParametrizedTarget) else None


def _device(materialize: torch.device | str | bool) -> torch.device | None:
    if isinstance(materialize, bool):
        return torch.device("cpu") if materialize else None
    return torch.device(materialize)
