"""From a model to its graph: find inputs, record the forward, lower the recording."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, get_args

from torch import nn

from ghn_init.errors import InputError, TraceError
from ghn_init.graph import ArchGraph
from ghn_init.isolation import collector_paused
from ghn_init.tracing.checks import check_traceable, closed
from ghn_init.tracing.exported import export
from ghn_init.tracing.guesses import EndlessError
from ghn_init.tracing.inputs import Inputs, candidate_inputs, given_inputs, no_inputs
from ghn_init.tracing.inputs_layers import from_layers
from ghn_init.tracing.leaf import Leaves, Substitute, find_leaves, inside
from ghn_init.tracing.lower import lower
from ghn_init.tracing.partial import Attempt, Partial, brief, closed_parts, nothing_reached, record_partly
from ghn_init.tracing.parts import Parts, inputs_of_parts, with_forward
from ghn_init.tracing.recorder import UNUSED, Recording, record
from ghn_init.wrappers import unwrapped

logger = logging.getLogger("ghn_init")
_KEEPING_INPUTS, _MORE_INPUTS = 3, 4
Method = Literal["auto", "recorder", "fake", "export"]


OnUntraceable = Literal["raise", "keep"]


def _record_fake(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Mapping[str, Substitute]
) -> Recording:
    return record(model, args, kwargs, fake=True, leaves=leaves)


def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Mapping[str, Substitute]
) -> Recording:
    return record(model, args, kwargs, leaves=leaves)


_FRONT_ENDS: dict[str, Callable[..., Recording]] = {
    "recorder": _record,
    "fake": _record_fake,
    "export": export,
}


@collector_paused()
def trace(
    model: nn.Module,
    example_inputs: Any = None,
    *,
    method: Method = "auto",
    convention: str = "clean",
    leaf: Leaves = None,
    on_untraceable: OnUntraceable = "raise",
) -> ArchGraph:
    """The architecture graph of a model.

    The forward runs on a copy without weights: the model itself is neither run nor changed, and can be on
    the meta device. The copy is in the model's own mode, so that a model in train mode gets the graph of
    training (auxiliary heads included).

    Args:
        model: Any module. Of a compiled or data-parallel one, the module inside is traced, under its names.
            Of one without a forward (a container, a generator beside its critic), each part is traced by
            itself, on inputs of its own.
        example_inputs: A tuple of positional arguments, a dict of keyword arguments, or one tensor. Floating
            tensors count by shape and dtype only. By default inputs are found
            (:func:`ghn_init.tracing.inputs.candidate_inputs`). For a model without a forward: a dict of the
            inputs of its parts, by their paths.
        method: ``recorder`` runs on meta tensors, ``fake`` on fake CPU tensors, ``export`` uses
            ``torch.export``; ``auto`` tries them in this order.
        convention: ``clean``, or ``ghn3`` for the graphs that the original GHN-2 and GHN-3 were trained on.
        leaf: Modules that are not entered: paths, classes, predicates of path and module, or a mapping of
            them to functions. A function gets the module's copy and its inputs and is recorded in the place
            of the forward; without one, the output is taken to be shaped like the first floating input, and
            the module's parameters are in ``unreached``.
        on_untraceable: ``raise``, or ``keep``: where the forward cannot be recorded, the graph has what was
            reached. A module that fails is passed over as a leaf; if that does not help, the graph ends
            there, and has no ``outputs`` and so no classifier. The parameters that were not reached are in
            ``unreached`` with the error.

    Returns:
        The graph, with a slot for each parameter that the outputs depend on; the others are in ``unreached``.

    Raises:
        InputError: No inputs were found, or the forward fails on them.
        TraceError: The model cannot be traced: no parameters, lazy or scripted or quantised modules, ...
            With ``keep``: not a module, no parameters, or parameters that could not be written either.
    """
    if on_untraceable not in get_args(OnUntraceable):
        raise TraceError(f'on_untraceable={on_untraceable!r} is unknown; choose "raise" or "keep".')
    model = unwrapped(model)
    try:
        recording = record_model(model, example_inputs, method=method, leaf=leaf)
    except TraceError as error:
        if on_untraceable == "raise" or not isinstance(model, nn.Module):
            raise
        return _keeping(model, example_inputs, convention, find_leaves(model, leaf), error)
    graph = lower(recording, convention=convention)
    return _with_leaves(graph, find_leaves(model, leaf))


def _with_leaves(graph: ArchGraph, leaves: Collection[str]) -> ArchGraph:
    """The graph, whose unreached parameters tell that they are inside a leaf."""
    if not leaves:
        return graph
    told = {
        name: why if (path := inside(leaves, name)) is None else f"inside leaf module {path!r}"
        for name, why in graph.unreached.items()
    }
    return replace(graph, unreached=told)


def _keeping(
    model: nn.Module, example_inputs: Any, convention: str, leaves: dict[str, Substitute], error: TraceError
) -> ArchGraph:
    """The graph of what can be reached.

    Raises:
        TraceError: The model cannot be written either.
    """
    if isinstance(with_forward(model), Parts):
        return _keeping_parts(model, example_inputs, convention, leaves)
    passed = closed_parts(model)
    check_traceable(model, [*leaves, *passed, *([""] if closed(model) else [])])
    partial = Partial(reason=brief(error))
    candidates = [given_inputs(example_inputs)] if example_inputs is not None else candidate_inputs(model)
    for inputs in islice(() if closed(model) else candidates, _KEEPING_INPUTS):
        found = record_partly(partial_attempt(model, inputs), leaves, passed)
        if len(found.recording_unreached) < len(partial.recording_unreached) or partial.recording is None:
            partial = found
    if partial.recording is None:
        logger.warning("%s is kept as it is, for tracing failed: %s", type(model).__name__, partial.reason)
        return nothing_reached(model, partial.reason)
    graph = lower(partial.recording, convention=convention)
    logger.warning("%s was traced in part. %s", type(model).__name__, partial.summary)
    outputs = () if partial.reason else graph.outputs
    return _with_leaves(replace(graph, outputs=outputs, unreached=partial.explain(graph)), leaves)


def _keeping_parts(
    model: nn.Module, example_inputs: Any, convention: str, leaves: dict[str, Substitute]
) -> ArchGraph:
    """The graph of those parts of a model without a forward that can be traced.

    Raises:
        TraceError: None can, or the example inputs fit no part.
    """
    reasons: dict[str, str] = {}
    parts = with_forward(model, leaves)
    for path in parts.paths if isinstance(parts, Parts) else ():
        given = (
            example_inputs[path] if isinstance(example_inputs, Mapping) and path in example_inputs else None
        )
        try:
            record_model(parts.get_submodule(path), given)
        except TraceError as error:
            reasons[path] = brief(error)
            logger.warning("%s is traced without %r. %s", type(model).__name__, path, reasons[path])
    left_out = [*leaves, *reasons]
    if isinstance(example_inputs, Mapping):
        example_inputs = {path: each for path, each in example_inputs.items() if path not in reasons}
    graph = lower(record_model(model, example_inputs, leaf=left_out), convention=convention)
    told = {
        name: why if (path := inside(reasons, name)) is None else reasons[path]
        for name, why in graph.unreached.items()
    }
    return _with_leaves(replace(graph, unreached=told), leaves)


def partial_attempt(model: nn.Module, inputs: Inputs) -> Attempt:
    """Records the model on these inputs with leaves that are given later."""

    def attempt(leaves: Mapping[str, Substitute]) -> Recording:
        return replace(_record(model, *inputs, leaves), inputs=inputs)

    return attempt


def record_model(
    model: nn.Module, example_inputs: Any = None, *, method: Method = "auto", leaf: Leaves = None
) -> Recording:
    """The recording that :func:`trace` lowers; same arguments and errors."""
    if method not in get_args(Method):
        raise TraceError(f"method={method!r} is unknown; choose one of {', '.join(get_args(Method))}.")
    model = unwrapped(model)
    leaves = find_leaves(model, leaf) if isinstance(model, nn.Module) else {}
    check_traceable(model, leaves)
    model = with_forward(model, leaves)
    methods = ["recorder", "fake", "export"] if method == "auto" else [method]
    if isinstance(model, Parts):

        def find(part: nn.Module) -> Inputs:
            return record_model(part, method=method).inputs

        return _first_success(model, methods, [inputs_of_parts(model, example_inputs, find)], True, leaves)
    given = example_inputs is not None
    candidates = [given_inputs(example_inputs)] if given else candidate_inputs(model)
    return _first_success(model, methods, candidates, given, leaves)


def _fullest(
    recording: Recording, later: Iterable[Inputs], attempt: Callable[[Inputs], Recording]
) -> Recording:
    """The recording, or one of the next candidates with more arguments that reaches more of the model."""

    def missed(found: Recording) -> int:
        return sum(len(found.parameters[name]) > 1 for name, why in found.unreached.items() if why == UNUSED)

    for inputs in islice(later if missed(recording) else (), _MORE_INPUTS):
        if recording.inputs[1].keys() < inputs[1].keys():
            try:
                other = attempt(inputs)
            except TraceError as error:
                logger.debug("More arguments fail: %s", error)
                continue
            recording = min(recording, other, key=missed)
    return recording


def _from_first_layer(
    model: nn.Module, failures: list[TraceError], attempt: Callable[[Inputs], Recording]
) -> Recording | None:
    """A recording on inputs for the layers at which others failed before any other layer had run."""
    tried: set[str] = set()
    while failures:
        partial = failures.pop(0).partial
        if partial is None or partial.stopped in tried or partial.has_layers:
            continue
        tried.add(partial.stopped)
        layer = model.get_submodule(partial.stopped)
        for inputs in from_layers(model, layer) if layer is not model else ():
            try:
                return attempt(inputs)
            except TraceError as error:
                failures.append(error)
    return None


def _first_success(
    model: nn.Module,
    methods: list[str],
    candidates: Iterable[Inputs],
    given: bool,
    leaves: Mapping[str, Substitute],
) -> Recording:
    """The first front-end on the first inputs that works; all inputs go to the first front-end first."""
    failures: list[tuple[Inputs, TraceError]] = []
    waiting = iter(candidates)

    def attempt(inputs: Inputs) -> Recording:
        return replace(_FRONT_ENDS[methods[0]](model, *inputs, leaves), inputs=inputs)

    for inputs in waiting:
        try:
            recording = attempt(inputs)
        except TraceError as error:
            failures.append((inputs, error))
        else:
            return _fullest(recording, waiting, attempt)
    if not failures:
        raise no_inputs(model)
    inputs, first = failures[0]
    # A loop without an end has none in the other front-ends either, and those do not count.
    for name in methods[1:] if not isinstance(first, EndlessError) else ():
        try:
            recording = replace(_FRONT_ENDS[name](model, *inputs, leaves), inputs=inputs)
        except TraceError as error:
            logger.debug("%s failed: %s", name, error)
            continue
        logger.info("Recorded %s by %s, for the recorder failed: %s", type(model).__name__, name, first)
        return recording
    if given:
        raise first
    found = _from_first_layer(model, [error for _, error in failures], attempt)
    if found is not None:
        return found
    if len(failures) == 1 or not isinstance(first, InputError):
        raise first
    raise InputError(
        f"{type(model).__name__}.forward failed on each of {len(failures)} inputs tried. The first: {first}"
    ) from first
