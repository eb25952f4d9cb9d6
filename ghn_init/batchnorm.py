"""Running statistics of normalisation layers, estimated from data: no GHN predicts them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from ghn_init.assigning.journal import Journal
from ghn_init.errors import DataError
from ghn_init.wrappers import unwrapped

Forward = Callable[[nn.Module, Any], Any]


def calibrate_batchnorm(
    model: nn.Module,
    loader: Iterable[Any],
    *,
    batches: int | None = None,
    device: torch.device | str | None = None,
    forward: Forward | None = None,
) -> list[str]:
    """Estimate the running mean and variance of every batch norm from real inputs, in place.

    A GHN predicts weights; a network with batch norm also needs these statistics before it can be used in
    evaluation mode. They become the averages over the batches, weighted by batch size, of each batch's
    mean and unbiased variance, as each layer sees them when batch norms use batch statistics and all else
    (dropout, stochastic depth) is in evaluation mode. Larger batches give better estimates.

    Weights, modes and momentum are as before afterwards. On any error the statistics are put back.

    Args:
        model: The model.
        loader: Batches. A tensor is passed to the model; of a tuple or list the first element; a mapping
            by keyword, without the keys that the model's forward does not take.
        batches: How many batches to use at most; default all.
        device: Where batches are moved to; default the device of the model's first parameter.
        forward: ``forward(model, batch)`` for batches of another form (it moves them itself).

    Returns:
        Paths of the layers whose statistics were estimated. A layer that the forward does not reach keeps
        its statistics and is not listed.

    Raises:
        DataError: The model has no running statistics, or the loader gave no batch.
    """
    model = unwrapped(model)
    layers = {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None
    }
    if not layers:
        raise DataError(
            f"{type(model).__name__} has no layer with running statistics: there is nothing to calibrate"
        )
    run = forward or _plain_forward(model, device)
    seen: dict[_NormBase, int] = {}
    count = 0
    with (
        Journal() as journal,
        journal,
        torch.no_grad(),
        _modes(model, layers.values()),
        _averaging(layers.values(), seen, journal),
    ):
        for batch in islice(loader, batches):
            run(model, batch)
            count += 1
    if not count:
        raise DataError("the loader gave no batch: running statistics cannot be estimated from nothing")
    return [path for path, layer in layers.items() if layer in seen]


def use_batch_statistics(module: nn.Module) -> None:
    """Lets every batch norm normalise by its batch, in training and evaluation alike, and keep no statistics.

    A GHN predicts no running statistics; they are counted afterwards (:func:`calibrate_batchnorm`).
    """
    for child in module.modules():
        if isinstance(child, _NormBase) and child.track_running_stats:
            child.track_running_stats = False
            child.running_mean = child.running_var = child.num_batches_tracked = None


def _plain_forward(model: nn.Module, device: torch.device | str | None) -> Forward:
    where = torch.device(device) if device is not None else next(model.parameters()).device
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())

    def run(model: nn.Module, batch: Any) -> Any:
        if isinstance(batch, Mapping):
            known = {key: value for key, value in batch.items() if takes_any or key in parameters}
            return model(**{key: _moved(value, where) for key, value in known.items()})
        if isinstance(batch, tuple | list):
            batch = batch[0]
        return model(_moved(batch, where))

    return run


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


@contextmanager
def _modes(model: nn.Module, layers: Iterable[_NormBase]) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training


@contextmanager
def _averaging(layers: Iterable[_NormBase], seen: dict[_NormBase, int], journal: Journal) -> Iterator[None]:
    """Before each call of a layer, set the momentum that makes its running statistics a plain average."""

    def weigh(layer: nn.Module, args: tuple[Any, ...]) -> None:
        assert isinstance(layer, _NormBase)
        if layer not in seen:
            for buffer in layer.buffers(recurse=False):
                journal.save(buffer)
        values = args[0].numel() // layer.num_features
        total = seen.get(layer, 0) + values
        layer.momentum = values / total
        seen[layer] = total

    with ExitStack() as stack:
        for layer in layers:
            stack.callback(setattr, layer, "momentum", layer.momentum)
            stack.enter_context(_removed_after(layer.register_forward_pre_hook(weigh)))
        yield


@contextmanager
def _removed_after(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
