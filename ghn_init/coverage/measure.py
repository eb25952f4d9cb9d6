"""Measure one model: build it without memory, trace it, predict its weights, check its graph."""

from __future__ import annotations

import re
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from ghn_init.accounting import account
from ghn_init.assign import Outcome, bind
from ghn_init.coverage.case import Case, OutOfTimeError, UnavailableError
from ghn_init.coverage.edges import Comparison, compare_edges
from ghn_init.coverage.program import program_digest
from ghn_init.coverage.sanity import account_problems, graph_problems, recording_problems
from ghn_init.errors import GHNInitError
from ghn_init.ghn import GHN
from ghn_init.graph import ArchGraph
from ghn_init.isolation import own_generators, plain_settings
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import Recording
from ghn_init.tracing.trace import record_model
from ghn_init.wrappers import unwrapped

MOST_PROBLEMS = 10
"""Problems of one model that are written down; their number always is."""

Row = dict[str, Any]
"""What was found out about one model, as JSON; the fields are those that :func:`measure` sets."""


class Stages:
    """CPU seconds of named stages, and which one runs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.now = ""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time a block as ``stage``, in addition to what ran under this name before."""
        self.now, start = stage, time.process_time()
        try:
            yield
        finally:
            spent = time.process_time() - start
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + spent, 2)


def measure(
    case: Case,
    ghn: GHN,
    *,
    export: bool = False,
    compared: Collection[str] = (),
    told: Callable[[Row], None] = lambda row: None,
) -> Row:
    """What comes of one model; never raises but on an interrupt.

    Args:
        case: The model.
        ghn: Predicts all parameters that it can, classifiers of any number of classes included.
        export: Also compare the data flow with that of ``torch.export``, which takes longer than all else.
        compared: Programs (see below) that need no comparison.
        told: Called with what is known before that comparison, which may end the process.

    The model is built on the meta device, or for real where that fails or where its graph cannot be traced
    without values of buffers.

    Returns:
        ``built`` (``meta`` or ``cpu``), ``nodes``, ``edges``, ``primitives``, ``parameters`` and ``elements``
        (all), ``predicted`` (``[parameters, elements]``), ``kept`` and ``skipped`` (reason → ``[parameters,
        elements, name of one]``), ``problems`` of the graph, ``seconds`` of each stage (CPU), ``program``
        (:func:`~ghn_init.coverage.program.program_digest`), and ``export`` (``agrees``, ``differs``, or
        ``fails``, with the reason as ``export_refusal``, where ``torch.export`` cannot read the model),
        unless the program is among ``compared``. Instead, on failure, ``error`` (``stage``, ``type``,
        ``message``, ``where``), or ``unavailable``.
    """
    stages = Stages()
    row: Row = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, problems = _measure(case, ghn, stages, row)
            if export and row["program"] not in compared:
                told({**row, "seconds": stages.seconds})
                with stages("export"):
                    _compare(case, model, row, problems)
    except UnavailableError as error:
        row = {"unavailable": _one_line(error)}
    except (Exception, OutOfTimeError) as error:  # noqa: BLE001 - whatever a model does is a result
        row["error"] = describe(error, stages.now)
    row["seconds"] = stages.seconds
    return row


