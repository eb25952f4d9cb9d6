"""Records a model's forward as a ``torch.fx.Graph`` by running it on a weightless copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from ghn_init.errors import InputError, TraceError
from ghn_init.isolation import own_generators
from ghn_init.tracing.guesses import Guesses
from ghn_init.tracing.meta_copy import MetaCopy, make_meta_copy
from ghn_init.tracing.mode import Recorder
from ghn_init.tracing.switches import uncompiled, unlogged, unscripted
from ghn_init.tracing.values import Binding, StandIns, bind, map_tensors, tensors_in

logger = logging.getLogger("ghn_init")


@dataclass
class Recording:
    """A recorded forward.

    Attributes:
        graph: Only placeholder, get_attr, call_function and output nodes. ``node.meta`` holds ``shape``,
            ``dtype`` and ``module`` (path of the module whose forward ran the operation); a node with several
            outputs has ``shapes`` instead and is read through ``operator.getitem`` nodes.
        parameters: Canonical name → shape.
        tied: Alias → canonical name.
        unreached: Parameter → why no operation that the outputs depend on uses it.
        name: What was recorded, for people.
        inputs: The arguments that the forward was recorded on.
    """

    graph: fx.Graph
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str] = field(default_factory=dict)
    unreached: dict[str, str] = field(default_factory=dict)
    name: str = ""
    inputs: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})


def record(
    model: nn.Module, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None, *, fake: bool = False
) -> Recording:
    """Record ``model(*args, **kwargs)`` in the mode (train or eval) that the model is in.

    Args:
        model: Any module, on any device; it is neither run nor changed.
        args: Positional inputs. Floating tensors stand for their shape and dtype; whole-number ones that
            are not on meta keep their values, for models branch and index with them.
        kwargs: Keyword inputs.
        fake: Run on fake CPU tensors instead of meta tensors.

    Returns:
        The recording, without the operations that no output depends on.

    Raises:
        InputError: The forward failed on these inputs.
        TraceError: Some operation cannot be recorded.
    """
    guesses = Guesses()
    try:
        recording = _record(model, args, kwargs or {}, fake, guesses)
    except TraceError:
        if not guesses.asked:
            raise
        try:
            return _record(model, args, kwargs or {}, fake, Guesses(truth=True))
        except TraceError as error:
            logger.debug("The other answer to questions about values fails too: %s", error)
        raise
    if guesses.asked:
        try:
            other = _record(model, args, kwargs or {}, fake, Guesses(truth=True))
        except TraceError:
            return recording
        if len(other.unreached) < len(recording.unreached):
            return other
    return recording


def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], fake: bool, guesses: Guesses
) -> Recording:
    stand_ins = StandIns(fake)
    with plain_state(), unlogged("torch._subclasses.fake_tensor"):
        copied = make_meta_copy(model, stand_ins)
        recorder = Recorder(copied.stack, copied.originals, stand_ins, guesses)
        inputs, named = make_placeholders(recorder, args, kwargs)
        try:
            with uncompiled(), unscripted(copied.stack), recorder:
                result = copied.module(*inputs, **named)
        except TraceError:
            raise
        except Exception as error:
            raise _failed(model, error, copied, recorder) from error
        return finish_recording(model, copied, recorder, result)


def finish_recording(model: nn.Module, copied: MetaCopy, recorder: Recorder, result: Any) -> Recording:
    """Close the graph with the forward's result, and drop the operations that it does not depend on.

    Raises:
        TraceError: There is no tensor in the result.
    """
    outputs = list(tensors_in(result)) or list(tensors_in(getattr(result, "__dict__", {})))
    if not outputs:
        raise TraceError(
            f"{type(model).__name__}.forward returned no tensor but {type(result).__name__}: wrap the "
            "model in a module whose forward returns tensors, or tuples, lists, dicts or dataclasses of them."
        )
    recorder.graph.output(tuple(recorder.link(tensor).node for tensor in outputs))
    used = _attributes(recorder.graph)
    _prune(recorder.graph)
    kept = _attributes(recorder.graph)
    unreached = {
        name: "its result does not reach the output" if name in used else "not used by this forward"
        for name in copied.parameters
        if name not in kept
    }
    return Recording(recorder.graph, copied.parameters, copied.tied, unreached, type(model).__name__)


def _failed(model: nn.Module, error: Exception, copied: MetaCopy, recorder: Recorder) -> InputError:
    path = copied.failure[1] if copied.failure is not None and copied.failure[0] is error else ""
    operation = ""
    if recorder.failure is not None and recorder.failure[0] is error:
        operation = f", operation {recorder.failure[1]}"
    shapes = [node.meta["shape"] for node in recorder.graph.nodes if node.op == "placeholder"]
    return InputError(
        f"{type(model).__name__}.forward failed on inputs of shapes {', '.join(map(str, shapes)) or 'none'} "
        f"in module {path or '(the model itself)'!r}{operation}: {type(error).__name__}: {error}. "
        "Pass example_inputs= that fit the forward (a tensor, a tuple, or a dict of keyword arguments)."
    )


def make_placeholders(
    recorder: Recorder, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs, with a placeholder each: whole-number tensors keep their value, others become stand-ins."""

    def enter(tensor: Tensor) -> Tensor:
        if tensor.is_nested:
            raise InputError(
                "example_inputs holds a nested tensor, which has no shape: pass a padded tensor, and a "
                "mask if the forward takes one."
            )
        known = not recorder.stand_ins.made(tensor) and not tensor.is_floating_point()
        value = tensor.detach().to("cpu", copy=True) if known else recorder.stand_ins.like(tensor)
        node = recorder.graph.placeholder("input")
        node.meta.update(shape=tuple(tensor.shape), dtype=tensor.dtype, module="")
        bind(value, Binding(node, 0, known=known))
        return value

    return map_tensors(args, enter), map_tensors(kwargs, enter)


def _attributes(graph: fx.Graph) -> set[str]:
    return {str(node.target) for node in graph.nodes if node.op == "get_attr"}


def _prune(graph: fx.Graph) -> None:
    """Drop operations that no output depends on."""
    for node in reversed(graph.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            graph.erase_node(node)


@contextmanager
def plain_state() -> Iterator[None]:
    """No gradients, no autocast, no inference mode; random generators as they were afterwards."""
    with (
        own_generators(0),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield
