"""Rank candidate architectures by how well they do with predicted weights (Zhang et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ghn_init.default import resolve_ghn
from ghn_init.errors import ConfigError, DataError
from ghn_init.ghn import GHN
from ghn_init.logging import progress_bar
from ghn_init.ranking.assess import Task, takes_data
from ghn_init.ranking.candidates import Candidate, Model, candidates, check_shape
from ghn_init.ranking.evidence import Evidence, evidence, image_data
from ghn_init.ranking.processes import is_first, meet, place, run_all
from ghn_init.ranking.progress import Progress
from ghn_init.ranking.proxies import proxy_named
from ghn_init.ranking.ranking import Ranked, Ranking, unpack, with_intervals

_MISFITS = 3
"""After so many candidates that do not take the data, and none that does, it is asked whether any does."""


def rank(
    models: Mapping[str, Model] | Iterable[Model],
    data: Any,
    ghn: Any = True,
    *,
    images: int = 1000,
    batch_size: int = 64,
    steps: int = 0,
    lr: float = 2e-3,
    train_data: Any = None,
    proxies: Sequence[str] = (),
    measure_latency: bool = False,
    resume: Any = None,
    workers: int = 1,
    seed: int = 0,
    device: Any = None,
    progress: bool | None = None,
    **hub: Any,
) -> Ranking:
    """Rank candidate architectures before training any.

    Each candidate gets the weights that a GHN predicts and is scored on real data: the share of examples that
    it classifies correctly, batch norms using the batch. Candidates are built, scored and freed one at a
    time; modules that are given are copied and left as they are. One that cannot be built, traced or run is
    listed with its reason and the others are ranked.

    Args:
        models: Name → candidate, or candidates: modules (on the meta device too), timm names, callables
            without arguments, or architectures of :func:`ghn_init.ranking.sample_space`.
        data: Labelled examples: tensors ``(inputs, labels)``, batches of them, or ``"fashion-mnist"``.
        ghn: As for :func:`ghn_init.apply`. It must predict as many classes as the data has.
        images: Examples that score a candidate, in whole batches.
        batch_size: Of data that comes as tensors.
        steps: Cheap training steps from the predicted weights before scoring; 0 scores the prediction itself.
        lr: Their peak learning rate (AdamW).
        train_data: What the steps train on; by default every second batch of ``data``, which then does not
            score.
        proxies: Zero-cost proxies to compute beside: ``synflow``, ``naswot``, ``grad_norm``, or registered
            ones.
        measure_latency: Time a forward pass of one example, too.
        resume: File that keeps each finished candidate; what it holds for the same settings is not done
            again.
        workers: Processes; with more than one, candidates must be picklable. Under ``accelerate launch``, the
            processes of the launch share the candidates, each on its own device.
        seed: Of the candidates' own initial weights, what is kept of them, and the intervals' resamples.
        device: Where candidates run; by default the CPU, or the process's device under ``accelerate launch``.
        progress: Show a progress bar; by default where stderr is a terminal.
        **hub: As for :func:`ghn_init.apply`.

    Returns:
        The candidates, best first.

    Raises:
        ConfigError: No candidates, two of one name, an unknown proxy, or a number out of range.
        DataError: The data is empty, malformed, or has more classes than the GHN predicts.
        HubError: The GHN could not be loaded. CheckpointError: Its file is damaged.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    waiting = candidates(models)
    task = prepare(
        *(data, ghn),
        **{"images": images, "batch_size": batch_size, "steps": steps, "lr": lr, "train_data": train_data},
        **{"proxies": proxies, "measure_latency": measure_latency, "seed": seed, "device": device, **hub},
    )
    check_shape(waiting, task.score.shape)
    journal = Progress(resume, task.settings, first=is_first())
    meet()
    journal.read()
    meet()
    _assess_all(waiting, task, journal, workers, progress)
    return ranking_of([journal.rows[candidate.name] for candidate in waiting], task)


def prepare(
    data: Any,
    ghn: Any = True,
    *,
    images: int = 1000,
    batch_size: int = 64,
    steps: int = 0,
    lr: float = 2e-3,
    train_data: Any = None,
    proxies: Sequence[str] = (),
    measure_latency: bool = False,
    seed: int = 0,
    device: Any = None,
    **hub: Any,
) -> Task:
    """Load and check everything that scores candidates; arguments and errors as for :func:`rank`."""
    if steps < 0 or images < 1 or batch_size < 1:
        raise ConfigError(
            f"steps must be at least 0, images and batch_size at least 1; got {steps}, {images}, {batch_size}"
        )
    for name in proxies:
        proxy_named(name)
    loaded = resolve_ghn(ghn, **hub)
    scored, train = _evidence(data, train_data, images, batch_size, steps)
    _check(loaded, scored, train)
    return Task(
        *(loaded, scored, train, loaded.config.num_classes, steps, lr, tuple(proxies), measure_latency, seed),
        device=place(device),
    )


def ranking_of(rows: Sequence[Mapping[str, Any]], task: Task, **settings: Any) -> Ranking:
    """The ranking of what :func:`ghn_init.ranking.assess.assess` found."""
    images = len(task.score)
    entries = [Ranked(**row["entry"]) for row in rows]
    right = {row["entry"]["name"]: unpack(row["right"], images) for row in rows if row["right"]}
    ranked = with_intervals(entries, right, task.seed)
    return Ranking(ranked, images=images, settings={**task.settings, **settings})


def _assess_all(
    waiting: Sequence[Candidate], task: Task, journal: Progress, workers: int, progress: bool | None
) -> None:
    """Assess what the journal does not hold yet.

    Raises:
        DataError: No candidate takes the data, and the first ones run on inputs of their own.
    """
    todo = [candidate for candidate in waiting if candidate.name not in journal.rows]
    show = progress if is_first() else False
    passed = any(row["entry"]["error"] is None for row in journal.rows.values())
    misfits: list[str] = []
    with progress_bar(total=len(waiting), initial=len(waiting) - len(todo), unit="model", show=show) as bar:
        for row, ours in run_all(todo, task, workers):
            passed = passed or row["entry"]["error"] is None
            if row.pop("misfit", False):
                misfits.append(f"{row['entry']['name']}: {row['entry']['error']}")
            if not passed and len(misfits) >= min(_MISFITS, len(todo)):
                passed = any(takes_data(candidate, task) for candidate in todo)
                if not passed:
                    raise DataError(
                        f"no candidate takes the data, of shape {task.score.shape}: {'; '.join(misfits)}"
                    )
            journal.add(row, write=ours)
            bar.update()


def _check(ghn: GHN, scored: Evidence, train: Evidence | None) -> None:
    for part in (scored, train):
        if part is not None and part.classes > ghn.config.num_classes:
            raise DataError(
                f"the labels go up to {part.classes - 1}, and {ghn.source or 'the GHN'} predicts "
                f"{ghn.config.num_classes} classes: rank with a GHN that was trained for {part.classes}"
            )
    if train is not None and train.shape != scored.shape:
        raise DataError(f"train_data has images of shape {train.shape}, and data of shape {scored.shape}")


def _evidence(
    data: Any, train_data: Any, images: int, batch_size: int, steps: int
) -> tuple[Evidence, Evidence | None]:
    """What scores, and what the training steps take, if there are any."""
    if not steps:
        return evidence(data, images=images, batch_size=batch_size), None
    if train_data is None:
        train, scored = evidence(data, images=2 * images, batch_size=batch_size).halves()
        return scored, train
    scored = evidence(data, images=images, batch_size=batch_size)
    return scored, evidence(image_data(train_data, "train"), images=steps * batch_size, batch_size=batch_size)
