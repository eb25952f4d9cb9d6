"""From the name of a predicted tensor to the memory of a live model that it is written into."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ghn_init.assigning.deferred import Pending
from ghn_init.assigning.journal import Journal
from ghn_init.errors import AssignError, PredictionError
from ghn_init.parallel import local_part, shard_like


class Target(Protocol):
    """One tensor of the model, as the architecture graph names it."""

    name: str

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameters that hold the tensor: one, or several for a parametrised tensor."""
        ...

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Store ``value``; what changes is saved in ``journal`` first.

        Returns:
            A remark where the model computes with something else than ``value``, else ``None``.

        Raises:
            RefusedError: The tensor cannot hold ``value``; the caller rolls back what of it has changed.
            PredictionError: ``value`` is not finite.
        """
        ...


class RefusedError(Exception):
    """A single tensor cannot be written, while the rest of the model can."""


class PlainTarget:
    """A parameter that the model reads directly."""

    def __init__(self, name: str, tensor: Tensor) -> None:
        self.name = name
        self.tensor = tensor

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The parameter itself."""
        return (self.tensor,)

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Copy ``value`` into the parameter's memory."""
        store(self.name, value, self.tensor, journal)
        return None


def store(name: str, value: Tensor, tensor: Tensor, journal: Journal) -> None:
    """Copy the whole ``value``, or this process's shard of it, into the memory of ``tensor``.

    Raises:
        AssignError: The shapes differ.
        PredictionError: A value is NaN or infinite, or too large for the dtype.
    """
    check_fit(name, value, tensor)
    journal.save(local_part(tensor))
    fill(value, tensor)


def fill(value: Tensor, tensor: Tensor) -> None:
    """As :func:`store`, unchecked, and into memory whose old value nobody needs."""
    local_part(tensor).detach().copy_(shard_like(value.detach(), tensor))


def check_fit(name: str, value: Tensor | Pending, like: Tensor) -> None:
    """Check the shape of ``value``, and that its values can be stored in the dtype of ``like``.

    Raises:
        AssignError: The shapes differ.
        PredictionError: A value is NaN or infinite, or too large for the dtype.
    """
    if value.shape != like.shape:
        raise AssignError(
            f"parameter {name!r} has shape {tuple(like.shape)}, but the prediction for it has "
            f"shape {tuple(value.shape)}"
        )
    check_finite(name, value if isinstance(value, Tensor) else value.block, like.dtype)


def check_finite(name: str, value: Tensor, dtype: torch.dtype) -> None:
    """Check that ``value`` can be stored in ``dtype``.

    Raises:
        PredictionError: A value is NaN or infinite, or too large for the dtype.
    """
    # The extremes are NaN if any value is, and infinite if the largest is; no mask is allocated.
    if value.numel() == 0 or all(bool(each.to(dtype).isfinite()) for each in torch.aminmax(value.detach())):
        return
    bad = int((~torch.isfinite(value)).sum())
    cause = (
        f"{bad} of {value.numel()} values are NaN or infinite: the GHN's weights are damaged or diverged"
        if bad
        else f"values up to {float(value.abs().max()):.3g} do not fit {dtype}"
    )
    raise PredictionError(f"the prediction for parameter {name!r} cannot be written: {cause}")


def locate(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The module that owns the tensor ``name``, and the attribute under which it does.

    Raises:
        AssignError: There is no such tensor.
    """
    path, _, attribute = name.rpartition(".")
    module: Any = model
    for part in path.split(".") if path else ():
        module = getattr(module, part, None)
        if not isinstance(module, nn.Module):
            raise AssignError(f"the model has no module {path!r}, of which {name!r} would be a parameter")
    if not hasattr(type(module), attribute) and not _has_tensor(module, attribute):
        raise AssignError(f"module {path!r} ({type(module).__name__}) has no tensor {attribute!r}")
    return module, attribute


def _has_tensor(module: nn.Module, attribute: str) -> bool:
    if attribute in module._parameters:
        return module._parameters[attribute] is not None
    return isinstance(module._buffers.get(attribute, module.__dict__.get(attribute)), Tensor)
