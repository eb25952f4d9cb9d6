"""Images by name: Fashion-MNIST, digits, torchvision, the Hub, folders, and a set made by a formula."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ghn_init.errors import DataError
from ghn_init.extras import needed
from ghn_init.logging import progress_bar
from ghn_init.training.data import IMAGE_SIZE, ImageData, Split, fashion_mnist
from ghn_init.training.fractals import fractals

_DIGITS_TEST = 5  # every fifth digit is a test image


def load_images(
    name: str = "fashion-mnist", split: Split = "train", root: str | os.PathLike[str] | None = None
) -> ImageData:
    """Images of a data set in memory, at most 32 pixels a side.

    ========================  ===========================================================================
    ``fashion-mnist``         its idx files, else the subset in the package
    ``digits``                scikit-learn's 1,797 digits, enlarged to 32x32; every fifth one is for testing
    ``fractals``              coloured fractals made by a formula; ``fractals:100`` for 100 classes
    ``torchvision:CIFAR10``   any labelled image data set of ``torchvision.datasets``, already in ``root``
    ``hub:org/name``          a data set of the Hub with an image and a class label column (``datasets``)
    ``folder:path``           ``path/train/CLASS/*.png`` and ``path/test/CLASS/*.png``
    a folder, ``bundled``     Fashion-MNIST from the files there, or the subset in the package
    ========================  ===========================================================================

    Images of other sizes are scaled so that they are 32x32 (a folder's and the Hub's to that, without
    keeping proportions).

    Args:
        name: Which one.
        split: ``train`` or ``test``; on the Hub ``validation`` stands in where there is no ``test``.
        root: Folder of the files, for the first and for torchvision's (default ``./data``).

    Raises:
        DataError: The name is unknown, files or a library are missing, or the data are no labelled images.
    """
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}; expected 'train' or 'test'")
    kind, _, rest = name.partition(":")
    if kind not in _LOADERS and (name == "bundled" or Path(name).is_dir()):
        return fashion_mnist(split, name)
    if kind not in _LOADERS:
        raise DataError(
            f"unknown data set {name!r}; known: {', '.join(_LOADERS)}, or a folder of Fashion-MNIST's files"
        )
    return _LOADERS[kind](rest, split, root)


def _fashion(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    return fashion_mnist(split, root)


def _digits(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    with needed("rank", "data set 'digits'"):
        from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    test = np.arange(len(bunch.target)) % _DIGITS_TEST == 0
    chosen = test if split == "test" else ~test
    pixels = torch.from_numpy(bunch.images[chosen] * (255 / 16)).float()
    large = F.interpolate(pixels[:, None], (IMAGE_SIZE, IMAGE_SIZE), mode="bilinear")[:, 0]
    labels = torch.from_numpy(bunch.target[chosen]).long()
    names = tuple(str(each) for each in bunch.target_names)
    return _standardised(large.round().to(torch.uint8), labels, names, f"scikit-learn digits, {split}")


def _fractals(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    if rest and not rest.isdecimal():
        raise DataError(f"fractals:{rest}: expected a number of classes, as in fractals:100")
    return fractals(split, images=10_000 if split == "train" else 2_000, classes=int(rest or 10))


def _torchvision(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    with needed("train", f"data set 'torchvision:{rest}'"):
        from torchvision import datasets

    kind: Any = getattr(datasets, rest, None)
    if not (inspect.isclass(kind) and issubclass(kind, datasets.VisionDataset)):
        raise DataError(f"torchvision.datasets has no data set {rest!r}")
    parameters = inspect.signature(kind).parameters
    chosen: dict[str, Any] = {"train": split == "train"} if "train" in parameters else {"split": split}
    where = Path(root) if root is not None else Path("data")
    try:
        found: Any = kind(where, **chosen)
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        raise DataError(
            f"torchvision:{rest}: no {split} split in {where} ({error}); fetch it with "
            f"torchvision.datasets.{rest}({str(where)!r}, download=True), or name its folder"
        ) from error
    return _from_items(found, len(found), getattr(found, "classes", None), f"torchvision {rest}, {split}")


def _folder(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    with needed("train", f"data set 'folder:{rest}'"):
        from torchvision.datasets import ImageFolder

    where = Path(rest).expanduser() / split
    try:
        found = ImageFolder(str(where))
    except OSError as error:  # FileNotFoundError: no folder, no class folders, or a class without images
        raise DataError(f"folder:{rest}: {error}; expected {where}/CLASS/*.png") from error
    items = (found[index] for index in range(len(found)))
    return _from_items(items, len(found), found.classes, f"{where}")


def _hub(rest: str, split: Split, root: str | os.PathLike[str] | None) -> ImageData:
    with needed(None, f"data set 'hub:{rest}'"):
        datasets: Any = importlib.import_module("datasets")  # not a dependency

    try:
        found = datasets.load_dataset(rest)
    except Exception as error:
        raise DataError(f"hub:{rest}: cannot be loaded ({type(error).__name__}: {error})") from error
    names = (split, "validation", "valid") if split == "test" else (split,)
    part = next((found[each] for each in names if each in found), None)
    if part is None:
        raise DataError(f"hub:{rest}: no {split} split; there are {', '.join(found)}")
    image = _column(part.features, datasets.Image, rest)
    label = _column(part.features, datasets.ClassLabel, rest)
    items = ((row[image], row[label]) for row in part)
    return _from_items(items, len(part), part.features[label].names, f"{rest} on the Hub, {split}")


def _column(features: Mapping[str, Any], kind: type, name: str) -> str:
    found = [each for each, feature in features.items() if isinstance(feature, kind)]
    if not found:
        raise DataError(f"hub:{name}: no {kind.__name__} column among {', '.join(features)}")
    return found[0]


def _from_items(
    items: Iterable[tuple[Any, Any]], count: int, classes: Sequence[str] | None, source: str
) -> ImageData:
    """In memory, from pairs of a PIL image and a class index; RGB unless every image is grey."""
    images: list[np.ndarray] = []
    labels: list[int] = []
    grey = True
    for image, label in progress_bar(iterable=items, total=count, desc=source, leave=False):
        if not hasattr(image, "convert") or not isinstance(label, int | np.integer):
            raise DataError(
                f"{source}: expected pairs of an image and a class index, got "
                f"({type(image).__name__}, {type(label).__name__})"
            )
        grey = grey and image.mode in ("L", "1")
        fits = max(image.size) <= IMAGE_SIZE
        images.append(np.asarray((image if fits else image.resize((IMAGE_SIZE,) * 2)).convert("RGB")))
        labels.append(int(label))
        if images[-1].shape != images[0].shape:
            raise DataError(f"{source}: images of {images[0].shape[:2]} and of {images[-1].shape[:2]} pixels")
    if not images:
        raise DataError(f"{source}: the set is empty")
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    names = tuple(map(str, classes)) if classes is not None else tuple(map(str, range(max(labels) + 1)))
    return _standardised(pixels[:, 0] if grey else pixels, torch.tensor(labels), names, source)


def _standardised(
    pixels: torch.Tensor, labels: torch.Tensor, classes: tuple[str, ...], source: str
) -> ImageData:
    """With its own mean and deviation, of which the first 10,000 images are enough."""
    some = pixels[:10_000].float() / 255
    axes = (0, 2, 3) if some.ndim == 4 else (0, 1, 2)
    mean, std = some.mean(axes).reshape(-1), some.std(axes).reshape(-1).clamp_min(1e-3)
    return ImageData(pixels.contiguous(), labels, classes, source, tuple(mean.tolist()), tuple(std.tolist()))


_LOADERS: dict[str, Callable[[str, Split, str | os.PathLike[str] | None], ImageData]] = {
    "fashion-mnist": _fashion,
    "digits": _digits,
    "fractals": _fractals,
    "torchvision": _torchvision,
    "hub": _hub,
    "folder": _folder,
}
