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
    model: nn.Module,
    data: Evidence,
    classes: int,
    device: torch.device,
    *,
    steps: int,
    lr: float,
) -> None:
    """Train in place as the first steps of the recipe do: AdamW, gradient norm at most 1, batches in order.

    The steps are the first eighth of a cycle, whose learning rate rises to ``lr`` over a tenth: from its
    peak at once, networks with attention learn little in so few steps. A step whose gradient is not finite is
    left out.

    Args:
        model: Anything that takes the inputs and gives logits.
        data: Labelled batches, used again from the first where there are fewer than steps.
        classes: One more than the largest label.
        device: Of the model.
        steps: Updates.
        lr: Peak learning rate.
    """
    model.train()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=8 * steps, pct_start=0.1)
    with torch.enable_grad():
        for step in range(steps):
            index = step % len(data.labels)
            optimizer.zero_grad(set_to_none=True)
            scores = logits(model, moved(data.inputs[index], device), classes)
            F.cross_entropy(scores, data.labels[index].to(device)).backward()
            if torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
                optimizer.step()
            schedule.step()
