"""Images in memory; Fashion-MNIST from its idx files where they are found, else the bundled real subset."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ghn_init.assets import FASHION_MNIST_SUBSET
from ghn_init.errors import DataError

Split = Literal["train", "test"]

FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
MEAN, STD = 0.2860, 0.3530
IMAGE_SIZE = 32

_PREFIX = {"train": "train", "test": "t10k"}
_LAYOUTS = ("", "FashionMNIST/raw", "fashion-mnist", "fashion_mnist")
_IDX_UINT8 = 0x08


@dataclass(frozen=True)
class ImageData:
    """Labelled images in memory, grey or RGB.

    Attributes:
        images: ``(N, H, W)`` or ``(N, 3, H, W)`` uint8.
        labels: ``(N,)`` int64 class indices.
        classes: Names of the classes.
        source: Where the images come from, for people.
        mean: Of the pixels in 0..1, one number or one for each channel.
        std: Standard deviation of the same.

    Raises:
        DataError: The set is empty, images and labels differ in number, or a label is out of range.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    source: str
    mean: tuple[float, ...] = (MEAN,)
    std: tuple[float, ...] = (STD,)

    def __post_init__(self) -> None:
        grey_or_rgb = self.images.ndim == 3 or (self.images.ndim == 4 and self.images.shape[1] == 3)
        if not grey_or_rgb or self.images.dtype != torch.uint8:
            shape, dtype = tuple(self.images.shape), self.images.dtype
            raise DataError(
                f"{self.source}: expected uint8 images of shape (N, H, W) or (N, 3, H, W), "
                f"got {dtype} {shape}"
            )
        if not len(self.images):
            raise DataError(f"{self.source}: the set is empty")
        if len(self.images) != len(self.labels):
            raise DataError(f"{self.source}: {len(self.images)} images but {len(self.labels)} labels")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            raise DataError(
                f"{self.source}: labels run from {int(self.labels.min())} to {int(self.labels.max())}, "
                f"expected 0 to {len(self.classes) - 1}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def head(self, count: int | None) -> ImageData:
        """The first ``count`` images (all of them if ``None``)."""
        if count is None or count >= len(self):
            return self
        return self.part(slice(count))

    def part(self, chosen: slice | Tensor) -> ImageData:
        """The images at a slice or at the given indices; classes, mean and deviation stay."""
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def batch(self, chosen: slice | Tensor, image_size: int = IMAGE_SIZE) -> tuple[Tensor, Tensor]:
        """Prepared images ``(B, 3, S, S)`` and labels ``(B,)`` at a slice or at the given indices."""
        return prepare(self.images[chosen], image_size, self.mean, self.std), self.labels[chosen]

    def batches(self, size: int, image_size: int = IMAGE_SIZE) -> Iterator[tuple[Tensor, Tensor]]:
        """Prepared batches ``(B, 3, S, S)`` and labels ``(B,)`` in order; the last one may be smaller."""
        for start in range(0, len(self), size):
            yield self.batch(slice(start, start + size), image_size)


def prepare(
    images: Tensor,
    image_size: int = IMAGE_SIZE,
    mean: tuple[float, ...] = (MEAN,),
    std: tuple[float, ...] = (STD,),
) -> Tensor:
    """Standardised three-channel images as the GHN's target networks see them.

    Args:
        images: ``(B, H, W)`` or ``(B, 3, H, W)`` uint8, at most 32 pixels a side.
        image_size: Side of the result; below 32 the zero-padded 32x32 image is averaged down.
        mean: Subtracted from pixels in 0..1, one number or one for each channel; default Fashion-MNIST's.
        std: What they are divided by then.

    Returns:
        ``(B, 3, image_size, image_size)`` float32 in channels-last memory: zero-padded to 32x32,
        standardised, the channels of grey images equal.

    Raises:
        DataError: An image is larger than 32 pixels.
    """
    height, width = images.shape[-2:]
    if max(height, width) > IMAGE_SIZE:
        raise DataError(f"images of {height}x{width} pixels are larger than {IMAGE_SIZE}x{IMAGE_SIZE}")
    top, left = (IMAGE_SIZE - height) // 2, (IMAGE_SIZE - width) // 2
    margins = (left, IMAGE_SIZE - width - left, top, IMAGE_SIZE - height - top)
    x = images[:, None] if images.ndim == 3 else images
    x = F.pad(x, margins).float().div_(255)
    x = x.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])
    if image_size != IMAGE_SIZE:
        x = F.interpolate(x, size=(image_size, image_size), mode="area")
    return x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)


