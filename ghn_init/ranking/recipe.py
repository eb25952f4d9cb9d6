"""Training the best candidates in full: one recipe for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.api import apply
from ghn_init.errors import ConfigError, DataError
from ghn_init.isolation import own_generators
from ghn_init.logging import progress_bar
from ghn_init.ranking.candidates import Model, candidates
from ghn_init.ranking.evidence import evidence, example, image_data, logits, moved, parts_of
from ghn_init.ranking.processes import place
from ghn_init.ranking.ranking import Ranking
from ghn_init.ranking.scores import correct
from ghn_init.training.data import ImageData
from ghn_init.training.order import Shuffled


@dataclass(frozen=True)
class Trained:
    """A candidate after training.

    Attributes:
        name: Of the candidate.
        accuracy: Share of the test examples classified correctly.
        losses: Cross-entropy in nats on each step's batch.
        model: The trained module, in evaluation mode.
    """

    name: str
    accuracy: float
    losses: list[float] = field(repr=False)
    model: nn.Module = field(repr=False)


def train_best(
    ranking: Ranking,
    models: Mapping[str, Model] | Iterable[Model],
    data: Any,
    test_data: Any,
    *,
    top: int = 3,
    steps: int = 2000,
    lr: float = 2e-3,
    batch_size: int = 64,
    ghn: Any = None,
    seed: int = 0,
    device: Any = None,
    progress: bool | None = None,
) -> list[Trained]:
    """Train the best candidates of a ranking in full, all by :func:`train`.

    Args:
        ranking: Which are best.
        models: The candidates that :func:`ghn_init.rank` was given, or those of a search. Modules are copied.
        data: Labelled examples to train on, as for :func:`ghn_init.rank`.
        test_data: Labelled examples that test; others than those that ranked, for an honest number.
        top: How many to train.
        steps: Updates of each.
        lr: Peak learning rate.
        batch_size: Of data that comes as tensors or images.
        ghn: Start from weights that this GHN predicts; by default from the candidates' own initial weights.
        seed: Of the initial weights and the order of the data.
        device: Where to train; by default the CPU, or the process's device under ``accelerate launch``.
        progress: Show a progress bar; by default where stderr is a terminal.

    Returns:
        The trained candidates, the most accurate first.

    Raises:
        ConfigError: A number is out of range, or a candidate of the ranking is not among ``models``.
        DataError: The data is empty or malformed.
    """
    if top < 1 or steps < 1:
        raise ConfigError(f"top and steps must be at least 1, got {top} and {steps}")
    known = {candidate.name: candidate for candidate in candidates(models)}
    names = ranking.names[:top]
    missing = [name for name in names if name not in known]
    if missing or not names:
        raise ConfigError(f"models has no candidate called {missing[0]}" if missing else "nothing is ranked")
    test = evidence(test_data, images=10**9, batch_size=batch_size)
    where = place(device)
    trained = []
    with progress_bar(total=len(names) * steps, unit="step", show=progress) as bar:

        def count(step: int, loss: float) -> None:
            bar.update()

        for name in names:
            with own_generators(seed):
                model = known[name].build(test.classes, test.shape)
                _check_weights(name, model, ghn)
                if ghn is not None:
                    apply(model, ghn, seed=seed, materialize=where, example_inputs=example(test.inputs[0]))
                model.to(where)
                options: dict[str, Any] = {"steps": steps, "lr": lr, "batch_size": batch_size, "seed": seed}
                losses = train(model, data, on_step=count, **options)
            right = correct(model, test, test.classes, where)
            trained.append(Trained(name, float(right.float().mean()), losses, model))
    return sorted(trained, key=lambda found: -found.accuracy)


def train(
    model: nn.Module,
    data: Any,
    *,
    steps: int = 2000,
    lr: float = 2e-3,
    batch_size: int = 64,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> list[float]:
    """The recipe: train a classifier in place.

    AdamW with weight decay 0.02; the learning rate rises over the first tenth of the steps and falls along a
    cosine (one cycle); gradient norm at most 1; a step whose gradient is not finite is left out.

    Args:
        model: Anything that takes the inputs and gives logits.
        data: Tensors ``(inputs, labels)`` or images, shuffled with ``seed``; or batches in their own order,
            again and again.
        steps: Updates.
        lr: Peak learning rate.
        batch_size: Of tensors and images.
        seed: Of the order.
        on_step: Called after each update with its number and loss.

    Returns:
        Cross-entropy in nats on each step's batch.

    Raises:
        DataError: The data is empty or malformed.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(steps, 2), pct_start=0.1)
    losses: list[float] = []
    for inputs, labels in itertools.islice(_stream(data, batch_size, seed), steps):
        model.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.enable_grad():
            loss = F.cross_entropy(logits(model, moved(inputs, device), 1), labels.to(device))
            loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
            optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if on_step is not None:
            on_step(len(losses), losses[-1])
    return losses


def _stream(data: Any, batch_size: int, seed: int) -> Iterator[tuple[Any, Tensor]]:
    """Batches without end."""
    data = image_data(data, "train")
    if isinstance(data, ImageData):
        yield from _shuffled(data.batch, len(data), batch_size, seed)
    elif isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        inputs, labels = data
        yield from _shuffled(lambda i: (inputs[i], labels[i]), len(labels), batch_size, seed)
    else:
        yield from _again_and_again(data)


def _shuffled(
    take: Callable[[Tensor], tuple[Any, Tensor]], count: int, batch_size: int, seed: int
) -> Iterator[tuple[Any, Tensor]]:
    if not count:
        raise DataError("the data holds no labelled example")
    order, size = Shuffled(count, seed), min(batch_size, count)
    for step in itertools.count():
        yield take(torch.tensor(order.take(step * size, size)))


def _again_and_again(batches: Iterable[Any]) -> Iterator[tuple[Any, Tensor]]:
    while True:
        count = 0
        for count, batch in enumerate(batches, 1):  # noqa: B007 - how many there were
            inputs, labels = parts_of(batch)
            yield inputs, labels.long()
        if not count:
            raise DataError("the data holds no labelled example, or goes by only once: give a list")


def _check_weights(name: str, model: nn.Module, ghn: Any) -> None:
    if ghn is None and any(parameter.is_meta for parameter in model.parameters()):
        raise ConfigError(f"{name} is on the meta device and has no weights to start from: give ghn=")
