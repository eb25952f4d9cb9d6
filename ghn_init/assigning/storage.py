"""What a tensor's memory allows: can it be written, and does it overlap with another parameter's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ghn_init.errors import AssignError
from ghn_init.parallel import is_distributed

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Dtypes that a predicted weight can be stored in without a quantiser."""


def why_unwritable(tensor: Tensor) -> str | None:
    """Reason why a prediction cannot be stored in ``tensor``; ``None`` if it can."""
    if is_traceable_wrapper_subclass(tensor) and not is_distributed(tensor):
        return f"is held by the tensor subclass {type(tensor).__name__}, whose storage is not plain numbers"
    if tensor.layout is not torch.strided:
        return f"has layout {tensor.layout}; a prediction is dense"
    if tensor.dtype not in FLOATING:
        return (
            f"has dtype {tensor.dtype}; a prediction can be stored as float64, float32, bfloat16 or float16"
        )
    if tensor.is_inference():
        return "was created in inference mode and can no longer be written"
    return None


def refuse_impossible(name: str, tensor: Tensor) -> None:
    """Raise for a parameter whose presence means that the model is not ready to be written.

    Raises:
        AssignError: The parameter is lazy or fake, or several of its elements share one memory cell (it is
            expanded, for example).
    """
    if is_lazy(tensor):
        raise AssignError(
            f"parameter {name!r} is lazy and has no shape yet: run one forward with real data first"
        )
    if isinstance(tensor, FakeTensor):
        raise AssignError(
            f"parameter {name!r} is a fake tensor and has no memory to write into: build the model outside "
            "of FakeTensorMode, or use ghn_init.predict"
        )
    if not _is_opaque(tensor) and _shares_cells(tensor):
        raise AssignError(
            f"parameter {name!r} of shape {tuple(tensor.shape)} has strides {tensor.stride()}: several of "
            "its elements share memory (it is expanded, or a window over itself); replace it by its .clone()"
        )


def _shares_cells(tensor: Tensor) -> bool:
    """Whether two elements of a tensor have the same address."""
    reach = 0
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and stride <= reach:
            # They may, or interleave: the cells are counted.
            return int(_marked(tensor, 0, _reach(tensor) + 1).sum()) < tensor.numel()
        reach += stride * (size - 1)
    return False


def memory_key(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors exactly if they are the same view of the same memory."""
    if _is_opaque(tensor):
        return (id(tensor),)
    strides = (stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if size > 1)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), *strides


def _is_opaque(tensor: Tensor) -> bool:
    """Whether a tensor has no memory of its own that could be compared with another's."""
    if tensor.is_meta or is_traceable_wrapper_subclass(tensor) or tensor.numel() == 0:
        return True
    return tensor.layout is not torch.strided or isinstance(tensor, FakeTensor)


def overlapping(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name → name of another tensor that shares some, but not exactly the same, memory with it."""
    by_storage: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if _is_opaque(tensor):
            continue
        by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
    found: dict[str, str] = {}
    for names in by_storage.values():
        names.sort(key=lambda name: _byte_range(tensors[name])[0])
        for position, name in enumerate(names):
            for other in names[position + 1 :]:
                if _byte_range(tensors[other])[0] >= _byte_range(tensors[name])[1]:
                    break
                if _overlap(tensors[name], tensors[other]):
                    found.setdefault(name, other)
                    found.setdefault(other, name)
    return found


def _byte_range(tensor: Tensor) -> tuple[int, int]:
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (_reach(tensor) + 1) * tensor.element_size()


def _reach(tensor: Tensor) -> int:
    """Elements from the first to the last one in memory."""
    return sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))


def _overlap(first: Tensor, second: Tensor) -> bool:
    if memory_key(first) == memory_key(second):
        return False
    if first.dtype != second.dtype:
        return True
    start = min(int(tensor.storage_offset()) for tensor in (first, second))
    length = max(int(t.storage_offset()) - start + _reach(t) + 1 for t in (first, second))
    cells = _marked(first, int(first.storage_offset()) - start, length)
    offset = int(second.storage_offset()) - start
    return bool(torch.as_strided(cells, second.shape, second.stride(), offset).any())


def _marked(tensor: Tensor, offset: int, length: int) -> Tensor:
    """Cells of memory, (length,), true where the tensor, which begins at ``offset``, has an element."""
    cells = torch.zeros(length, dtype=torch.bool)
    torch.as_strided(cells, tensor.shape, tensor.stride(), offset).fill_(True)
    return cells
