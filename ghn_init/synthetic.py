"""Images made by a formula: coloured attractors of random iterated function systems.

No photograph and no licence (Kataoka et al. 2020, "Pre-training without Natural Images").
"""

from __future__ import annotations

import numpy as np

MAPS = 4
WALKERS, BURN_IN, STEPS = 64, 12, 28
JITTER = 0.06


def function_system(rng: np.random.Generator) -> np.ndarray:
    """``(MAPS, 2, 3)`` affine maps with singular values below one, so that their attractor is bounded."""
    turns = rng.uniform(0, 2 * np.pi, (2, MAPS))
    stretch = np.sort(rng.uniform(0.2, 0.75, (MAPS, 2)))[:, ::-1] * rng.choice((-1, 1), (MAPS, 2))
    left, right = (_rotations(each) for each in turns)
    linear = left @ (stretch[:, :, None] * right)
    return np.concatenate([linear, rng.uniform(-1, 1, (MAPS, 2, 1))], axis=2)


def _rotations(angles: np.ndarray) -> np.ndarray:
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def attractors(systems: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
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
