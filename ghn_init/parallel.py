"""Models spread over processes: DTensors, the classes and hooks of ``torch.distributed``, their groups."""

from __future__ import annotations

import copy
import functools
import inspect
import sys
import types
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.copying import copied_plainly, copied_state, make_shells

_HOME = "torch.distributed"
_STATE = "__composable_api"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


def is_distributed(tensor: Tensor) -> bool:
    """Whether ``tensor`` is a DTensor (FSDP2, tensor parallel)."""
    if type(tensor) in (Tensor, nn.Parameter) or not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def local_part(tensor: Tensor) -> Tensor:
    """The memory of ``tensor`` on this process: a DTensor's shard, else the tensor itself."""
    return tensor.to_local() if is_distributed(tensor) else tensor  # type: ignore[attr-defined]


def whole_value(tensor: Tensor) -> Tensor | None:
    """The tensor where this process has all of it; ``None`` for a DTensor that is not replicated."""
    if not is_distributed(tensor):
        return tensor
    replicated = all(each.is_replicate() for each in tensor.placements)  # type: ignore[attr-defined]
    return local_part(tensor) if replicated else None


def shard_like(value: Tensor, tensor: Tensor) -> Tensor:
    """The part of ``value`` that this process holds of ``tensor``; nothing is communicated."""
    if not is_distributed(tensor):
        return value
    from torch.distributed.tensor import DTensor, Replicate, distribute_tensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    # Every rank predicts the same bits, so each cuts its own shard.
    if _cuts_locally():
        return distribute_tensor(value, mesh, placements, src_data_rank=None).to_local()
    whole = DTensor.from_local(value, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return whole.redistribute(mesh, placements).to_local()


@functools.cache
def _cuts_locally() -> bool:
    """Whether ``distribute_tensor`` can do without communication: since torch 2.7."""
    from torch.distributed.tensor import distribute_tensor

    return "src_data_rank" in inspect.signature(distribute_tensor).parameters


def with_memory(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor like one on the meta device, sharded like it, with memory on ``device``."""
    memory = torch.empty_like(local_part(tensor), device=device, requires_grad=False)
    if not is_distributed(tensor):
        return memory
    from torch.distributed.tensor import DTensor

    mesh, placements = tensor.device_mesh, tensor.placements  # type: ignore[attr-defined]
    return DTensor.from_local(
        memory, mesh, placements, run_check=False, shape=tensor.shape, stride=tensor.stride()
    )


def reshard(model: nn.Module) -> None:
    """Let ``fully_shard`` free the whole parameters that it kept after a forward; shards are all it keeps."""
    # Not imported by then, it made no module of the model; and older versions of torch lack it.
    kind: Any = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
    for module in model.modules():
        if isinstance(module, kind):
            module.reshard()  # type: ignore[operator]


def process_groups(model: nn.Module) -> list[tuple[Any, torch.device]]:
    """Groups of the ranks that hold a model together, in its order, each with the device to communicate on.

    Those of the meshes of DTensors, dimension by dimension, and of ``DistributedDataParallel``.
    """
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return []
    found: dict[str, tuple[Any, torch.device]] = {}
    for module in model.modules():
        if isinstance(module, nn.parallel.DistributedDataParallel):
            group: Any = module.process_group
            found[group.group_name] = (group, next(module.parameters()).device)
    for tensor in filter(is_distributed, model.parameters()):
        mesh: Any = tensor.device_mesh  # type: ignore[attr-defined]
        for dimension in range(mesh.ndim if mesh.get_coordinate() is not None else 0):
            group = mesh.get_group(dimension)
            found[group.group_name] = (group, torch.device(mesh.device_type))
    return list(found.values())


def copy_undistributed(model: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Deep copy without what spreads the model over processes.

    Left out are the classes that ``fully_shard`` and ``replicate`` put before a module's own, forward hooks
    of ``torch.distributed``, and replaced forwards around a device mesh (tensor parallelism). They move
    tensors between processes; what the model computes is the same without them.

    Args:
        model: The user's model; only read.
        memo: The deep copy's memo; filled.
    """
    shells: list[tuple[nn.Module, type[nn.Module]]] = []
    kept_hooks: list[tuple[OrderedDict[Any, Any], dict[Any, Any]]] = []
    for module in model.modules():
        own = own_class(type(module))
        if id(module) not in memo and (own is not type(module) or copied_plainly(own)):
            shells.append((module, own))
        for name in _HOOKS:
            hooks = module.__dict__[name]
            if not hooks:
                continue
            kept = {key: hook for key, hook in hooks.items() if not _distributes(hook)}
            if len(kept) < len(hooks):
                memo[id(hooks)] = OrderedDict()
                kept_hooks.append((memo[id(hooks)], kept))
    make_shells(shells, memo)
    for hooks, kept in kept_hooks:
        hooks.update(copy.deepcopy(kept, memo))
    for module, own in reversed(shells):
        state = copied_state(module, memo, without=None if own is type(module) else _STATE)
        memo[id(module)].__setstate__(state)
    copied = copy.deepcopy(model, memo)
    for module in copied.modules():
        if _distributes(module.__dict__.get("forward")):
            del module.__dict__["forward"]
    return copied


def own_class(kind: type[nn.Module]) -> type[nn.Module]:
    """The user's class under one that was made for it by ``torch.distributed``."""
    if not kind.__module__.startswith(_HOME):
        return kind
    below = next(each for each in kind.__mro__ if not each.__module__.startswith(_HOME))
    return kind if below is nn.Module else below


def _distributes(function: Any) -> bool:
    """Whether a hook or a replaced forward moves tensors between processes."""
    while isinstance(function, (functools.partial, types.MethodType)):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    if not isinstance(function, types.FunctionType):
        return False
    return function.__module__.startswith(_HOME) or any(map(_holds_mesh, function.__closure__ or ()))


def _holds_mesh(cell: Any) -> bool:
    mesh: Any = getattr(sys.modules.get("torch.distributed.device_mesh"), "DeviceMesh", ())
    try:
        return isinstance(cell.cell_contents, mesh)
    except ValueError:  # an empty cell
        return False
