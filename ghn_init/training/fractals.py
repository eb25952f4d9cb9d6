"""A data set from a formula: coloured attractors of random iterated function systems.

No photograph and no licence: a GHN for RGB models can be trained with no data at hand. A class is a set of
contracting affine maps; its images differ by small changes of these maps, by colours and by background
(Kataoka et al. 2020, "Pre-training without Natural Images").
"""

from __future__ import annotations

import numpy as np
import torch

from ghn_init.errors import DataError
from ghn_init.logging import progress_bar
from ghn_init.synthetic import attractors, function_system
from ghn_init.training.data import ImageData, Split

_AT_ONCE = 250


def fractals(
    split: Split = "train", *, images: int = 10_000, classes: int = 10, size: int = 32, seed: int = 0
) -> ImageData:
    """Fractal images, equally many of each class up to one, in random order.

    Args:
        split: ``train`` and ``test`` have the same classes and different images.
        images: Number of images.
        classes: Number of classes.
        size: Side of the images in pixels, at most 32.
        seed: Of the classes and the images; equal arguments give equal images.

    Raises:
        DataError: A number is not positive, or the size above 32.
    """
    if split not in ("train", "test"):
        raise DataError(f"unknown split {split!r}; expected 'train' or 'test'")
    if min(images, classes) < 1 or not 4 <= size <= 32:
        raise DataError(
            f"fractals: {images} images of {classes} classes at {size} pixels; numbers must be positive and "
            "the size 4 to 32"
        )
    systems = np.stack([function_system(np.random.default_rng((seed, 0, each))) for each in range(classes)])
    rng = np.random.default_rng((seed, 1 if split == "train" else 2))
    labels = rng.permutation(np.arange(images) % classes)
    drawn = [
        attractors(systems[labels[start : start + _AT_ONCE]], size, rng)
        for start in progress_bar(iterable=range(0, images, _AT_ONCE), desc="fractals", leave=False)
    ]
    pixels = np.concatenate(drawn)
    mean = tuple((pixels.mean((0, 2, 3)) / 255).tolist())
    std = tuple((pixels.std((0, 2, 3)) / 255).tolist())
    names = tuple(f"system {each}" for each in range(classes))
    source = f"fractals, {split}, seed {seed}"
    return ImageData(torch.from_numpy(pixels), torch.from_numpy(labels), names, source, mean, std)
