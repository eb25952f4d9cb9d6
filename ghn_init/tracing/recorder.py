"""Records a model's forward as a ``torch.fx.Graph`` by running it on a weightless copy."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import GeneratorType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from ghn_init.errors import InputError, TraceError
from ghn_init.isolation import collector_paused, own_generators
from ghn_init.tracing.guesses import Guesses
from ghn_init.tracing.leaf import Substitute, advice, put_leaves
from ghn_init.tracing.meta_copy import MetaCopy, make_meta_copy
from ghn_init.tracing.mode import Recorder
from ghn_init.tracing.switches import deep_stack, uncompiled, unlogged, unscripted
from ghn_init.tracing.transforms import transforms_end
from ghn_init.tracing.values import Binding, StandIns, bind, map_tensors, tensors_in

logger = logging.getLogger("ghn_init")
_REVISIONS = 6
UNUSED = "not used by this forward"
"""Why a parameter is unreached of which no operation takes the value."""


class _How(NamedTuple):
    """Settings of a recording that all its attempts share."""

    fake: bool
    leaves: Mapping[str, Substitute]


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
        stopped: Where the recording ended before the forward did: path of the module, or empty.
    """

    graph: fx.Graph
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str] = field(default_factory=dict)
    unreached: dict[str, str] = field(default_factory=dict)
    name: str = ""
    inputs: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
    stopped: str = ""

    @property
    def has_layers(self) -> bool:
        """Whether an operation takes a parameter."""
        taken = [
            node for node in self.graph.nodes if node.op == "get_attr" and node.target in self.parameters
        ]
        return any(node.users for node in taken)


def record(
    model: nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    *,
    fake: bool = False,
    leaves: Mapping[str, Substitute] | None = None,
) -> Recording:
    """Record ``model(*args, **kwargs)`` in the mode (train or eval) that the model is in.

    Args:
        model: Any module, on any device; it is neither run nor changed.
        args: Positional inputs. Floating tensors stand for their shape and dtype; whole-number ones that
            are not on meta keep their values, for models branch and index with them.
        kwargs: Keyword inputs.
        fake: Run on fake CPU tensors instead of meta tensors.
        leaves: Path → what runs in the place of that module's forward.

    Returns:
        The recording, without the operations that no output depends on.

    Raises:
        InputError: The forward failed on these inputs.
        TraceError: Some operation cannot be recorded. Both have what was recorded before, as ``partial``.
    """
    guesses, how = Guesses(), _How(fake, leaves or {})
    try:
        recording = _record(model, args, kwargs or {}, how, guesses)
    except TraceError as error:
        return _record_otherwise(model, args, kwargs or {}, how, guesses, error)
    opposite = Guesses(truth=True) if guesses.asked else None
    for _ in range(_REVISIONS):
        if opposite is None:
            break
        try:
            other = _record(model, args, kwargs or {}, how, opposite)
        except TraceError:
            opposite = opposite.revised() if opposite.tired else None
            continue
        return other if len(other.unreached) < len(recording.unreached) else recording
    return recording


def _record_otherwise(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    how: _How,
    guesses: Guesses,
    error: TraceError,
) -> Recording:
    """Record with other answers to the questions about values that were asked before a failure.

    Raises:
        TraceError: The first failure, if no other answers help.
    """
    waiting = guesses.alternatives()
    for _ in range(_REVISIONS):
        guess = next((guess for guess in waiting if guess is not None), None)
        if guess is None:
            break
        waiting.remove(guess)
        try:
            return _record(model, args, kwargs, how, guess)
        except TraceError as other:
            logger.debug("Other answers to questions about values fail too: %s", other)
        if not guess.truth:
            waiting.insert(0, guess.revised())
    raise error


def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], how: _How, guesses: Guesses
) -> Recording:
    stand_ins = StandIns(how.fake)
    with plain_state(), unlogged("torch._subclasses.fake_tensor"):
        copied = make_meta_copy(model, stand_ins)
        put_leaves(copied.module, how.leaves, copied.stack)
        recorder = Recorder(copied.stack, copied.originals, stand_ins, guesses)
        inputs, named = make_placeholders(recorder, args, kwargs)
        try:
            with uncompiled(), unscripted(copied.stack), recorder:
                result = copied.module(*inputs, **named)
                if isinstance(result, GeneratorType):
                    result = list(result)
        except TraceError as error:
            told = f"{str(error).removesuffix('.')}{_operation(error, recorder)}"
            advised = type(error)(f"{told}. {advice(_place(error, copied))}")
            advised.partial = _partial(model, error, copied, recorder)
            raise advised from error
        except Exception as error:
            failed = _failed(model, error, copied, recorder)
            failed.partial = _partial(model, error, copied, recorder)
            raise failed from error
        return finish_recording(model, copied, recorder, result)


def _place(error: Exception, copied: MetaCopy) -> str:
    """Path of the module whose forward raised the error; empty for the model itself, or if nobody knows."""
    return copied.failure[1] if copied.failure is not None and copied.failure[0] is error else ""


def _operation(error: Exception, recorder: Recorder) -> str:
    """The operation that raised the error, if it was one."""
    if recorder.failure is None or recorder.failure[0] is not error:
        return ""
    return f", operation {recorder.failure[1]}"


def _partial(model: nn.Module, error: Exception, copied: MetaCopy, recorder: Recorder) -> Recording:
    """What was recorded before the failure; its outputs are the activations that nothing had used yet."""
    path = _place(error, copied)
    flowing: set[fx.Node] = set()
    for node in recorder.graph.nodes:
        if node.op == "placeholder" or any(operand in flowing for operand in node.all_input_nodes):
            flowing.add(node)
    ends = [node for node in flowing if not node.users and node.op == "call_function"]
    ends.sort()
    recording = _close(model, copied, recorder, ends)
    return replace(recording, stopped=path)


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
    return _close(model, copied, recorder, [recorder.link(tensor).node for tensor in outputs])


def _close(model: nn.Module, copied: MetaCopy, recorder: Recorder, outputs: Sequence[Any]) -> Recording:
    """The recording up to these nodes."""
    recorder.graph.output(tuple(outputs))
    used = _attributes(recorder.graph)
    _prune(recorder.graph)
    kept = _attributes(recorder.graph)
    unreached = {
        name: "its result does not reach the output" if name in used else UNUSED
        for name in copied.parameters
        if name not in kept
    }
    return Recording(recorder.graph, copied.parameters, copied.tied, unreached, type(model).__name__)


def _failed(model: nn.Module, error: Exception, copied: MetaCopy, recorder: Recorder) -> InputError:
    path, operation = _place(error, copied), _operation(error, recorder)
    shapes = [node.meta["shape"] for node in recorder.graph.nodes if node.op == "placeholder"]
    return InputError(
        f"{type(model).__name__}.forward failed on inputs of shapes {', '.join(map(str, shapes)) or 'none'} "
        f"in module {path or '(the model itself)'!r}{operation}: {type(error).__name__}: {error}. "
        f"{advice(path)}"
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
    """No gradients, autocast, inference mode or collector; generators and transforms as before afterwards."""
    with (
        deep_stack(),
        collector_paused(),
        own_generators(0),
        transforms_end(),
        torch.inference_mode(False),
        torch.no_grad(),
        torch.autocast("cpu", enabled=False),
    ):
        yield
