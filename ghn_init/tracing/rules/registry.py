"""The table from recorded functions to rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ghn_init.tracing.rules.functions import base_function, first_arguments

if TYPE_CHECKING:
    from ghn_init.tracing.flow import Flow
    from ghn_init.tracing.rules.call import Call

Rule = Callable[["Call"], "Flow"]
RuleT = TypeVar("RuleT", bound="Rule")

_RULES: dict[Any, Rule] = {}
_BY_ARGUMENTS: dict[tuple[str, ...], Rule] = {}


def register_rule(*functions: Callable[..., Any] | str) -> Callable[[RuleT], RuleT]:
    """Decorator: say which primitive these functions are in the graph.

    A rule gets a :class:`~ghn_init.tracing.rules.call.Call` and returns what the call's result carries. It
    usually ends in ``call.emit(primitive, data, weight=..., bias=...)``, or in ``call.wire()`` where the
    operation is none of the 15 primitives. It looks at the operation and its arguments only.

    A rule registered later replaces an earlier one for the same function.

    Args:
        functions: Function objects as called in the forward (``torch.nn.functional.conv2d``, a function of
            your own that handles ``__torch_function__``), or ATen operations
            (``torch.ops.aten.convolution``) for models traced by ``torch.export``, or names
            ``namespace::operation`` of operations that other libraries register when they are imported.
            Of an autograd function, its ``apply``.

    Example:
        >>> import torch, ghn_init
        >>> @ghn_init.register_rule(torch.cdist)  # distances to learned prototypes act like a linear layer
        ... def cdist(call):
        ...     return call.emit("conv", call.arg(0, "x1"), weight=call.arg(1, "x2"))

    Raises:
        TypeError: No function was given, or one is not callable.
    """
    if not functions or not all(callable(function) or _is_name(function) for function in functions):
        raise TypeError(f"register_rule takes one or more functions, got {functions!r}")

    def register(rule: RuleT) -> RuleT:
        for function in functions:
            _RULES[base_function(function)] = rule
        return rule

    return register


def find_rule(function: Any) -> Rule | None:
    """The rule of a recorded function; None for wire."""
    base = base_function(function)
    try:
        rule = _RULES.get(base)
    except TypeError:  # not hashable
        return None
    named = _RULES.get(getattr(base, "_qualified_op_name", None))
    return rule or named or _BY_ARGUMENTS.get(first_arguments(base))


def autograd_functions() -> list[type[torch.autograd.Function]]:
    """Custom autograd functions that have a rule."""
    return [key for key in _RULES if isinstance(key, type) and issubclass(key, torch.autograd.Function)]


def register_arguments(*names: tuple[str, str, str]) -> Callable[[RuleT], RuleT]:
    """Decorator: the rule of operations of other libraries whose first arguments have these names."""

    def register(rule: RuleT) -> RuleT:
        _BY_ARGUMENTS.update(dict.fromkeys(names, rule))
        return rule

    return register


def _is_name(function: Any) -> bool:
    return isinstance(function, str) and "::" in function
