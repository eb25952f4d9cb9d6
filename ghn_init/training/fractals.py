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
from ghn_init.training.data import ImageData, Split

MAPS = 4
WALKERS, BURN_IN, STEPS = 64, 12, 28
JITTER = 0.06
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
    systems = np.stack([_system(np.random.default_rng((seed, 0, each))) for each in range(classes)])
    rng = np.random.default_rng((seed, 1 if split == "train" else 2))
    labels = rng.permutation(np.arange(images) % classes)
    drawn = [
        _draw(systems[labels[start : start + _AT_ONCE]], size, rng)
        for start in progress_bar(iterable=range(0, images, _AT_ONCE), desc="fractals", leave=False)
    ]
    pixels = np.concatenate(drawn)
    mean = tuple((pixels.mean((0, 2, 3)) / 255).tolist())
    std = tuple((pixels.std((0, 2, 3)) / 255).tolist())
    names = tuple(f"system {each}" for each in range(classes))
    source = f"fractals, {split}, seed {seed}"
    return ImageData(torch.from_numpy(pixels), torch.from_numpy(labels), names, source, mean, std)


def _system(rng: np.random.Generator) -> np.ndarray:
    """``(MAPS, 2, 3)`` affine maps with singular values below one, so that their attractor is bounded."""
    turns = rng.uniform(0, 2 * np.pi, (2, MAPS))
    stretch = np.sort(rng.uniform(0.2, 0.75, (MAPS, 2)))[:, ::-1] * rng.choice((-1, 1), (MAPS, 2))
    left, right = (_rotations(each) for each in turns)
    linear = left @ (stretch[:, :, None] * right)
    return np.concatenate([linear, rng.uniform(-1, 1, (MAPS, 2, 1))], axis=2)


def _rotations(angles: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _draw(systems: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """``(N, 3, size, size)`` uint8: one image of each of the ``(N, MAPS, 2, 3)`` systems."""
    count = len(systems)
    maps = systems + JITTER * rng.standard_normal(systems.shape)
    row = np.arange(count)[:, None]
    points = rng.uniform(-1, 1, (count, WALKERS, 2))
    visited: list[np.ndarray] = []
    chosen: list[np.ndarray] = []
    for step in range(BURN_IN + STEPS):
        which = rng.integers(MAPS, size=(count, WALKERS))
        taken = maps[row, which]
        points = np.einsum("nwij,nwj->nwi", taken[..., :2], points) + taken[..., 2]
        points = np.clip(points, -1e3, 1e3)  # a jittered map may expand a little
        if step >= BURN_IN:
            visited.append(points)
            chosen.append(which)
    density = _histogram(np.concatenate(visited, 1), np.concatenate(chosen, 1), size)  # (N, MAPS, S, S)
    total = density.sum(1)
    light = np.log1p(total) / np.log1p(total.max((1, 2), keepdims=True))
    colours = rng.uniform(0.2, 1, (count, MAPS, 3))
    tint = np.einsum("nmhw,nmc->nchw", density, colours) / np.maximum(total, 1)[:, None]
    ground = rng.uniform(0, 0.3, (count, 3, 1, 1))
    image = ground * (1 - light[:, None]) + tint * light[:, None]
    return (255 * image + 0.5).astype(np.uint8)


def _histogram(points: np.ndarray, which: np.ndarray, size: int) -> np.ndarray:
    """``(N, MAPS, size, size)``: visits of each pixel by the last map, the attractor filling the image."""
    low, high = np.quantile(points, (0.01, 0.99), axis=1)  # (N, 2)
    span = np.maximum(high - low, 1e-6).max(1)[:, None, None]  # one scale for both axes
    middle = ((low + high) / 2)[:, None]
    place = ((points - middle) / (1.1 * span) + 0.5) * size
    inside = ((place >= 0) & (place < size)).all(2)
    pixel = place.clip(0, size - 1).astype(np.int64)
    image = np.arange(len(points))[:, None]
    flat = ((image * MAPS + which) * size + pixel[..., 1]) * size + pixel[..., 0]
    counts = np.bincount(flat[inside], minlength=len(points) * MAPS * size * size)
    return counts.reshape(len(points), MAPS, size, size).astype(np.float64)
