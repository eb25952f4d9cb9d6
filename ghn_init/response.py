"""How a network with predicted weights responds to synthetic images: does the GHN know such networks?

Where a GHN knows a network, the prediction tells images apart, even images that mean nothing: each gets a
class with some confidence, and not all the same one. Far from the GHN's training all images look alike to it.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ghn_init.batchnorm import use_batch_statistics
from ghn_init.errors import ConfigError
from ghn_init.ghn import GHN
from ghn_init.graph import ArchGraph
from ghn_init.report import Response
from ghn_init.synthetic import attractors, function_system
from ghn_init.tracing.detach import detach_functions
from ghn_init.tracing.inputs import find_inputs, given_inputs
from ghn_init.tracing.values import tensors_in

logger = logging.getLogger("ghn_init")

Far = Literal["ignore", "warn", "keep"]

IMAGES, SYSTEMS, SIDE = 16, 10, 32
SMALL = 32
"""Side to which larger images are scaled first: most networks of convolutions take any size."""


@torch.no_grad()
def measure_response(
    model: nn.Module,
    ghn: GHN,
    graph: ArchGraph,
    example_inputs: Any = None,
    seed: int = 0,
    far: Far = "warn",
) -> Response | None:
    """Runs a copy of an image classifier on 16 synthetic images under the prediction.

    The copy shares the parameters that are not predicted; batch norms use the batch. A classifier of another
    class count is given, for this, as many classes as the GHN predicts.

    Args:
        model: The model; neither run nor changed.
        ghn: The GHN.
        graph: The model's graph.
        example_inputs: As for :func:`ghn_init.trace`.
        seed: Of what the prediction draws.
        far: ``ignore`` does nothing.

    Returns:
        None where it cannot be told: no classifier, inputs other than one batch of images, or a forward that
        fails on them.

    Raises:
        ConfigError: ``far`` is none of ``ignore``, ``warn``, ``keep``.
    """
    if far not in get_args(Far):
        raise ConfigError(f"far must be one of {list(get_args(Far))}, got {far!r}")
    if far == "ignore":
        return None
    heads = ghn.head_slots(graph)
    shape = _image_shape(model, example_inputs)
    if not heads or shape is None:
        return None
    classes = ghn.config.num_classes
    predicted = ghn.predict(_with_classes(graph, frozenset(heads), classes), seed=seed)
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, value in predicted.items():
        like = own.get(name, value)
        predicted[name] = value.to(like.dtype) if like.is_meta else value.to(like)
    try:
        value = information(_logits(_copy(model), predicted, shape, classes))
    except Exception as error:
        # Whatever the user's forward raises: the check must not keep apply from doing its work.
        logger.debug("no response of %s: %s", type(model).__name__, error, exc_info=error)
        return None
    return Response(value, ghn.config.response_floor)


def information(logits: Tensor) -> float:
    """Mutual information of inputs and classes in logits ``(N, K)``, as a share of ``ln min(N, K)``.

    Logits that are not finite count as 0.
    """
    count, classes = logits.shape
    likely = logits.double().nan_to_num(0.0, 0.0, 0.0).softmax(1)
    of_all, of_each = torch.special.entr(likely.mean(0)).sum(), torch.special.entr(likely).sum(1).mean()
    return float((of_all - of_each) / math.log(max(2, min(count, classes))))


def synthetic_images(channels: int, height: int, width: int, number: int = IMAGES) -> Tensor:
    """``(number, channels, height, width)`` fractals of ten kinds, standardised; always the same ones."""
    systems = np.stack([function_system(np.random.default_rng((0, 0, each))) for each in range(SYSTEMS)])
    drawn = attractors(systems[np.arange(number) % SYSTEMS], SIDE, np.random.default_rng((0, 2)))
    images = torch.from_numpy(drawn).float()
    images = (images - images.mean((0, 2, 3), keepdim=True)) / images.std((0, 2, 3), keepdim=True)
    if (height, width) != (SIDE, SIDE):
        images = F.interpolate(images, (height, width), mode="bilinear")
    return images if channels == 3 else images.mean(1, keepdim=True).expand(-1, channels, -1, -1)


def _logits(
    model: nn.Module, tensors: dict[str, Tensor], shape: tuple[int, int, int], classes: int
) -> Tensor:
    """Outputs ``(N, classes)`` at a small size of the images, if the model takes it, else at its own."""
    channels, height, width = shape
    scale = SMALL / max(height, width, SMALL)
    sizes = [(round(height * scale), round(width * scale)), (height, width)]
    for size in dict.fromkeys(sizes):
        images = synthetic_images(channels, *size)
        images = images.to(next(iter(tensors.values())))
        try:
            outputs = functional_call(model, tensors, (images,))
        except (RuntimeError, ValueError, AssertionError, TypeError):
            if size == sizes[-1]:
                raise
            continue
        return next(each for each in tensors_in(outputs) if each.shape == (len(images), classes))
    raise AssertionError("unreachable")


def _image_shape(model: nn.Module, example_inputs: Any) -> tuple[int, int, int] | None:
    """Channels, height and width of the images that are a model's only input; None if it takes others."""
    args, kwargs = find_inputs(model) if example_inputs is None else given_inputs(example_inputs)
    found = list(tensors_in((args, kwargs)))
    if len(found) != 1 or found[0].ndim != 4 or not found[0].is_floating_point():
        return None
    _, channels, height, width = found[0].shape
    return (channels, height, width) if channels in (1, 3) else None


def _with_classes(graph: ArchGraph, heads: frozenset[str], classes: int) -> ArchGraph:
    """The graph with classifiers of so many classes."""
    nodes = [
        replace(
            node,
            params=tuple(
                replace(slot, shape=(classes, *slot.shape[1:])) if slot.name in heads else slot
                for slot in node.params
            ),
            shape=(classes, *node.shape[1:])
            if node.shape is not None and any(slot.name in heads for slot in node.params)
            else node.shape,
        )
        for node in graph.nodes
    ]
    return replace(graph, nodes=type(graph.nodes)(nodes))


def _copy(model: nn.Module) -> nn.Module:
    """A copy in evaluation mode with the model's own parameters, and batch norms that use the batch."""
    memo: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    copied = copy.deepcopy(model, memo)
    detach_functions(copied, memo)
    copied.eval()
    use_batch_statistics(copied)
    return copied
