"""Example inputs: taken from the user, from a registered maker, or found by looking at the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ghn_init.errors import InputError
from ghn_init.tracing.inputs_config import from_config
from ghn_init.tracing.inputs_layers import from_layers
from ghn_init.tracing.inputs_multimodal import from_modalities
from ghn_init.tracing.inputs_vision import from_image_config
from ghn_init.tracing.values import tensors_in

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
Predicate = Callable[[nn.Module], bool]
Maker = Callable[[nn.Module], Any]

_REGISTERED: list[tuple[Predicate, Maker]] = []


def register_inputs(predicate: Predicate, maker: Maker) -> Callable[[], None]:
    """Teach the library which example inputs a kind of model takes.

    Args:
        predicate: Called with a model; true where the maker applies. Later registrations come first.
        maker: Called with the model; returns example inputs: a tuple of positional arguments, a dict of
            keyword arguments, or one tensor. Floating tensors count by shape and dtype only and can be
            on meta.

    Returns:
        A function that takes the registration back.

    Example:
        >>> undo = register_inputs(
        ...     lambda model: hasattr(model, "mel_bins"), lambda model: torch.empty(2, model.mel_bins, 100)
        ... )
        >>> undo()
    """
    entry = (predicate, maker)
    _REGISTERED.insert(0, entry)

    def undo() -> None:
        if entry in _REGISTERED:
            _REGISTERED.remove(entry)

    return undo


def given_inputs(example_inputs: Any) -> Inputs:
    """The user's example inputs as arguments.

    Args:
        example_inputs: A tuple of positional arguments, a mapping of keyword arguments, or one tensor or
            list, which is the only argument.

    Raises:
        InputError: There is no tensor in them.
    """
    if isinstance(example_inputs, tuple) and not hasattr(example_inputs, "_fields"):
        inputs: Inputs = (example_inputs, {})
    elif isinstance(example_inputs, Mapping):
        inputs = ((), {str(key): value for key, value in example_inputs.items()})
    else:
        inputs = ((example_inputs,), {})
    if not _has_tensor(inputs):
        raise InputError(
            f"example_inputs of type {type(example_inputs).__name__} holds no tensor. Pass a tensor, a tuple "
            "of positional arguments, or a dict of keyword arguments."
        )
    return inputs


def _has_tensor(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = dict(value)
    return any(True for _ in tensors_in(value))


def candidate_inputs(model: nn.Module) -> Iterator[Inputs]:
    """Inputs that the model may take, likeliest first.

    Registered makers that apply come first and alone. Else what the model says of itself: an image
    classifier's ``pretrained_cfg`` (timm) or ``image_size`` (torchvision), a ``config`` with
    ``main_input_name`` (transformers), and last the shapes of its first layers.
    """
    for predicate, maker in list(_REGISTERED):
        if predicate(model):
            yield given_inputs(maker(model))
            return
    found = _found(model)
    while True:
        # Under a default device of the caller's, whole numbers would lose their values.
        with torch.device("cpu"):
            inputs = next(found, None)
        if inputs is None:
            return
        yield inputs


def _found(model: nn.Module) -> Iterator[Inputs]:
    yield from from_modalities(model)
    yield from from_config(model)
    yield from from_image_config(model)
    yield from from_layers(model)


def find_inputs(model: nn.Module) -> Inputs:
    """The likeliest example inputs of a model; see :func:`candidate_inputs`.

    Args:
        model: Any module; only read.

    Returns:
        ``(args, kwargs)``, with a batch of 2; floating tensors are on meta.

    Raises:
        InputError: Nothing was found.
    """
    for inputs in candidate_inputs(model):
        return inputs
    raise no_inputs(model)


def no_inputs(model: nn.Module) -> InputError:
    """The error for a model about whose inputs nothing is known."""
    return InputError(
        f"No example inputs were found for {type(model).__name__}. Pass example_inputs= (a tensor, a tuple "
        "of positional arguments, or a dict of keyword arguments), or teach them once with "
        "ghn_init.register_inputs."
    )
