"""What a tensor's memory allows: can it be written, and does it overlap with another parameter's."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
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
        AssignError: The parameter is lazy, or expanded (several elements share one memory cell).
    """
    if is_lazy(tensor):
        raise AssignError(
            f"parameter {name!r} is lazy and has no shape yet: run one forward with real data first"
        )
    if tensor.is_meta or is_traceable_wrapper_subclass(tensor):
        return
    if any(stride == 0 and size > 1 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        raise AssignError(
            f"parameter {name!r} of shape {tuple(tensor.shape)} is expanded (strides {tensor.stride()}): "
            "several elements share one memory cell; replace it by its .clone()"
        )


def memory_key(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors exactly if they are the same view of the same memory."""
    if tensor.is_meta or is_traceable_wrapper_subclass(tensor) or tensor.numel() == 0:
        return (id(tensor),)
    return tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def overlapping(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Name → name of another tensor that shares some, but not exactly the same, memory with it."""
    by_storage: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        if tensor.is_meta or is_traceable_wrapper_subclass(tensor) or tensor.numel() == 0:
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
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset()) * tensor.element_size()
    return start, start + (reach + 1) * tensor.element_size()


def _overlap(first: Tensor, second: Tensor) -> bool:
    if memory_key(first) == memory_key(second):
        return False
    if first.dtype != second.dtype:
        return True
    cells = torch.zeros(max(_byte_range(t)[1] // t.element_size() for t in (first, second)), dtype=torch.bool)
    torch.as_strided(cells, first.shape, first.stride(), first.storage_offset()).fill_(True)
    return bool(torch.as_strided(cells, second.shape, second.stride(), second.storage_offset()).any())
