"""A weightless copy of a model: every parameter, buffer and tensor attribute becomes a stand-in."""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ghn_init.errors import TraceError
from ghn_init.parallel import copy_undistributed, whole_value
from ghn_init.tracing.detach import detach_functions
from ghn_init.tracing.inputs_config import sub_configs
from ghn_init.tracing.logical import collapse, logical_parameters, packed_linears, unpack
from ghn_init.tracing.values import Binding, StandIns, bind
from ghn_init.wrappers import compiled_module

# Whole-number buffers up to this size keep their value: models index and branch with them.
_KNOWN_BUFFER_ELEMENTS = 1 << 16


def _without_global_hooks(call: types.FunctionType) -> types.FunctionType:
    """``nn.Module``'s call without the hooks that the user registered for all modules."""
    names = [name for name in call.__code__.co_names if name.startswith("_global_")]
    return types.FunctionType(call.__code__, {**call.__globals__, **{name: OrderedDict() for name in names}})


_CALL = _without_global_hooks(nn.Module._call_impl)  # type: ignore[arg-type]


@dataclass
class MetaCopy:
    """A copy that can be run on stand-ins without touching the original.

    Attributes:
        module: The copy. Its tensors carry a binding with their qualified name.
        parameters: Canonical name → shape of each logical parameter: a parametrised tensor goes by the
            attribute's name (``conv.weight``), in place of the tensors that it is computed from.
        tied: Alias → canonical name.
        originals: ``id`` of an original tensor → its twin.
        stack: Paths of the modules whose forward is running, outermost first; starts with the root.
        failure: Last exception that left a module's forward, and the innermost module's path.
    """

    module: nn.Module
    parameters: dict[str, tuple[int, ...]]
    tied: dict[str, str]
    originals: dict[int, Tensor]
    stack: list[str] = field(default_factory=lambda: [""])
    failure: tuple[BaseException, str] | None = None


def make_meta_copy(model: nn.Module, stand_ins: StandIns) -> MetaCopy:
    """Copy the model's structure; see :class:`MetaCopy`.

    Args:
        model: The user's model; only read.
        stand_ins: How tensors without values are made.
    """
    twins = _Twins(stand_ins)
    for name, parameter in model.named_parameters():
        twins.add_parameter(parameter, name)
    for name, buffer in model.named_buffers():
        twins.memo[id(buffer)] = twins.value(buffer, name)
    originals = dict(twins.memo)
    _skip_offloading(model, twins.memo)
    module = _deepcopy(model, twins)
    detach_functions(module, twins.memo)
    collapse(module, stand_ins)
    unpack(module, packed_linears(model), stand_ins)
    _without_cache(module)
    parameters, tied = logical_parameters(module)
    result = MetaCopy(module, parameters, tied, originals)
    for path, child in module.named_modules():
        _watch(child, path, result)
    return result


class _Twins(TorchFunctionMode):
    """Turns each deep copy of a tensor into a twin, so that no weight is copied."""

    def __init__(self, stand_ins: StandIns) -> None:
        super().__init__()
        self.stand_ins = stand_ins
        self.memo: dict[int, Any] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is Tensor.__deepcopy__:
            memo = args[1]
            return memo.setdefault(id(args[0]), self.value(args[0], None))
        if func is Tensor.clone:
            # nn.Parameter copies itself by a clone of its data.
            return self.value(args[0], None)
        return func(*args, **(kwargs or {}))

    def add_parameter(self, parameter: Tensor, name: str) -> None:
        """Make the twin of a parameter."""
        dtype = torch.float32 if parameter.is_quantized else None
        twin = nn.Parameter(self.stand_ins.like(parameter, dtype), requires_grad=parameter.requires_grad)
        bind(twin, Binding(None, 0, known=False, slot=name))
        self.memo[id(parameter)] = twin

    def value(self, tensor: Tensor, name: str | None) -> Tensor:
        """Twin of a buffer or tensor attribute; small whole-number ones keep their value."""
        whole = not (tensor.is_floating_point() or tensor.is_complex())
        small = whole and tensor.numel() <= _KNOWN_BUFFER_ELEMENTS and not self.stand_ins.made(tensor)
        there = whole_value(tensor) if small else None
        twin = self.stand_ins.like(tensor) if there is None else there.detach().to("cpu", copy=True)
        bind(twin, Binding(None, 0, known=there is not None, slot=name or "constant"))
        return twin


def _skip_offloading(model: nn.Module, memo: dict[int, Any]) -> None:
    """Leave accelerate's device hooks, and the weights that they keep, out of the copy."""
    for module in model.modules():
        hook = module.__dict__.get("_hf_hook")
        if hook is not None:
            memo[id(hook)] = None


def _without_cache(module: nn.Module) -> None:
    """Turn key-value caches off in the copy's configurations: they are outputs that no loss sees."""
    configs = [part.__dict__["config"] for part in module.modules() if "config" in part.__dict__]
    seen: set[int] = set()
    while configs:
        config = configs.pop()
        if id(config) in seen:
            continue
        seen.add(id(config))
        configs.extend(sub_configs(config))
        if getattr(config, "use_cache", None) is True:
            config.use_cache = False


def _deepcopy(model: nn.Module, twins: _Twins) -> nn.Module:
    """Deep copy; attributes that cannot be copied (locks, files, process groups) are shared."""
    memo = dict(twins.memo)
    try:
        with twins:
            module = copy_undistributed(model, memo)
    except Exception:  # noqa: BLE001 - any attribute may refuse in its own way
        for part in model.modules():
            for key, value in part.__dict__.items():
                if key not in ("_parameters", "_buffers", "_modules") and not _copies(value, twins):
                    twins.memo[id(value)] = value
        memo = dict(twins.memo)
        try:
            with twins:
                module = copy_undistributed(model, memo)
        except Exception as error:
            raise TraceError(
                f"{type(model).__name__} cannot be copied, and its forward runs on a copy only: "
                f"{type(error).__name__}: {error}. If the model is sharded or wrapped, call ghn_init.trace "
                "before that, and give the result to apply as graph=."
            ) from error
    twins.memo = memo
    return module


def _copies(value: Any, twins: _Twins) -> bool:
    try:
        with twins:
            copy.deepcopy(value, dict(twins.memo))
    except Exception as error:  # noqa: BLE001 - any attribute may refuse in its own way
        return isinstance(error, RecursionError)
    return True


def _watch(module: nn.Module, path: str, copied: MetaCopy) -> None:
    """Keep ``copied.stack`` up to date while the module's forward runs."""
    state = module.__dict__
    if state.pop("_hf_hook", "absent") != "absent":
        state.pop("forward", None)
        original = state.pop("_old_forward", None)
        if original is not None:
            state["forward"] = original
    state["_compiled_call_impl"] = None
    if type(module)._call_impl is nn.Module._call_impl:
        state["_call_impl"] = types.MethodType(_CALL, module)
    # The wrapper that torch.compile puts around a submodule runs compiled code.
    forward, stack = compiled_module(module) or module.forward, copied.stack

    @functools.wraps(forward, updated=())
    def watched(*args: Any, **kwargs: Any) -> Any:
        stack.append(path)
        try:
            return forward(*args, **kwargs)
        except Exception as error:
            if copied.failure is None or copied.failure[0] is not error:
                copied.failure = (error, path)
            raise
        finally:
            stack.pop()

    state["forward"] = watched
