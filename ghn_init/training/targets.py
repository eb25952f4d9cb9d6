"""Target networks ready for training: a module without weights of its own, and its graph."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ghn_init.batchnorm import use_batch_statistics
from ghn_init.errors import DataError, GHNInitError, MissingPackageError
from ghn_init.ghn import GHN
from ghn_init.graph import ArchGraph
from ghn_init.tracing.trace import trace
from ghn_init.training.spaces import Architecture, Space

logger = logging.getLogger("ghn_init")

FAILURES = (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError)
"""What a network may raise when it is built, traced or run; it is left out then."""

FIRST_FEW = 8
"""Architectures that are tried before a run in which none can be used is given up."""


@dataclass(frozen=True, eq=False)
class TargetNet:
    """A network whose predicted parameters are given at each call.

    Attributes:
        module: The network; its predicted parameters are on the meta device, all others hold values.
        graph: Its graph.
    """

    module: nn.Module
    graph: ArchGraph

    def __call__(self, tensors: Mapping[str, Tensor], images: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, 3, S, S)`` under the given parameters."""
        return functional_call(self.module, dict(tensors), (images,))


def prepare_target(
    architecture: Architecture,
    ghn: GHN,
    image_size: int = 32,
    seed: int = 0,
    example: Tensor | None = None,
) -> TargetNet:
    """Builds and traces one network for training ``ghn``.

    Args:
        architecture: What to build; it gets as many classes as the GHN predicts.
        ghn: The GHN, for its number of classes and its graph convention.
        image_size: Side of the images in pixels.
        seed: Of the values that the GHN does not predict (layer scales, class tokens).
        example: Inputs to trace with; default: two RGB images of that side.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = architecture.build(ghn.config.num_classes, image_size)
    return _without_weights(module, ghn, image_size, example)


def trace_target(module: nn.Module, ghn: GHN, image_size: int = 32) -> TargetNet:
    """The same for a module of one's own, which is copied and left as it is."""
    return _without_weights(copy.deepcopy(module), ghn, image_size)


def _without_weights(
    module: nn.Module, ghn: GHN, image_size: int, example: Tensor | None = None
) -> TargetNet:
    module.eval()
    example = torch.zeros(2, 3, image_size, image_size) if example is None else example
    graph = trace(module, example, convention=ghn.config.graph_convention)
    predicted = ghn.plan(graph).predicted
    use_batch_statistics(module)
    named = dict(module.named_parameters(remove_duplicate=False))
    empty = {
        id(named[name]): nn.Parameter(torch.empty_like(named[name], device="meta")) for name in predicted
    }
    for name, parameter in named.items():
        if id(parameter) in empty:  # an alias of a tied parameter must stay one with it
            path, _, last = name.rpartition(".")
            setattr(module.get_submodule(path), last, empty[id(parameter)])
    device = next(ghn.parameters()).device
    module._apply(lambda tensor: tensor if tensor.is_meta else tensor.to(device))
    return TargetNet(module, graph)


class TargetPool:
    """The first ``size`` architectures of a space, each prepared when it is first asked for.

    Attributes:
        failed: Index → why an architecture could not be built, traced or run; it is skipped.
        succeeded: Whether any architecture could be run.
    """

    def __init__(
        self,
        space: Space,
        ghn: GHN,
        size: int | None,
        image_size: int,
        seed: int = 0,
        example: Tensor | None = None,
    ) -> None:
        self._space, self._ghn, self._size = space, ghn, size
        self._image_size, self._seed, self._example = image_size, seed, example
        self._ready: dict[int, TargetNet] = {}
        self.failed: dict[int, str] = {}
        self.succeeded = False

    def get(self, index: int) -> TargetNet | None:
        """The target of one index, or None if it cannot be built or traced (counted in ``failed``)."""
        if index in self._ready:
            return self._ready[index]
        if index in self.failed:
            return None
        architecture = self._space[index]
        try:
            target = prepare_target(architecture, self._ghn, self._image_size, self._seed, self._example)
        except MissingPackageError:
            raise
        except (GHNInitError, *FAILURES) as error:
            self.leave_out(index, error)
            return None
        if self._size is not None:
            self._ready[index] = target
        return target

    def leave_out(self, index: int, error: Exception) -> None:
        """Skip the architecture of one index from now on, and remember why.

        Raises:
            DataError: It is the last of the first few, and none could be run: skipping would go on for ever.
        """
        family = self._space[index].family
        self.failed[index] = f"{family}: {error}"
        self._ready.pop(index, None)
        logger.warning("architecture %d (%s) is left out: %s", index, family, error)
        if not self.succeeded and len(self.failed) >= min(FIRST_FEW, self._size or FIRST_FEW):
            raise DataError(
                f"none of the first {len(self.failed)} architectures can be run, the last one ({family}) "
                f"because: {error}. Do these families take the data's inputs and the image_size?"
            ) from error
