"""One candidate: built, measured, given predicted weights, scored, freed."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ghn_init.api import apply
from ghn_init.errors import GHNInitError
from ghn_init.ghn import GHN
from ghn_init.isolation import own_generators
from ghn_init.ranking.candidates import Candidate
from ghn_init.ranking.costs import count_parameters, forward_flops, latency
from ghn_init.ranking.evidence import Evidence, moved
from ghn_init.ranking.proxies import proxy_named
from ghn_init.ranking.ranking import Ranked, pack
from ghn_init.ranking.scores import correct, take_steps
from ghn_init.training.targets import use_batch_statistics

logger = logging.getLogger("ghn_init")


@dataclass(frozen=True)
class Task:
    """What is done with each candidate."""

    ghn: GHN
    score: Evidence
    train: Evidence | None
    classes: int
    steps: int
    lr: float
    proxies: tuple[str, ...]
    timed: bool
    seed: int
    device: torch.device


def assess(candidate: Candidate, task: Task) -> dict[str, Any]:
    """One candidate's row: the entry's fields, and which examples it classified correctly."""
    start = time.perf_counter()
    try:
        with own_generators(task.seed):
            entry, right = _assess(candidate, task)
        entry = {**entry, "seconds": round(time.perf_counter() - start, 3)}
        return {"entry": entry, "right": pack(right)}
    except (
        GHNInitError,
        RuntimeError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        ArithmeticError,
        ImportError,
    ) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        logger.warning("%s is not ranked: %s", candidate.name, reason)
        return {"entry": asdict(Ranked(candidate.name, error=reason)), "right": ""}


def _assess(candidate: Candidate, task: Task) -> tuple[dict[str, Any], np.ndarray]:
    model = candidate.build(task.classes, task.score.shape)
    meta = any(parameter.is_meta for parameter in model.parameters())
    if not meta:
        model.to(task.device)
    first = moved(task.score.inputs[0], task.device)
    found: dict[str, Any] = {"name": candidate.name, "parameters": count_parameters(model)}
    if not meta:
        found["proxies"] = _proxies(model, task, first)
    report = apply(
        model,
        task.ghn,
        seed=task.seed,
        materialize=task.device if meta else False,
        example_inputs=_example(first),
    )
    if meta:
        found["proxies"] = _proxies(model, task, first)
    sizes = report.sizes
    total = sum(size for name, size in sizes.items() if name not in report.tied)
    predicted = sum(sizes[name] for name in report.predicted if name in sizes and name not in report.tied)
    found["predicted"] = predicted / total if total else 0.0
    one = _example(first, 1)
    found["flops"] = forward_flops(model, one[0] if isinstance(one, tuple) else one)
    if task.timed:
        found["latency"] = latency(model, one[0] if isinstance(one, tuple) else one)
    use_batch_statistics(model)
    if task.train is not None:
        take_steps(model, task.train, task.classes, task.device, steps=task.steps, lr=task.lr)
    right = correct(model, task.score, task.classes, task.device).numpy()
    found["score"] = float(right.mean())
    return found, right


def _proxies(model: nn.Module, task: Task, first: Any) -> dict[str, float]:
    """Proxy → score, each on a copy of its own; one that fails on this network is left out.

    Weights that start at zero (heads, mostly) would make everything before them look useless: on the copy
    they are drawn at random.
    """
    found = {}
    for name in task.proxies:
        try:
            twin = copy.deepcopy(model).eval()
            for parameter in twin.parameters():
                if parameter.ndim > 1 and not parameter.any():
                    nn.init.kaiming_uniform_(parameter)
            value = proxy_named(name)(twin, first, task.score.labels[0].to(task.device))
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            logger.info("%s failed: %s", name, error)
            continue
        if np.isfinite(value):
            found[name] = value
    return found


def _example(inputs: Any, count: int | None = None) -> Any:
    """Inputs as ``example_inputs`` takes them, the first ``count`` examples only."""
    if isinstance(inputs, Mapping):
        return {
            key: value[:count] if isinstance(value, torch.Tensor) else value for key, value in inputs.items()
        }
    return (inputs[:count],)
