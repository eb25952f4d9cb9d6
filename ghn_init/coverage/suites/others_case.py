"""How the models of other libraries are written down: import path, arguments, example inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.coverage.case import Case, UnavailableError


def case(
    path: str, *args: Any, inputs: Any = None, name: str = "", evaluate: bool = False, **kwargs: Any
) -> Case:
    """A model of another library.

    Args:
        path: ``package.module:callable``, imported when the model is built.
        args: Of the callable. A :class:`Build` among them is built first.
        inputs: Example inputs, or a function that makes them of the model; ``None`` where they are found.
        name: Of the case, after the library's; by default the callable's.
        evaluate: Measure the model in evaluation mode.
        kwargs: Of the callable.
    """
    module, _, attribute = path.partition(":")
    library = module.partition(".")[0]
    build = partial(_build, Build(path, *args, **kwargs), evaluate)
    made = inputs if inputs is None or callable(inputs) else partial(_given, inputs)
    return Case(f"{library}/{name or attribute}", library, build, made)


class Build:
    """A call of a library's function that is made when the model is built.

    Args:
        path: ``package.module:callable``.
        args: Of the callable; a :class:`Build` among them, or in a list among them, is called first.
        kwargs: Of the callable.
    """

    def __init__(self, path: str, *args: Any, **kwargs: Any) -> None:
        self.path, self.args, self.kwargs = path, args, kwargs

    def __call__(self) -> Any:
        """The function's result.

        Raises:
            UnavailableError: The library, or a package that it needs, is not installed.
        """
        function = found(self.path)
        kwargs = {key: built(value) for key, value in self.kwargs.items()}
        return function(*(built(value) for value in self.args), **kwargs)


def found(path: str) -> Callable[..., Any]:
    """What a path ``package.module:attribute.attribute`` names.

    Raises:
        UnavailableError: The library, or a package that it needs, is not installed.
    """
    module, _, attributes = path.partition(":")
    try:
        with torch._C.DisableTorchFunction():  # of a device context, under which nothing can be scripted
            value: Any = import_module(module)
    except ImportError as error:
        raise UnavailableError(f"{module.partition('.')[0]}: {error}") from error
    for attribute in attributes.split("."):
        value = getattr(value, attribute)
    return value


def built(value: Any) -> Any:
    """An argument with every :class:`Build` in it replaced by what it builds."""
    if isinstance(value, Build):
        return value()
    if isinstance(value, list):
        return [built(item) for item in value]
    if isinstance(value, dict):
        return {key: built(item) for key, item in value.items()}
    return value


def floats(*shape: int) -> Tensor:
    """A floating tensor without values, as example input."""
    return torch.empty(shape, device="meta")


def tokens(high: int, *shape: int) -> Tensor:
    """Whole numbers below ``high``, all of them in turn."""
    size = torch.Size(shape).numel()
    return (torch.arange(size, device="cpu") % high).view(shape)


def mask(*shape: int) -> Tensor:
    """A mask that hides nothing."""
    return torch.ones(shape, dtype=torch.bool, device="cpu")


def _given(inputs: Any, model: nn.Module) -> Any:
    return inputs


def _build(call: Build, evaluate: bool) -> nn.Module:
    model = call()
    return model.eval() if evaluate else model
