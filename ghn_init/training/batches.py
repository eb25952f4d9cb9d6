"""Batches of a training run at any position of its stream: of images in memory, or of any loader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, count
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.errors import ConfigError, DataError
from ghn_init.isolation import own_generators
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData
from ghn_init.training.order import Shuffled

Batch: TypeAlias = tuple[Tensor, Tensor]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Loader: TypeAlias = Iterable[Any]


class Batches(Protocol):
    """A stream of batches that depends on the run's seed alone, so that a resumed run continues it exactly.

    Attributes:
        source: Where the batches come from, for people.
        outputs: Number of classes; None if the data do not tell.
    """

    source: str
    outputs: int | None

    def take(self, start: int, number: int, side: int) -> list[Batch]:
        """Inputs ``(B, ...)`` and targets at places ``start`` to ``start + number`` of the stream."""
        ...

    def example(self, side: int) -> Tensor:
        """Inputs ``(2, ...)`` to trace networks with."""
        ...


class ImageBatches:
    """Shuffled images in memory.

    Raises:
        DataError: There are fewer images than one batch needs.
    """

    def __init__(self, data: ImageData, config: TrainConfig) -> None:
        self.source, self.outputs = data.source, _count(data.classes)
        self._data, self._size = data, config.batch_size
        if len(data) < config.batch_size:
            raise DataError(
                f"{data.source}: {len(data)} images are fewer than one batch of {config.batch_size}"
            )
        self._order = Shuffled(len(data), config.seed)

    def take(self, start: int, number: int, side: int) -> list[Batch]:
        """See :class:`Batches`."""
        indices = torch.tensor(self._order.take(start * self._size, number * self._size))
        return [self._data.batch(part, side) for part in indices.split(self._size)]

    def example(self, side: int) -> Tensor:
        """See :class:`Batches`."""
        return torch.zeros(2, 3, side, side)


class LoaderBatches:
    """The epochs of a ``DataLoader``, or of any iterable of pairs that can be gone through again.

    Every batch is drawn under random generators (torch, Python, NumPy, those of the loader and of its
    sampler) seeded by the run's seed, the epoch and the place in it: shuffling and augmentation are those of
    the loader, and yet the same in a run that continues. To continue inside an epoch, its first batches are
    loaded again; so are all epochs before it if the loader does not tell its length.

    Args:
        loader: Gives pairs of inputs ``(B, ...)`` and targets.
        config: The run.

    Raises:
        DataError: The loader gives nothing, or no pairs of tensors, or images of another size than the
            configuration says.
    """

    def __init__(self, loader: Loader, config: TrainConfig) -> None:
        dataset = getattr(loader, "dataset", loader)
        self.source = f"{type(loader).__name__} of {type(dataset).__name__}"
        self.outputs = _count(getattr(dataset, "classes", None))
        self._loader, self._seed, self._side = loader, config.seed, config.image_size
        if hasattr(loader, "__next__"):
            raise DataError(f"{self.source}: an iterator ends for good; pass what it was made of, or a list")
        stream = self._from(0)
        first, _ = self._checked(opening := next(stream))
        self._next, self._stream = 0, chain([opening], stream)
        self._example = torch.zeros_like(first[:1]).expand(2, *first.shape[1:])
        if first.ndim != 4 and config.small_share:
            shape = tuple(first.shape)
            raise ConfigError(f"small_share needs images (B, C, H, W); {self.source} gives inputs {shape}")
        if first.ndim == 4 and tuple(first.shape[2:]) != (config.image_size,) * 2:
            height, width = first.shape[2:]
            raise DataError(
                f"{self.source}: images of {height}x{width} pixels, but the configuration's image_size is "
                f"{config.image_size}: scale them, or change image_size"
            )

    def take(self, start: int, number: int, side: int) -> list[Batch]:
        """See :class:`Batches`."""
        if start < self._next:
            self._next, self._stream = start, self._from(start)
        found: list[Batch] = []
        while self._next < start + number:
            batch = next(self._stream)
            if self._next >= start:
                inputs, targets = self._checked(batch)
                found.append((self._prepared(inputs, side), targets))
            self._next += 1
        return found

    def example(self, side: int) -> Tensor:
        """See :class:`Batches`."""
        return self._prepared(self._example, side)

    def _from(self, place: int) -> Iterator[Any]:
        """Batches from a place of the stream on; epochs of a known length are not gone through before it."""
        length = _length(self._loader)
        first, skip = divmod(place, length) if length else (0, place)
        for epoch in count(first):
            done = 0
            for batch in self._epoch(epoch):
                done += 1
                if skip:
                    skip -= 1
                    continue
                yield batch
            if not done:
                raise DataError(f"{self.source}: no batch in epoch {epoch}")

    def _epoch(self, epoch: int) -> Iterator[Any]:
        for holder in (self._loader, getattr(self._loader, "sampler", None)):
            if isinstance(generator := getattr(holder, "generator", None), torch.Generator):
                generator.manual_seed(self._derived(epoch, 0))
            if callable(set_epoch := getattr(holder, "set_epoch", None)):
                set_epoch(epoch)
        with own_generators(self._derived(epoch, 0)):
            iterator = iter(self._loader)
        for place in count(1):
            with own_generators(self._derived(epoch, place)):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def _derived(self, epoch: int, place: int) -> int:
        return int(np.random.SeedSequence((self._seed, epoch, place)).generate_state(1)[0])

    def _checked(self, batch: Any) -> Batch:
        pair = isinstance(batch, tuple | list) and len(batch) == 2
        if not pair or not all(isinstance(each, Tensor) for each in batch):
            told = [type(each).__name__ for each in batch] if isinstance(batch, tuple | list) else type(batch)
            raise DataError(f"{self.source}: expected batches (inputs, targets) of two tensors, got {told}")
        inputs, targets = batch
        if not inputs.ndim or not len(inputs):
            raise DataError(f"{self.source}: expected inputs (B, ...), got shape {tuple(inputs.shape)}")
        return inputs, targets

    def _prepared(self, inputs: Tensor, side: int) -> Tensor:
        if inputs.ndim != 4:
            return inputs
        if side != self._side:
            inputs = F.interpolate(inputs, size=(side, side), mode="area")
        return inputs.contiguous(memory_format=torch.channels_last)


def as_batches(data: ImageData | Loader, config: TrainConfig) -> ImageBatches | LoaderBatches:
    """The stream of batches of a run: of images, or of a loader."""
    return ImageBatches(data, config) if isinstance(data, ImageData) else LoaderBatches(data, config)


def name_of(loss: Loss) -> str:
    """What a loss is called in checkpoints: a function's name, or that of an object's class."""
    return getattr(loss, "__qualname__", type(loss).__qualname__)


def outputs(data: Batches, config: TrainConfig) -> int:
    """Number of a network's outputs: the classes of the data, else what the configuration says.

    Raises:
        ConfigError: Neither tells, or they differ.
    """
    said: Any = config.ghn.get("num_classes", data.outputs)
    if said is None:
        raise ConfigError(
            f"{data.source} does not tell how many outputs networks have: set num_classes in the "
            "configuration's ghn"
        )
    if data.outputs is not None and said != data.outputs:
        raise ConfigError(f"{data.source} has {data.outputs} classes, the configuration's ghn {said}")
    return said


def _count(classes: Sequence[str] | None) -> int | None:
    return len(classes) if classes else None


def _length(loader: Loader) -> int | None:
    """Batches of one epoch; None where it is not known before."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except TypeError:  # a DataLoader of an iterable data set has a __len__ that fails
        return None
