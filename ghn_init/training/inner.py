"""What one target network says of its predicted parameters: gradients along a few plain training steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.training.targets import TargetNet


@dataclass(frozen=True)
class InnerResult:
    """Gradients of one target network.

    Attributes:
        gradients: Parameter name → mean gradient over the steps, shape of the parameter.
        losses: Loss before each step (the first one is that of the bare prediction).
        accuracy: Share of the first batch that the bare prediction classifies correctly.
    """

    gradients: dict[str, Tensor]
    losses: list[float]
    accuracy: float


def inner_gradients(
    target: TargetNet,
    predicted: Mapping[str, Tensor],
    batches: Sequence[tuple[Tensor, Tensor]],
    lr: float,
    clip: float = 5.0,
) -> InnerResult | None:
    """Takes plain gradient steps on the predicted parameters and returns the mean of the steps' gradients.

    First-order: the gradient with respect to the stepped parameters stands for that with respect to the
    prediction (Finn et al. 2017, section 5.2; Nichol et al. 2018). With one batch it is the ordinary
    gradient of the GHN's objective.

    Args:
        target: The network.
        predicted: Parameter name → prediction; not changed, no gradient flows here.
        batches: One ``(images, labels)`` for each step.
        lr: Step size.
        clip: Largest norm of one step's gradient.

    Returns:
        The result, or None if a loss or a gradient is not finite.
    """
    names = list(predicted)
    values = [predicted[name].detach() for name in names]
    total: list[Tensor] = []
    losses: list[float] = []
    accuracy = 0.0
    for index, (images, labels) in enumerate(batches):
        leaves = [value.requires_grad_() for value in values]
        logits = target(dict(zip(names, leaves, strict=True)), images)
        loss = F.cross_entropy(logits, labels)
        losses.append(float(loss.detach()))
        if not torch.isfinite(loss):
            return None
        if index == 0:
            accuracy = float((logits.detach().argmax(1) == labels).float().mean())
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
        gradients = _clipped(gradients, clip)
        if gradients is None:
            return None
        total = [a + b for a, b in zip(total, gradients, strict=True)] if total else gradients
        if index + 1 < len(batches):
            values = [leaf.detach() - lr * g for leaf, g in zip(leaves, gradients, strict=True)]
    mean = [gradient / len(batches) for gradient in total]
    return InnerResult(dict(zip(names, mean, strict=True)), losses, accuracy)


def _clipped(gradients: Sequence[Tensor], limit: float) -> list[Tensor] | None:
    """The gradients scaled to a joint norm of at most ``limit``; None if the norm is not finite."""
    norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients])))
    if not math.isfinite(norm):
        return None
    return list(gradients) if norm <= limit else [gradient * (limit / norm) for gradient in gradients]
