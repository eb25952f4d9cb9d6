"""The labelled batches that candidates are scored on, checked once, and how a model is called on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.errors import DataError
from ghn_init.training.data import ImageData, Split
from ghn_init.training.datasets import load_images


@dataclass(frozen=True)
class Evidence:
    """Batches in memory.

    Attributes:
        inputs: What the model takes, for each batch: a tensor, or a mapping of keyword arguments.
        labels: Class indices ``(B,)`` of each batch.
    """

    inputs: list[Any]
    labels: list[Tensor]

    def __len__(self) -> int:
        return sum(len(labels) for labels in self.labels)

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return 1 + max(int(labels.max()) for labels in self.labels)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """``(C, H, W)`` of images; None for other inputs."""
        first = self.inputs[0]
        return tuple(first.shape[1:]) if isinstance(first, Tensor) and first.ndim == 4 else None

    @property
    def digest(self) -> str:
        """Of everything in it."""
        found = hashlib.sha256()
        for inputs, labels in zip(self.inputs, self.labels, strict=True):
            parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
            for part in [*parts, labels]:
                if isinstance(part, Tensor):
                    values = part.detach().cpu().contiguous().flatten().view(torch.uint8)
                    found.update(f"{part.dtype} {tuple(part.shape)}".encode() + values.numpy().tobytes())
        return found.hexdigest()[:16]

    def halves(self) -> tuple[Evidence, Evidence]:
        """Batches in turn, so that both halves are alike.

        Raises:
            DataError: There is only one batch.
        """
        if len(self.labels) < 2:
            raise DataError(
                "training steps need images apart from those that score: give more than one batch, or "
                "train_data="
            )
        return tuple(Evidence(self.inputs[i::2], self.labels[i::2]) for i in (1, 0))  # type: ignore[return-value]


def image_data(data: Any, split: Split) -> Any:
    """Images by their name (:func:`ghn_init.training.datasets.load_images`); anything else as it is.

    Raises:
        DataError: The name is unknown, or the images are not there.
    """
    return load_images(data, split) if isinstance(data, str) else data


def evidence(data: Any, *, images: int, batch_size: int) -> Evidence:
    """Read at most about ``images`` labelled examples.

    Args:
        data: ``(inputs, labels)`` tensors; an :class:`ImageData`; an iterable of batches ``(inputs, labels)``
            or of mappings with ``labels``; or the name of a data set (its test images).
        images: How many to use at most (whole batches).
        batch_size: Of tensors and image data; an iterable keeps its own.

    Raises:
        DataError: There is nothing, or inputs and labels do not fit each other.
    """
    data = image_data(data, "test")
    if isinstance(data, ImageData):
        batches: Iterable[Any] = data.head(images).batches(batch_size)
    elif isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        inputs, labels = data
        if len(inputs) != len(labels):
            raise DataError(f"{len(inputs)} inputs but {len(labels)} labels")
        batches = zip(inputs[:images].split(batch_size), labels[:images].split(batch_size), strict=True)
    elif isinstance(data, Iterable):
        batches = data
    else:
        raise DataError(
            f"data must be (inputs, labels), batches of them, or a name, not a {type(data).__name__}"
        )
    return _collected(batches, images)


def _collected(batches: Iterable[Any], images: int) -> Evidence:
    found = Evidence([], [])
    for batch in batches:
        inputs, labels = parts_of(batch)
        if labels.dtype.is_floating_point or labels.ndim != 1:
            raise DataError(
                f"labels must be class indices of shape (B,), got {labels.dtype} of shape "
                f"{tuple(labels.shape)}"
            )
        if len(labels) and int(labels.min()) < 0:
            raise DataError(f"a label is {int(labels.min())}: class indices start at 0")
        if isinstance(inputs, Tensor):
            _check_shape(inputs, labels, found.inputs[0] if found.inputs else inputs)
        if len(labels):
            found.inputs.append(inputs)
            found.labels.append(labels.long())
        if len(found) >= images:
            break
    if not found.labels:
        raise DataError("the data holds no labelled example")
    return found


def _check_shape(inputs: Tensor, labels: Tensor, first: Any) -> None:
    """Refuse what no network could take, with the numbers."""
    shape = tuple(inputs.shape)
    if len(inputs) != len(labels):
        raise DataError(f"a batch has {len(inputs)} inputs but {len(labels)} labels")
    if inputs.ndim != 4:
        return
    if isinstance(first, Tensor) and first.shape[1:] != inputs.shape[1:]:
        raise DataError(f"images of shapes {tuple(first.shape[1:])} and {shape[1:]}: all must have one shape")
    if shape[1] not in (1, 3, 4) and shape[3] in (1, 3, 4):
        raise DataError(
            f"images of shape {shape} have their channels last: give (B, C, H, W), inputs.permute(0, 3, 1, 2)"
        )
    if not inputs.dtype.is_floating_point:
        raise DataError(
            f"images of shape {shape} are {inputs.dtype}: scale them to floats as for training, for example "
            "(inputs / 255 - mean) / std"
        )


def parts_of(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and labels of a batch.

    Raises:
        DataError: It has another form.
    """
    if isinstance(batch, Mapping) and isinstance(batch.get("labels"), Tensor):
        return {key: value for key, value in batch.items() if key != "labels"}, batch["labels"]
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and isinstance(batch[1], Tensor):
        return batch[0], batch[1]
    raise DataError(
        f"a batch must be (inputs, labels) or a mapping with 'labels', not a {type(batch).__name__}"
    )


def call(model: nn.Module, inputs: Any) -> Any:
    """The model's output for one batch of inputs."""
    return model(**inputs) if isinstance(inputs, Mapping) else model(inputs)


def logits(model: nn.Module, inputs: Any, classes: int) -> Tensor:
    """Logits ``(B, K)``, K at least ``classes``, from a tensor, tuple, mapping or object with ``logits``.

    Raises:
        DataError: The output has another form, or fewer classes than the labels.
    """
    output = call(model, inputs)
    output = getattr(output, "logits", output)
    if isinstance(output, Mapping):
        output = output.get("logits", next(iter(output.values()), None))
    if isinstance(output, (tuple, list)) and output:
        output = output[0]
    if not isinstance(output, Tensor) or output.ndim != 2:
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise DataError(f"the model's output is {shape}, not logits of shape (batch, classes)")
    if output.shape[1] < classes:
        raise DataError(f"the model has {output.shape[1]} classes and the labels go up to {classes - 1}")
    return output


def moved(value: Any, device: torch.device) -> Any:
    """Inputs on ``device``."""
    if isinstance(value, Mapping):
        return {key: moved(item, device) for key, item in value.items()}
    return value.to(device) if isinstance(value, Tensor) else value


def example(inputs: Any, count: int | None = None) -> Any:
    """Inputs as ``example_inputs`` takes them, the first ``count`` examples only."""
    if isinstance(inputs, Mapping):
        return {key: value[:count] if isinstance(value, Tensor) else value for key, value in inputs.items()}
    return (inputs[:count],)
