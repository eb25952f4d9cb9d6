"""Rank candidate architectures by how well they do with predicted weights (Zhang et al., 2019)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ghn_init.errors import ConfigError, DataError
from ghn_init.logging import progress_bar
from ghn_init.ranking.assess import Start, Task, takes_data
from ghn_init.ranking.candidates import Candidate, Model, candidates, check_shape
from ghn_init.ranking.confidence import resampled, unpack, with_intervals
from ghn_init.ranking.estimates import FEWEST, check_trained, expected, smoothed
from ghn_init.ranking.prepare import prepare
from ghn_init.ranking.processes import is_first, meet, run_all
from ghn_init.ranking.progress import Progress
from ghn_init.ranking.ranking import Ranked, Ranking

logger = logging.getLogger("ghn_init")

_MISFITS = 3
"""After so many candidates that do not take the data, and none that does, it is asked whether any does."""


def rank(
    models: Mapping[str, Model] | Iterable[Model],
    data: Any,
    ghn: Any = True,
    *,
    images: int = 1000,
    batch_size: int = 64,
    start: Start = "predicted",
    steps: int = 0,
    lr: float = 2e-3,
    train_data: Any = None,
    smooth: bool = False,
    trained: Mapping[str, float] | None = None,
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

    That is quick and tells broken networks from sound ones. What agreed best with training where it was
    measured (docs/ranking.md): ``start="both", steps=50, smooth=True``, and ``trained=`` besides.

    Args:
        models: Name → candidate, or candidates: modules (on the meta device too), timm names, callables
            without arguments, or architectures of :func:`ghn_init.ranking.sample_space`.
        data: Labelled examples: tensors ``(inputs, labels)``, batches of them, or ``"fashion-mnist"``.
        ghn: As for :func:`ghn_init.apply`. It must predict as many classes as the data has.
        images: Examples that score a candidate, in whole batches.
        batch_size: Of data that comes as tensors.
        start: Weights to begin with: ``predicted`` by the GHN, the candidate's ``own`` initial ones, or
            ``both``, whose accuracies are averaged.
        steps: Cheap training steps before scoring; 0 scores the prediction itself.
        lr: Their peak learning rate (AdamW).
        train_data: What the steps train on; by default every second batch of ``data``, which then does not
            score.
        smooth: Score by the mean of a candidate's accuracy and of what those of all others say of it, by a
            regression on the GHN's embeddings of their graphs; for at least 20 candidates.
        trained: Accuracies after full training, of at least 20 of the candidates by name: the others are
            scored by what a regression on graph embeddings and accuracies here expects of them.
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
        ConfigError: No candidates, two of one name, too few for smoothing or trained, an unknown proxy, or a
            number out of range.
        DataError: The data is empty, malformed, or has more classes than the GHN predicts.
        HubError: The GHN could not be loaded. CheckpointError: Its file is damaged.
    """
    if workers < 1:
        raise ConfigError(f"workers must be at least 1, got {workers}")
    waiting = candidates(models)
    check_estimate([candidate.name for candidate in waiting], smooth, trained)
    task = prepare(
        *(data, ghn),
        **{"images": images, "batch_size": batch_size, "start": start, "steps": steps, "lr": lr},
        **{"train_data": train_data, "proxies": proxies, "measure_latency": measure_latency},
        **{"seed": seed, "device": device, **hub},
    )
    check_shape(waiting, task.score.shape)
    journal = Progress(resume, task.settings, first=is_first())
    meet()
    journal.read()
    meet()
    _assess_all(waiting, task, journal, workers, progress)
    rows = [journal.rows[candidate.name] for candidate in waiting]
    return ranking_of(rows, task, smooth=smooth, trained=trained)


def check_estimate(names: Sequence[str], smooth: bool, trained: Mapping[str, float] | None) -> None:
    """Refuse what the scores could not be estimated from, before any candidate is built.

    Raises:
        ConfigError: There are too few candidates, too few trained ones, or both estimates are asked for.
    """
    if smooth and trained is not None:
        raise ConfigError("smooth and trained are two ways to estimate scores: give one")
    if smooth and len(names) < FEWEST:
        raise ConfigError(f"smoothing needs at least {FEWEST} candidates, and there are {len(names)}")
    check_trained(trained, names)


def ranking_of(
    rows: Sequence[Mapping[str, Any]],
    task: Task,
    *,
    smooth: bool = False,
    trained: Mapping[str, float] | None = None,
    **settings: Any,
) -> Ranking:
    """The ranking of what :func:`ghn_init.ranking.assess.assess` found.

    Raises:
        ConfigError: Of the trained candidates, too few could be assessed.
    """
    passed = [row for row in rows if row["entry"]["error"] is None]
    entries = [Ranked(**row["entry"]) for row in passed]
    failed = [Ranked(**row["entry"]) for row in rows if row["entry"]["error"] is not None]
    if passed:
        images = len(task.score)
        hits = [np.mean([unpack(part, images) for part in row["right"]], axis=0) for row in passed]
        scores = resampled(hits, task.seed)
        if smooth or trained:
            scores = _estimated(passed, scores, trained, task.seed)
        entries = with_intervals(entries, scores)
    estimate = "trained" if trained else "smooth" if smooth else None
    settings = {**task.settings, "estimate": estimate, **settings}
    return Ranking([*entries, *failed], images=len(task.score), settings=settings)


def _estimated(
    rows: Sequence[Mapping[str, Any]], accuracies: np.ndarray, trained: Mapping[str, float] | None, seed: int
) -> np.ndarray:
    """Scores in place of accuracies, ``(C, 1 + R)``."""
    features = np.array([row["features"] for row in rows])
    if trained is None:
        if len(rows) < FEWEST:
            logger.warning("only %d candidates could be scored: their scores are not smoothed", len(rows))
            return accuracies
        return smoothed(accuracies, features)
    names = [row["entry"]["name"] for row in rows]
    known = {names.index(name): value for name, value in trained.items() if name in names}
    if len(known) < FEWEST:
        raise ConfigError(
            f"{len(known)} of the {len(trained)} trained candidates could be scored; a regression needs "
            f"at least {FEWEST}"
        )
    flops = np.array([row["entry"]["flops"] for row in rows], dtype=np.float64)
    return expected(accuracies, features, flops, known, seed)


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
