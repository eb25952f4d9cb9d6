"""How good a network with predicted weights is: accuracy at once, or after a few cheap steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.ranking.evidence import Evidence, logits, moved


@torch.no_grad()
def correct(model: nn.Module, data: Evidence, classes: int, device: torch.device) -> Tensor:
    """Which examples are classified correctly, ``(N,)`` bool on the CPU; not-finite logits are wrong.

    The model is in evaluation mode; batch norms use the batch where they keep no statistics.
    """
    model.eval()
    found = []
    for inputs, labels in zip(data.inputs, data.labels, strict=True):
        scores = logits(model, moved(inputs, device), classes).float()
        right = (scores.argmax(1).cpu() == labels) & scores.isfinite().all(1).cpu()
        found.append(right)
    return torch.cat(found)


def take_steps(
    model: nn.Module, data: Evidence, classes: int, device: torch.device, *, steps: int, lr: float
) -> list[float]:
    """Train in place: AdamW with a cosine from ``lr`` to 0, gradient norm at most 1, batches in order.

    A step whose gradient is not finite is left out.

    Returns:
        Cross-entropy in nats on each step's batch, before the step.
    """
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    with torch.enable_grad():
        for step in range(steps):
            index = step % len(data.labels)
            optimizer.zero_grad(set_to_none=True)
            scores = logits(model, moved(data.inputs[index], device), classes)
            loss = F.cross_entropy(scores, data.labels[index].to(device))
            loss.backward()
            losses.append(float(loss.detach()))
            if torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
                optimizer.step()
            schedule.step()
    return losses
