"""Wrappers around a module that rename its parameters without changing the architecture."""

from __future__ import annotations

import sys

from torch import nn

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside ``torch.compile`` and data-parallel wrappers; names of parameters are then its names.

    A prediction depends on the architecture alone, so the ranks of a data-parallel group write the same
    bits into the module inside without communication.
    """
    while True:
        inner = model.module if isinstance(model, _PARALLEL) else compiled_module(model)
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def compiled_module(model: nn.Module) -> nn.Module | None:
    """The module that ``torch.compile`` wrapped into this one, if this is such a wrapper."""
    # No wrapper is made before dynamo is imported, which is slow.
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    if dynamo is None or not isinstance(model, dynamo.OptimizedModule):
        return None
    return model._orig_mod  # type: ignore[no-any-return]
