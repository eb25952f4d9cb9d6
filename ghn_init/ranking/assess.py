"""One candidate: built, measured, given predicted weights, scored, freed."""

from __future__ import annotations

import copy
import logging
import time
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from ghn_init.api import apply
from ghn_init.errors import ConfigError, TraceError
from ghn_init.ghn import GHN
from ghn_init.graph import ArchGraph
from ghn_init.isolation import own_generators
from ghn_init.ranking.candidates import Candidate
from ghn_init.ranking.confidence import pack
from ghn_init.ranking.costs import count_parameters, forward_flops, latency
from ghn_init.ranking.evidence import Evidence, example, moved
from ghn_init.ranking.progress import fingerprint
from ghn_init.ranking.properties import features
from ghn_init.ranking.proxies import on_a_copy
from ghn_init.ranking.ranking import Ranked
from ghn_init.ranking.scores import correct, take_steps
from ghn_init.tracing.trace import trace
from ghn_init.training.targets import use_batch_statistics

logger = logging.getLogger("ghn_init")

Start = Literal["predicted", "own", "both"]
"""The weights that a candidate is scored with, or that its steps begin with; or one after the other."""


@dataclass(frozen=True)
class Task:
    """What is done with each candidate."""

    ghn: GHN
    score: Evidence
    train: Evidence | None
    classes: int
    start: Start
    steps: int
    lr: float
    proxies: tuple[str, ...]
    timed: bool
    seed: int
    device: torch.device

    @property
    def settings(self) -> dict[str, Any]:
        """What a result depends on, JSON-able."""
        return {
            **{"ghn": str(self.ghn.source), "ghn_digest": fingerprint(self.ghn)},
            **{"images": len(self.score), "data": self.score.digest},
            **{"start": self.start, "steps": self.steps, "lr": self.lr},
            **{"train_data": None if self.train is None else self.train.digest, "latency": self.timed},
            **{"proxies": list(self.proxies), "seed": self.seed},
        }


def assess(candidate: Candidate, task: Task) -> dict[str, Any]:
    """One candidate's row.

    Returns:
        ``entry``, the fields of :class:`Ranked`; ``right``, which examples it classified correctly
        from each start;
        ``features`` of its graph; and ``misfit``, whether its forward failed on the data's shape and would
        run on inputs of its own.
    """
    start = time.perf_counter()
    try:
        with own_generators(task.seed):
            entry, right, graph = _assess(candidate, task)
        entry = {**entry, "seconds": round(time.perf_counter() - start, 3)}
        found = [round(value, 6) for value in features([graph], task.ghn)[0].tolist()]
        return {
            "entry": {"error": None, **entry},
            "right": list(map(pack, right)),
            "features": found,
            "misfit": False,
        }
    except Exception as error:  # noqa: BLE001 - a candidate's own code raises whatever it likes
        reason = f"{type(error).__name__}: {shorten(str(error), 300, placeholder=' ...')}"
        logger.warning("%s is not ranked: %s", candidate.name, reason)
        entry = asdict(Ranked(candidate.name, error=reason))
        misfit = isinstance(error, TraceError) and _traces(candidate, task, None)
        return {"entry": entry, "right": [], "features": [], "misfit": misfit}


def takes_data(candidate: Candidate, task: Task) -> bool:
    """Whether a candidate can be built and traced with the data; nothing is predicted or scored."""
    return _traces(candidate, task, example(task.score.inputs[0]))


def _traces(candidate: Candidate, task: Task, inputs: Any) -> bool:
    """Whether a candidate can be built and traced with these inputs, or with found ones if they are None."""
    try:
        with own_generators(task.seed):
            trace(candidate.build(task.classes, task.score.shape), inputs)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _assess(candidate: Candidate, task: Task) -> tuple[dict[str, Any], list[np.ndarray], ArchGraph]:
    model = candidate.build(task.classes, task.score.shape)
    first = moved(task.score.inputs[0], task.device)
    found: dict[str, Any] = {"name": candidate.name, "parameters": count_parameters(model)}
    meta = any(parameter.is_meta for parameter in model.parameters())
    if meta and task.start != "predicted":
        raise ConfigError("a model on the meta device has no weights of its own: use start='predicted'")
    right = []
    if not meta:
        model.to(task.device)
        found["proxies"] = _proxies(model, task, first)
    if task.start == "both":
        right.append(_scored(copy.deepcopy(model), task))
    graph, found["predicted"] = _begun(model, task, example(first), meta)
    if meta:
        found["proxies"] = _proxies(model, task, first)
    one = example(first, 1)
    found["flops"] = forward_flops(model, one[0] if isinstance(one, tuple) else one)
    if task.timed:
        found["latency"] = latency(model, one[0] if isinstance(one, tuple) else one)
    right.append(_scored(model, task))
    found["score"] = found["accuracy"] = float(np.mean(right))
    return found, right, graph


def _scored(model: nn.Module, task: Task) -> np.ndarray:
    """Which images a model classifies correctly after the steps, ``(N,)`` bool."""
    use_batch_statistics(model)
    if task.train is not None:
        take_steps(model, task.train, task.classes, task.device, steps=task.steps, lr=task.lr)
    return correct(model, task.score, task.classes, task.device).numpy()


def _begun(model: nn.Module, task: Task, inputs: Any, meta: bool) -> tuple[ArchGraph, float]:
    """Put the weights to start from into a model: its graph, and the share of values that were predicted."""
    if task.start == "own":
        return trace(model, inputs, convention=task.ghn.config.graph_convention), 0.0
    place = task.device if meta else False
    report = apply(model, task.ghn, seed=task.seed, materialize=place, example_inputs=inputs)
    sizes = report.sizes
    total = sum(size for name, size in sizes.items() if name not in report.tied)
    predicted = sum(sizes[name] for name in report.predicted if name in sizes and name not in report.tied)
    return report.graph, predicted / total if total else 0.0


def _proxies(model: nn.Module, task: Task, first: Any) -> dict[str, float]:
    """Proxy → score; one that fails on this network is left out."""
    found = {}
    for name in task.proxies:
        try:
            value = on_a_copy(name, model, first, task.score.labels[0].to(task.device))
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
            logger.info("%s failed: %s", name, error)
            continue
        if np.isfinite(value):
            found[name] = value
    return found
