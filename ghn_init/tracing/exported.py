"""The third front-end: ``torch.export`` (non-strict), replayed into the recorder's form."""

from __future__ import annotations

import contextlib
import io
import operator
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx import config as fx_config

from ghn_init.errors import TraceError
from ghn_init.tracing.guesses import Guesses
from ghn_init.tracing.leaf import Substitute, put_leaves
from ghn_init.tracing.meta_copy import MetaCopy, make_meta_copy
from ghn_init.tracing.mode import Recorder
from ghn_init.tracing.recorder import Recording, finish_recording, make_placeholders, plain_state
from ghn_init.tracing.switches import unlogged
from ghn_init.tracing.values import StandIns, map_tensors, tensors_in

_FRESH = tuple(
    getattr(torch.ops.aten, name)
    for name in (
        *("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"),
        *("new_empty", "new_zeros", "new_ones", "new_full"),
    )
)


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    leaves: Mapping[str, Substitute] | None = None,
) -> Recording:
    """Record ``model(*args, **kwargs)`` by ``torch.export.export(strict=False)``.

    Args:
        model: Any module; a weightless copy of it is exported.
        args: Positional inputs.
        kwargs: Keyword inputs.
        leaves: Path → what runs in the place of that module's forward.

    Returns:
        A recording whose call_function targets are ATen overloads.

    Raises:
        TraceError: The model cannot be exported on these inputs.
    """
    with plain_state():
        program, copied, stand_ins = export_program(model, args, kwargs, leaves)
        recorder = Recorder(copied.stack, copied.originals, stand_ins, Guesses())
        inputs, named = make_placeholders(recorder, args, kwargs)
        values = _leaves(program, copied, [*tensors_in((inputs, named))])
        replay = _Replay(program.graph_module, recorder, copied.stack)
        try:
            result = replay.run(*values, enable_io_processing=False)
        except Exception as error:  # as above
            raise TraceError(
                f"The exported {type(model).__name__} cannot be read: {type(error).__name__}: {error}"
            ) from error
        return finish_recording(model, copied, recorder, result)


def export_program(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    leaves: Mapping[str, Substitute] | None = None,
) -> tuple[torch.export.ExportedProgram, MetaCopy, StandIns]:
    """What ``torch.export`` makes of a weightless copy of the model, which may be on the meta device.

    Returns:
        The program, the copy that was exported, and what its tensors are made by.

    Raises:
        TraceError: The model cannot be exported on these inputs.
    """
    stand_ins = StandIns(fake=True)
    with plain_state(), _quiet():
        copied = make_meta_copy(model, stand_ins)
        put_leaves(copied.module, leaves or {}, copied.stack)
        try:
            fakes = map_tensors((args, kwargs), stand_ins.like)
            return torch.export.export(copied.module, *fakes, strict=False), copied, stand_ins
        except Exception as error:  # torch.export raises whatever the model and its own passes raise
            raise TraceError(
                f"torch.export failed on {type(model).__name__}: {type(error).__name__}: {error}"
            ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.export writes the graph so far to stderr when it fails, and warns of what its error says."""
    loggers = ("torch.fx.experimental.symbolic_shapes", "torch._subclasses.fake_tensor")
    with unlogged(*loggers), contextlib.redirect_stderr(io.StringIO()), _without_stack_traces():
        yield


@contextlib.contextmanager
def _without_stack_traces() -> Iterator[None]:
    """Of each operation torch.export notes the stack of calls, which takes a sixth of its time."""
    option = "do_not_emit_stack_traces"
    before = getattr(fx_config, option, None)
    if before is None:  # an older torch
        yield
        return
    setattr(fx_config, option, True)
    try:
        yield
    finally:
        setattr(fx_config, option, before)


def _leaves(program: torch.export.ExportedProgram, copied: MetaCopy, inputs: list[Tensor]) -> list[Any]:
    """The twins and inputs, in the order of the exported graph's placeholders."""
    signature = program.graph_signature
    state: dict[str, Any] = {
        **dict(copied.module.named_parameters(remove_duplicate=False)),
        **dict(copied.module.named_buffers(remove_duplicate=False)),
    }
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    remaining = iter(inputs)
    leaves: list[Any] = []
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        if node.name in names:
            leaves.append(state[names[node.name]])
        elif node.name in constants:
            leaves.append(program.constants[constants[node.name]])
        elif isinstance(node.meta.get("val"), Tensor):
            leaves.append(next(remaining))
        else:
            leaves.append(node.meta.get("val"))
    return leaves


class _Replay(fx.Interpreter):
    """Feeds each exported operation through the recorder, which keeps track of writes in place."""

    def __init__(self, module: fx.GraphModule, recorder: Recorder, stack: list[str]) -> None:
        super().__init__(module)
        self.recorder, self.stack = recorder, stack

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, with the path of its module on the stack."""
        modules = list((n.meta.get("nn_module_stack") or {}).values())
        self.stack.append(modules[-1][0] if modules else self.stack[-1])
        try:
            return super().run_node(n)
        finally:
            self.stack.pop()

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record one operation."""
        if target is operator.getitem and not isinstance(args[0], Tensor):
            return target(*args, **kwargs)
        bodies = [arg for arg in args if isinstance(arg, fx.GraphModule)]
        if bodies:
            rest = [arg for arg in args[args.index(bodies[-1]) + 1 :] if not isinstance(arg, fx.GraphModule)]
            operands = rest[0] if len(rest) == 1 and isinstance(rest[0], (tuple, list)) else rest
            return _Replay(bodies[0], self.recorder, self.stack).run(*operands, enable_io_processing=False)
        if not isinstance(target, torch._ops.OpOverload):
            return self.recorder.call(target, args, kwargs)
        if target.overloadpacket in _FRESH:
            return self.recorder.call_fresh(target, args, kwargs)
        return self.recorder.call(target, args, kwargs)
