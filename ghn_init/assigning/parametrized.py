"""Tensors that a module computes from others: weight norm, spectral norm, any ``parametrize`` chain."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from ghn_init.assigning.journal import Journal
from ghn_init.assigning.targets import RefusedError, Target, check_finite, store

POWER_ITERATIONS = 100
"""Upper limit of power iterations after a write under spectral norm."""


class ParametrizedTarget:
    """A tensor under :mod:`torch.nn.utils.parametrize`, written through ``right_inverse``."""

    def __init__(self, name: str, module: nn.Module, attribute: str) -> None:
        self.name = name
        self.chain: parametrize.ParametrizationList = module.parametrizations[attribute]  # type: ignore

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensors that the chain starts from."""
        if self.chain.is_tensor:
            return (self.chain.original,)
        return tuple(getattr(self.chain, f"original{i}") for i in range(self.chain.ntensors))

    def why_unwritable(self) -> str | None:
        """Reason why nothing can be written through the chain, as far as it shows beforehand."""
        for step in self.chain:
            if not hasattr(step, "right_inverse"):
                return f"is computed by {type(step).__name__}, which has no right_inverse"
        return None

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Write the right inverse of ``value``."""
        originals = self.parameters
        check_finite(self.name, value, originals[0].dtype)
        value = value.detach().to(originals[0])
        _save_buffers(self.chain, journal)
        try:
            inverse = self._inverse(value)
        except (NotImplementedError, ValueError) as error:
            raise RefusedError(f"its parametrization refused the value: {error}") from error
        for original, part in zip(originals, inverse, strict=True):
            store(self.name, part, original, journal)
        if any(isinstance(step, _SpectralNorm) for step in self.chain):
            with _mode(self.chain, training=True):
                _until_steady(self.chain)
        with _mode(self.chain, training=False):
            return difference(self.chain(), value, " and ".join(type(s).__name__ for s in self.chain))

    def _inverse(self, value: Tensor) -> tuple[Tensor, ...]:
        result = value
        for step in reversed(list(self.chain)):
            result = step.right_inverse(result)  # type: ignore[operator]
        return (result,) if isinstance(result, Tensor) else tuple(result)


class WeightNormTarget:
    """A tensor under the hook of :func:`torch.nn.utils.weight_norm` (before parametrizations)."""

    def __init__(self, name: str, module: nn.Module, hook: WeightNorm) -> None:
        self.name, self.module, self.hook = name, module, hook

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Norms and directions."""
        return getattr(self.module, f"{self.hook.name}_g"), getattr(self.module, f"{self.hook.name}_v")

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Write the norms of ``value`` and ``value`` itself as directions: exact."""
        norms, directions = self.parameters
        journal.save(norms)
        store(self.name, value, directions, journal)
        norms.detach().copy_(torch.norm_except_dim(directions.detach(), 2, self.hook.dim))
        journal.save_attribute(self.module, self.hook.name)
        setattr(self.module, self.hook.name, self.hook.compute_weight(self.module))
        return difference(getattr(self.module, self.hook.name), value, "weight_norm")


class SpectralNormTarget:
    """A tensor under the hook of :func:`torch.nn.utils.spectral_norm` (before parametrizations)."""

    def __init__(self, name: str, module: nn.Module, hook: SpectralNorm) -> None:
        self.name, self.module, self.hook = name, module, hook

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensor before it is divided by its largest singular value."""
        return (getattr(self.module, f"{self.hook.name}_orig"),)

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Write ``value`` and let the power iteration find its singular vectors."""
        original = self.parameters[0]
        for part in "uv":
            journal.save(getattr(self.module, f"{self.hook.name}_{part}"))
        store(self.name, value, original, journal)
        journal.save_attribute(self.module, self.hook.name)
        weight = _until_steady(lambda: self.hook.compute_weight(self.module, do_power_iteration=True))
        setattr(self.module, self.hook.name, weight)
        return difference(weight, value, "spectral_norm")


class PrunedTarget:
    """A tensor under a mask of :mod:`torch.nn.utils.prune`."""

    def __init__(self, name: str, module: nn.Module, hook: BasePruningMethod) -> None:
        self.name, self.module, self.hook = name, module, hook
        self.attribute: str = hook._tensor_name

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The tensor before it is masked."""
        return (getattr(self.module, f"{self.attribute}_orig"),)

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Write ``value`` before the mask."""
        original = self.parameters[0]
        store(self.name, value, original, journal)
        journal.save_attribute(self.module, self.attribute)
        setattr(self.module, self.attribute, self.hook.apply_mask(self.module))
        return difference(getattr(self.module, self.attribute), value, "the pruning mask")


def hooked_target(name: str, module: nn.Module, attribute: str) -> Target | None:
    """The target of a tensor that a forward pre-hook of torch computes, if there is one."""
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and hook.name == attribute:
            return WeightNormTarget(name, module, hook)
        if isinstance(hook, SpectralNorm) and hook.name == attribute:
            return SpectralNormTarget(name, module, hook)
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == attribute:
            return PrunedTarget(name, module, hook)
    return None


def difference(effective: Tensor, value: Tensor, cause: str) -> str | None:
    """A remark if the weight that the model computes with is not ``value`` up to rounding.

    Raises:
        RefusedError: The effective weight is NaN or infinite.
    """
    effective = effective.detach()
    wanted = value.to(effective)
    gap = torch.linalg.vector_norm((effective - wanted).double())
    relative = float(gap / torch.linalg.vector_norm(wanted.double()).clamp_min(1e-30))
    if not math.isfinite(relative):
        raise RefusedError(f"{cause} makes the effective weight NaN or infinite")
    if relative <= 8 * torch.finfo(effective.dtype).eps:
        return None
    return f"written, but {cause} makes the effective weight differ by {relative:.2g} (relative L2)"


def _until_steady(compute) -> Tensor:  # type: ignore[no-untyped-def]
    """Repeat a power iteration until the weight that it yields no longer moves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        weight = compute().detach()
        for _ in range(POWER_ITERATIONS):
            before, weight = weight, compute().detach()
            if torch.allclose(before, weight, rtol=1e-5, atol=0.0):
                break
    return weight


def _save_buffers(chain: nn.Module, journal: Journal) -> None:
    for module in chain.modules():
        for key, buffer in module._buffers.items():
            if buffer is not None:
                journal.save(buffer)
            journal.save_attribute(module, key)


@contextmanager
def _mode(chain: nn.Module, *, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in chain.modules()]
    chain.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
