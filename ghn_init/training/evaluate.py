"""How good predicted parameters are: accuracy before any training step, and along ordinary training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ghn_init.batchnorm import calibrate_batchnorm
from ghn_init.errors import ConfigError, DataError
from ghn_init.ghn import GHN
from ghn_init.training.data import IMAGE_SIZE, ImageData
from ghn_init.training.order import Shuffled
from ghn_init.training.spaces import Architecture
from ghn_init.training.targets import prepare_target, trace_target

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, momentum=0.9, weight_decay=3e-4),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.02),
}


@dataclass(frozen=True)
class ZeroShot:
    """Accuracies before any training step.

    Attributes:
        accuracies: Name of the network → share of the test images classified correctly.
        failed: Name → why a network could not be evaluated.
    """

    accuracies: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the networks."""
        return statistics.fmean(self.accuracies.values())

    @property
    def standard_error(self) -> float:
        """Standard error of the mean over the networks; 0 for one network."""
        values = list(self.accuracies.values())
        return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0

    def __str__(self) -> str:
        values = list(self.accuracies.values())
        return (
            f"mean {100 * self.mean:.1f} ± {100 * self.standard_error:.1f} %, "
            f"median {100 * statistics.median(values):.1f}, max {100 * max(values):.1f}, "
            f"min {100 * min(values):.1f} over {len(values)} networks"
        )


@torch.no_grad()
def accuracy(
    predict: Callable[[Tensor], Tensor], data: ImageData, batch_size: int = 64, image_size: int = IMAGE_SIZE
) -> float:
    """Share of the images whose largest logit is at their label; non-finite logits count as wrong.

    Args:
        predict: Images ``(B, 3, S, S)`` to logits ``(B, K)``; a module in evaluation mode, for example.
        data: The images.
        batch_size: Images for each call; it matters where batch norms use the batch.
        image_size: Side of the images in pixels.
    """
    right = 0
    for images, labels in data.batches(batch_size, image_size):
        logits = predict(images)
        finite = logits.isfinite().all(1)
        right += int(((logits.argmax(1) == labels) & finite).sum())
    return right / len(data)


@torch.no_grad()
def zero_shot(
    ghn: GHN, architectures: Mapping[str, Architecture | nn.Module], data: ImageData, batch_size: int = 64
) -> ZeroShot:
    """Accuracy of predicted parameters before any training step; batch norms use the batch.

    Args:
        ghn: The GHN.
        architectures: Name → architecture to build, or a module (left as it is).
        data: Test images.
        batch_size: Images for each call.

    Raises:
        DataError: The images have another number of classes than the GHN predicts.
    """
    if ghn.config.num_classes != len(data.classes):
        raise DataError(
            f"{data.source} has {len(data.classes)} classes, the GHN predicts {ghn.config.num_classes}: its "
            "predictions can only be evaluated on images like those of its training"
        )
    found: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name, architecture in architectures.items():
        try:
            if isinstance(architecture, Architecture):
                target = prepare_target(architecture, ghn)
            else:
                target = trace_target(architecture, ghn)
            tensors = ghn.predict(target.graph)
        except (RuntimeError, ValueError) as error:
            failed[name] = str(error)
            continue
        found[name] = accuracy(lambda images, t=target, p=tensors: t(p, images), data, batch_size)
    return ZeroShot(found, failed)


@dataclass(frozen=True)
class Curve:
    """Accuracy on test images along a training.

    Attributes:
        steps: Numbers of updates done.
        accuracies: Share of the test images classified correctly after them.
    """

    steps: list[int]
    accuracies: list[float]


def fine_tune(
    model: nn.Module,
    data: ImageData,
    test: ImageData,
    *,
    steps: int = 200,
    batch_size: int = 64,
    lr: float = 0.025,
    marks: Sequence[int] = (),
    seed: int = 0,
    optimizer: str = "sgd",
    on_step: Callable[[int, float], None] | None = None,
) -> Curve:
    """Ordinary training in place, gradient norm at most 5, learning rate falling to zero by a cosine.

    Args:
        model: Takes ``(B, 3, 32, 32)``; changed.
        data: Training images; their order depends on ``seed`` alone.
        test: Images on which accuracy is measured, in evaluation mode, after the running statistics of batch
            norms were estimated from the first training images (:func:`ghn_init.calibrate_batchnorm`).
        steps: Updates.
        batch_size: Images for each update.
        lr: Peak learning rate.
        marks: Numbers of updates after which accuracy is measured; 0 = before the first one.
        seed: Of the order of the images and of the model's own random choices (dropout).
        optimizer: ``sgd`` (momentum .9, weight decay 3e-4) or ``adamw`` (weight decay .02).
        on_step: Called after each update with its number and loss.

    Raises:
        DataError: There are fewer images than one batch needs.
        ConfigError: The optimiser is neither of the two.
    """
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"unknown optimiser {optimizer!r}; known: {', '.join(OPTIMIZERS)}")
    if len(data) < batch_size:
        raise DataError(f"{data.source}: {len(data)} images are fewer than one batch of {batch_size}")
    order = Shuffled(len(data), seed)
    update = OPTIMIZERS[optimizer](model.parameters(), lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(update, steps)
    curve = Curve([], [])
    wanted = set(marks) | {steps}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for step in range(steps + 1):
            if step in wanted:
                curve.accuracies.append(calibrated_accuracy(model, data, test))
                curve.steps.append(step)
            if step == steps:
                break
            chosen = torch.tensor(order.take(step * batch_size, batch_size))
            loss = _sgd_step(model, *data.batch(chosen), update)
            schedule.step()
            if on_step is not None:
                on_step(step + 1, loss)
    return curve


def calibrated_accuracy(model: nn.Module, data: ImageData, test: ImageData, images: int = 512) -> float:
    """Accuracy on ``test`` in evaluation mode, batch norms calibrated on the first ``images`` of ``data``."""
    model.eval()
    if any(isinstance(m, _NormBase) and m.running_mean is not None for m in model.modules()):
        calibrate_batchnorm(model, data.head(images).batches(128))
    return accuracy(model, test)


def _sgd_step(model: nn.Module, images: Tensor, labels: Tensor, optimizer: torch.optim.Optimizer) -> float:
    model.train()
    optimizer.zero_grad(set_to_none=True)
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    if torch.isfinite(norm):
        optimizer.step()
    return float(loss.detach())
