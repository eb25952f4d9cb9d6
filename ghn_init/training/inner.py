"""What one target network says of its predicted parameters: gradients along a few plain training steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.errors import DataError
from ghn_init.training.batches import Batch, Loss
from ghn_init.training.targets import TargetNet


@dataclass(frozen=True)
class InnerResult:
    """Gradients of one target network.

    Attributes:
        gradients: Parameter name → mean gradient over the steps, shape of the parameter.
        losses: Loss before each step (the first one is that of the bare prediction).
        accuracy: Share of the first batch that the bare prediction classifies correctly; NaN where
            targets are no classes.
    """

    gradients: dict[str, Tensor]
    losses: list[float]
    accuracy: float


def inner_gradients(
    target: TargetNet,
    predicted: Mapping[str, Tensor],
    batches: Sequence[Batch],
    lr: float,
    clip: float = 5.0,
    loss: Loss = F.cross_entropy,
) -> InnerResult | None:
    """Takes plain gradient steps on the predicted parameters and returns the mean of the steps' gradients.

    First-order: the gradient with respect to the stepped parameters stands for that with respect to the
    prediction (Finn et al. 2017, section 5.2; Nichol et al. 2018). With one batch it is the ordinary
    gradient of the GHN's objective.

    Args:
        target: The network.
        predicted: Parameter name → prediction; not changed, no gradient flows here.
        batches: One ``(inputs, targets)`` for each step.
        lr: Step size.
        clip: Largest norm of one step's gradient.
        loss: Outputs and targets to a number.

    Returns:
        The result, or None if a loss or a gradient is not finite.

    Raises:
        DataError: The loss cannot be computed of these outputs and targets.
    """
    names = list(predicted)
    values = [predicted[name].detach() for name in names]
    total: list[Tensor] = []
    losses: list[float] = []
    accuracy = 0.0
    for index, (inputs, targets) in enumerate(batches):
        leaves = [value.requires_grad_() for value in values]
        outputs = target(dict(zip(names, leaves, strict=True)), inputs)
        value = _loss(loss, outputs, targets)
        losses.append(float(value.detach()))
        if not torch.isfinite(value):
            return None
        if index == 0:
            accuracy = _accuracy(outputs.detach(), targets)
        gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
        gradients = _clipped(gradients, clip)
        if gradients is None:
            return None
        total = [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
        if index + 1 < len(batches):
            values = [leaf.detach() - lr * g for leaf, g in zip(leaves, gradients, strict=True)]
    mean = [gradient / len(batches) for gradient in total]
    return InnerResult(dict(zip(names, mean, strict=True)), losses, accuracy)


def with_norm_penalty(
    gradients: Mapping[str, Tensor], predicted: Mapping[str, Tensor], weight: float
) -> dict[str, Tensor]:
    """Adds the gradient of ``weight`` times the sum of the Frobenius norms of all predicted tensors.

    The predicted-parameter regularisation of GHN-3 (Knyazev et al. 2023, section 3.3), which uses 3e-5.
    """
    if not weight:
        return dict(gradients)
    tiny = torch.finfo(torch.float32).tiny  # the norm has no gradient at 0, where it is taken as 0
    values = {name: predicted[name].detach() for name in gradients}
    return {
        name: gradient + values[name] * (weight / values[name].norm().clamp_min(tiny))
        for name, gradient in gradients.items()
    }


def _loss(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    try:
        value = loss(outputs, targets)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        got = f"outputs {tuple(outputs.shape)} and targets {targets.dtype} {tuple(targets.shape)}"
        if targets.numel() and not targets.is_floating_point():
            got += f" from {int(targets.min())} to {int(targets.max())}"
        raise DataError(f"the loss cannot be computed of {got}: {error}") from error
    if value.ndim:
        raise DataError(f"the loss gave a tensor of shape {tuple(value.shape)}, not one number")
    return value


def _accuracy(outputs: Tensor, targets: Tensor) -> float:
    """Share of targets that are the index of the largest output along dimension 1; NaN if they are none."""
    if targets.is_floating_point() or outputs.ndim < 2 or targets.shape != outputs.select(1, 0).shape:
        return math.nan
    return float((outputs.argmax(1) == targets).float().mean())


def _clipped(gradients: Sequence[Tensor], limit: float) -> list[Tensor] | None:
    """The gradients scaled to a joint norm of at most ``limit``; None if the norm is not finite."""
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
    if not math.isfinite(norm):
        return None
    return list(gradients) if norm <= limit else [gradient * (limit / norm) for gradient in gradients]
