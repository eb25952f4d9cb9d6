"""Wrappers around a module that rename its parameters without changing the architecture."""

from __future__ import annotations

from torch import nn

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and data-parallel wrappers; names of parameters are then its names.

    A prediction depends on the architecture alone, so the ranks of a data-parallel group write the same
    bits into the module inside without communication.
    """
    while True:
        inner = model.module if isinstance(model, _PARALLEL) else getattr(model, "_orig_mod", None)
        if not isinstance(inner, nn.Module):
            return model
        model = inner