def fashion_mnist(split: Split, root: str | os.PathLike[str] | None = None) -> ImageData:
    """Fashion-MNIST (Xiao et al. 2017), the full set if its files are found, else the bundled subset.

    Args:
        split: ``train`` (60,000 images, 4,000 in the subset) or ``test`` (10,000, 1,000 in the subset).
        root: Folder with the four idx files (gzipped or not), or with torchvision's
            ``FashionMNIST/raw`` below it; ``"bundled"`` asks for the subset. By default
            ``$GHN_INIT_DATA``, the folder of Debian's ``dataset-fashion-mnist`` and ``./data`` are tried.

    Raises:
        DataError: ``root`` (or ``$GHN_INIT_DATA``) holds no such files, or a file is damaged.
    """
    if split not in _PREFIX:
        raise DataError(f"unknown split {split!r}; expected 'train' or 'test'")
    named = root if root is not None else os.environ.get("GHN_INIT_DATA")
    if named == "bundled":
        return _bundled(split)
    if named is not None:
        files = _find(Path(named).expanduser(), split)
        if files is None:
            raise DataError(
                f"no Fashion-MNIST files for the {split} split in {named}: expected "
                f"{_PREFIX[split]}-images-idx3-ubyte[.gz] and {_PREFIX[split]}-labels-idx1-ubyte[.gz] there, "
                f"or below {' or '.join(_LAYOUTS[1:])}; root='bundled' uses the subset in the package"
            )
        return _full(*files)
    for folder in (Path("/usr/share/datasets/fashion-mnist"), Path("data")):
        files = _find(folder, split)
        if files is not None:
            return _full(*files)
    return _bundled(split)


def read_idx(path: str | os.PathLike[str]) -> Tensor:
    """Reads one idx file of unsigned bytes (LeCun's MNIST format), gzipped or not.

    Raises:
        DataError: The file is missing, truncated, longer than its header says, or of another type.
    """
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as an idx file ({error}); fetch it again") from error
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != _IDX_UINT8:
        raise DataError(
            f"{path}: not an idx file of unsigned bytes (starts with {raw[:4].hex() or 'nothing'})"
        )
    rank = raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise DataError(f"{path}: truncated inside the header; fetch it again")
    shape = struct.unpack(f">{rank}I", raw[4:start])
    if len(raw) - start != math.prod(shape):
        raise DataError(f"{path}: header says {shape}, but {len(raw) - start} values follow; fetch it again")
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy())


def _find(root: Path, split: Split) -> tuple[Path, Path] | None:
    stem = _PREFIX[split]
    for layout in _LAYOUTS:
        for suffix in (".gz", ""):
            images = root / layout / f"{stem}-images-idx3-ubyte{suffix}"
            labels = root / layout / f"{stem}-labels-idx1-ubyte{suffix}"
            if images.is_file() and labels.is_file():
                return images, labels
    return None


def _full(images: Path, labels: Path) -> ImageData:
    return ImageData(read_idx(images), read_idx(labels).long(), FASHION_MNIST_CLASSES, f"{images.parent}")


def _bundled(split: Split) -> ImageData:
    with np.load(FASHION_MNIST_SUBSET, allow_pickle=False) as file:
        images, labels = file[f"{split}_images"], file[f"{split}_labels"]
    source = f"bundled subset of Fashion-MNIST, {split}"
    return ImageData(torch.from_numpy(images), torch.from_numpy(labels).long(), FASHION_MNIST_CLASSES, source)


def write_subset(path: str | os.PathLike[str], train: int = 4000, test: int = 1000, seed: int = 0) -> None:
    """Writes the bundled subset: ``train`` and ``test`` images, equally many of each class.

    Raises:
        DataError: Only the subset itself is at hand, or a count is not a multiple of the number of classes.
    """
    chosen: dict[Split, ImageData] = {}
    splits: tuple[tuple[Split, int], ...] = (("train", train), ("test", test))
    for split, count in splits:
        data = fashion_mnist(split)
        per_class, rest = divmod(count, len(data.classes))
        if rest or per_class * len(data.classes) > len(data):
            raise DataError(
                f"cannot draw {count} {split} images, the same number of each class, from {len(data)}"
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(data), generator=generator)
        labels = data.labels[order]
        picked = torch.cat([order[labels == c][:per_class] for c in range(len(data.classes))])
        picked = picked[torch.randperm(len(picked), generator=generator)]
        chosen[split] = data.part(picked)
    np.savez_compressed(
        path,
        train_images=chosen["train"].images.numpy(),
        train_labels=chosen["train"].labels.numpy().astype(np.uint8),
        test_images=chosen["test"].images.numpy(),
        test_labels=chosen["test"].labels.numpy().astype(np.uint8),
    )
