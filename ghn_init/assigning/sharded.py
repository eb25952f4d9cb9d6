"""Computed tensors (weight norm and its like) whose parts are sharded over processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.assigning.journal import Journal
from ghn_init.assigning.targets import Target, store
from ghn_init.parallel import copy_undistributed, is_distributed, local_part


class ShardedComputedTarget:
    """Written on a whole twin of its module, of which this process keeps its shards.

    Args:
        module: The module that computes it.
        target_of: The target of a module, on one process.
    """

    def __init__(self, module: nn.Module, target_of: Callable[[nn.Module], Target]) -> None:
        self.module, self.target_of = module, target_of
        self.name = self.on_one_process.name

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that the module computes the weight from."""
        return self.on_one_process.parameters

    @property
    def on_one_process(self) -> Target:
        """The target that the module would have if nothing were sharded."""
        return self.target_of(self.module)

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Write ``value`` into the twin as on one process, and its parts into this process's shards."""
        twin = _whole_twin(self.module)
        target = self.target_of(twin)
        with Journal() as scratch:
            remark = target.write(value, scratch)
        for part, whole in zip(self.parameters, target.parameters, strict=True):
            store(self.name, whole, part, journal)
        for buffer, computed in zip(self.module.buffers(), twin.buffers(), strict=True):
            journal.save(local_part(buffer))
            local_part(buffer).copy_(local_part(computed))
        return remark


def _whole_twin(module: nn.Module) -> nn.Module:
    """A copy with whole parameters, whose values are to be written, for sharded ones."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        if is_distributed(parameter):
            device = local_part(parameter).device
            whole = torch.zeros(parameter.shape, dtype=parameter.dtype, device=device)
            memo[id(parameter)] = nn.Parameter(whole, requires_grad=False)
    for attribute in module.__dict__.values():
        # What a hook computed before the last forward: it belongs to a backward graph and cannot be copied.
        if isinstance(attribute, Tensor):
            memo[id(attribute)] = torch.empty(0)
    return copy_undistributed(module, memo)
