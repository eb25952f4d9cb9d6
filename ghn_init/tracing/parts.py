"""Models without a forward of their own, whose parts run by themselves."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from torch import nn

from ghn_init.errors import InputError, TraceError
from ghn_init.tracing.inputs import Inputs, given_inputs
from ghn_init.tracing.leaf import inside


class Parts(nn.Module):
    """Stands for a model that has no forward: its forward runs the parts, each on inputs of its own.

    Args:
        model: The model; its modules, parameters and buffers are shared, under the same names.
        paths: Of the parts.
    """

    def __init__(self, model: nn.Module, paths: tuple[str, ...]) -> None:
        super().__init__()
        self._modules, self._parameters, self._buffers = model._modules, model._parameters, model._buffers
        self.training, self.paths = model.training, paths

    def forward(self, *inputs: Inputs) -> list[Any]:
        """The result of each part.

        Args:
            inputs: Positional and keyword arguments of each part.
        """
        pairs = zip(self.paths, inputs, strict=True)
        return [self.get_submodule(path)(*args, **kwargs) for path, (args, kwargs) in pairs]


def with_forward(model: nn.Module, leaves: Collection[str] = ()) -> nn.Module:
    """The model, or what stands for it if it has no forward: a container, or one that is run part by part.

    Args:
        model: Any module.
        leaves: Paths of parts that are left out.
    """
    if not _lacks_forward(model):
        return model
    paths = tuple(path for path in _parts(model, "") if inside(leaves, f"{path}.") is None)
    kind = type(type(model).__name__, (Parts,), {})
    return kind(model, paths) if paths else model


def inputs_of_parts(model: Parts, given: Any, find: Callable[[nn.Module], Inputs]) -> Inputs:
    """The arguments of :meth:`Parts.forward`.

    Args:
        model: What stands for the model.
        given: Mapping of paths of parts to their example inputs, or ``None``.
        find: Finds the inputs of a part that has none.

    Raises:
        InputError: ``given`` is no such mapping.
        TraceError: No inputs of a part are found.
    """
    chosen: Any = {} if given is None else given
    if not (isinstance(chosen, Mapping) and chosen.keys() <= set(model.paths)):
        raise InputError(
            f"{type(model).__name__} has no forward, so that its parts are traced by themselves: "
            f"example_inputs must be a dict of the inputs of some of them ({', '.join(model.paths)})."
        )
    found = []
    for path in model.paths:
        try:
            part = model.get_submodule(path)
            found.append(given_inputs(chosen[path]) if path in chosen else find(part))
        except TraceError as error:
            raise type(error)(
                f"{type(model).__name__} has no forward, and its part {path!r} cannot be traced by itself: "
                f"leave it out by leaf={path!r}, or pass example_inputs={{{path!r}: ...}}. {error}"
            ) from error
    return tuple(found), {}


def _lacks_forward(module: nn.Module) -> bool:
    return "forward" not in vars(module) and type(module).forward is nn.Module.forward


def _parts(module: nn.Module, path: str) -> Iterator[str]:
    """Paths of the outermost modules with a forward that hold parameters."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        if next(child.parameters(), None) is None:
            continue
        if _lacks_forward(child):
            yield from _parts(child, inner)
        else:
            yield inner