def describe(error: BaseException, stage: str) -> dict[str, str]:
    """An exception as a row tells it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{'/'.join(frames[-1].filename.split('/')[-2:])}:{frames[-1].lineno}" if frames else ""
    return {"stage": stage, "type": type(error).__name__, "message": _one_line(error), "where": where}


def _measure(case: Case, ghn: GHN, stages: Stages, row: Row) -> tuple[nn.Module, list[str]]:
    """Fill the row; returns the model, and what is wrong with its graph."""
    model, graph, recording = _traced(case, ghn, stages, row)
    row["nodes"], row["edges"], row["primitives"] = len(graph), len(graph.edges), graph.type_counts
    with stages("check"):
        row["program"] = program_digest(recording, graph)
        problems = graph_problems(graph) + recording_problems(graph, recording)
    with stages("predict"), plain_settings(), own_generators(0):
        problems += _predict(ghn, graph)
    plan = ghn.plan(graph, head="predict")
    told = account(bind(model, plan.predicted, materialize=True), Outcome(), plan, graph)
    problems += account_problems(told["sizes"], told["predicted"], told["kept"], told["skipped"])
    row.update(_shares(told))
    _note(row, problems)
    return model, problems


def _note(row: Row, problems: list[str]) -> None:
    if problems:
        row["problems"] = [len(problems), *problems[:MOST_PROBLEMS]]


def _compare(case: Case, model: nn.Module, row: Row, problems: list[str]) -> None:
    """Note in the row what ``torch.export`` says, and where the two differ."""
    try:
        found = compare_edges(model, case.inputs(model) if case.inputs else None)
    except OutOfTimeError as error:
        found = Comparison(refusal=str(error))
    row["export"] = "fails" if found.refusal else "differs" if found.problems else "agrees"
    if found.refusal:
        row["export_refusal"] = _one_line(found.refusal)
    _note(row, problems + found.problems)


def _traced(case: Case, ghn: GHN, stages: Stages, row: Row) -> tuple[nn.Module, ArchGraph, Recording]:
    """The model, its graph and what the graph was lowered from."""
    convention = ghn.config.graph_convention
    refused: Exception | None = None
    for device in ("meta", "cpu"):
        row["built"] = device
        try:
            # Code that is scripted while a model is built cannot be under a device context.
            place = torch.device("meta") if device == "meta" else nullcontext()
            with stages("build"), place, torch.random.fork_rng():
                torch.manual_seed(0)
                model = unwrapped(case.build())
            with stages("trace"):
                recording = record_model(model, case.inputs(model) if case.inputs else None)
            with stages("lower"):
                return model, lower(recording, convention), recording
        except UnavailableError:
            raise
        except Exception as error:
            if device == "cpu" or (isinstance(error, GHNInitError) and stages.now == "lower"):
                raise
            refused = error
            row["on_meta"] = _one_line(error)[:200]
    raise AssertionError("unreachable") from refused


def _predict(ghn: GHN, graph: ArchGraph) -> list[str]:
    """Predict every tensor, holding one group at a time; what is wrong with the values."""
    shapes = {slot.name: slot.shape for node in graph.nodes for slot in node.params}
    missing = set(ghn.plan(graph, head="predict").predicted)
    problems = []
    for group in ghn.iter_groups(graph, head="predict"):
        for name, value in group.items():
            missing.discard(name)
            if tuple(value.shape) != shapes[name]:
                problems.append(f"{name} of shape {shapes[name]} is predicted as {tuple(value.shape)}")
            elif value.numel() and not all(bool(end.isfinite()) for end in torch.aminmax(value)):
                problems.append(f"{name} is not finite")
    return problems + [f"{name} is planned, but not predicted" for name in sorted(missing)]


def _shares(told: Mapping[str, Any]) -> Row:
    """Counts of tensors and of their elements; a tied tensor counts once."""
    sizes = {name: size for name, size in told["sizes"].items() if name not in told["tied"]}
    predicted = [name for name in told["predicted"] if name in sizes]
    row: Row = {
        "parameters": len(sizes),
        "elements": sum(sizes.values()),
        "predicted": [len(predicted), sum(sizes[name] for name in predicted)],
    }
    for kind in ("kept", "skipped"):
        reasons: dict[str, list[Any]] = {}
        for name, reason in told[kind].items():
            if name in sizes:
                entry = reasons.setdefault(general(reason), [0, 0, name])
                entry[0] += 1
                entry[1] += sizes[name]
        if reasons:
            row[kind] = reasons
    return row


def general(reason: str) -> str:
    """A reason without the sizes and module paths of one model."""
    reason = re.sub(r" in (?:'[^']*'|the model itself)| of '[^']*'|(?<=the weight) \S+", "", reason)
    return re.sub(r"\b\d+\b", "N", reason)


def _one_line(error: BaseException | str) -> str:
    return " ".join(str(error).split())[:500]
