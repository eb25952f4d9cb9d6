"""From a model to its graph: find inputs, record the forward, lower the recording."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Literal, get_args

from torch import nn

from ghn_init.errors import InputError, TraceError
from ghn_init.graph import ArchGraph
from ghn_init.tracing.checks import check_traceable
from ghn_init.tracing.exported import export
from ghn_init.tracing.inputs import Inputs, candidate_inputs, given_inputs, no_inputs
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import Recording, record
from ghn_init.wrappers import unwrapped

logger = logging.getLogger("ghn_init")
Method = Literal["auto", "recorder", "fake", "export"]


def _record_fake(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    return record(model, args, kwargs, fake=True)


_FRONT_ENDS: dict[str, Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Recording]] = {
    "recorder": record,
    "fake": _record_fake,
    "export": export,
}


def trace(
    model: nn.Module, example_inputs: Any = None, *, method: Method = "auto", convention: str = "clean"
) -> ArchGraph:
    """The architecture graph of a model.

    The forward runs on a copy without weights: the model itself is neither run nor changed, and can be on
    the meta device. The copy is in the model's own mode, so that a model in train mode gets the graph of
    training (auxiliary heads included).

    Args:
        model: Any module. Of a compiled or data-parallel one, the module inside is traced, under its names.
        example_inputs: A tuple of positional arguments, a dict of keyword arguments, or one tensor. Floating
            tensors count by shape and dtype only. By default inputs are found
            (:func:`ghn_init.tracing.inputs.candidate_inputs`).
        method: ``recorder`` runs on meta tensors, ``fake`` on fake CPU tensors, ``export`` uses
            ``torch.export``; ``auto`` tries them in this order.
        convention: ``clean``, or ``ghn3`` for the graphs that the original GHN-2 and GHN-3 were trained on.

    Returns:
        The graph, with a slot for each parameter that the outputs depend on; the others are in ``unreached``.

    Raises:
        InputError: No inputs were found, or the forward fails on them.
        TraceError: The model cannot be traced: no parameters, lazy or scripted or quantised modules, ...
    """
    return lower(record_model(model, example_inputs, method=method), convention=convention)


def record_model(model: nn.Module, example_inputs: Any = None, *, method: Method = "auto") -> Recording:
    """The recording that :func:`trace` lowers; same arguments and errors."""
    if method not in get_args(Method):
        raise TraceError(f"method={method!r} is unknown; choose one of {', '.join(get_args(Method))}.")
    model = unwrapped(model)
    check_traceable(model)
    methods = ["recorder", "fake", "export"] if method == "auto" else [method]
    given = example_inputs is not None
    candidates = [given_inputs(example_inputs)] if given else candidate_inputs(model)
    return _first_success(model, methods, candidates, given)


def _first_success(
    model: nn.Module, methods: list[str], candidates: Iterable[Inputs], given: bool
) -> Recording:
    """The first front-end on the first inputs that works; all inputs go to the first front-end first."""
    failures: list[tuple[Inputs, TraceError]] = []
    for inputs in candidates:
        try:
            return replace(_FRONT_ENDS[methods[0]](model, *inputs), inputs=inputs)
        except TraceError as error:
            failures.append((inputs, error))
    if not failures:
        raise no_inputs(model)
    inputs, first = failures[0]
    for name in methods[1:]:
        try:
            recording = replace(_FRONT_ENDS[name](model, *inputs), inputs=inputs)
        except TraceError as error:
            logger.debug("%s failed: %s", name, error)
            continue
        logger.info("Recorded %s by %s, for the recorder failed: %s", type(model).__name__, name, first)
        return recording
    if given or len(failures) == 1 or not isinstance(first, InputError):
        raise first
    raise InputError(
        f"{type(model).__name__}.forward failed on each of {len(failures)} inputs tried. The first: {first}"
    ) from first
