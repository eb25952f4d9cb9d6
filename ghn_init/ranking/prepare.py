"""What scores candidates, loaded and checked before any is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from ghn_init.default import resolve_ghn
from ghn_init.errors import ConfigError, DataError
from ghn_init.ghn import GHN
from ghn_init.ranking.assess import Start, Task
from ghn_init.ranking.evidence import Evidence, evidence, image_data
from ghn_init.ranking.processes import place
from ghn_init.ranking.proxies import proxy_named


def prepare(
    data: Any,
    ghn: Any = True,
    *,
    images: int = 1000,
    batch_size: int = 64,
    start: Start = "predicted",
    steps: int = 0,
    lr: float = 2e-3,
    train_data: Any = None,
    proxies: Sequence[str] = (),
    measure_latency: bool = False,
    seed: int = 0,
    device: Any = None,
    **hub: Any,
) -> Task:
    """Load and check everything that scores candidates; arguments and errors as for :func:`ghn_init.rank`."""
    if steps < 0 or images < 1 or batch_size < 1:
        raise ConfigError(
            f"steps must be at least 0, images and batch_size at least 1; got {steps}, {images}, {batch_size}"
        )
    if start not in get_args(Start):
        raise ConfigError(f"start must be one of {', '.join(get_args(Start))}, not {start!r}")
    if start != "predicted" and not steps:
        raise ConfigError(
            f"a network with its own initial weights is at chance without steps: give steps= with {start=}"
        )
    for name in proxies:
        proxy_named(name)
    loaded = resolve_ghn(ghn, **hub)
    scored, train = _evidence(data, train_data, images, batch_size, steps)
    _check(loaded, scored, train)
    return Task(
        *(loaded, scored, train, loaded.config.num_classes, start, steps, lr),
        *(tuple(proxies), measure_latency, seed),
        device=place(device),
    )


def _check(ghn: GHN, scored: Evidence, train: Evidence | None) -> None:
    for part in (scored, train):
        if part is not None and part.classes > ghn.config.num_classes:
            raise DataError(
                f"the labels go up to {part.classes - 1}, and {ghn.source or 'the GHN'} predicts "
                f"{ghn.config.num_classes} classes: rank with a GHN that was trained for {part.classes}"
            )
    if train is not None and train.shape != scored.shape:
        raise DataError(f"train_data has images of shape {train.shape}, and data of shape {scored.shape}")


def _evidence(
    data: Any, train_data: Any, images: int, batch_size: int, steps: int
) -> tuple[Evidence, Evidence | None]:
    """What scores, and what the training steps take, if there are any."""
    if not steps:
        return evidence(data, images=images, batch_size=batch_size), None
    if train_data is None:
        train, scored = evidence(data, images=2 * images, batch_size=batch_size).halves()
        return scored, train
    scored = evidence(data, images=images, batch_size=batch_size)
    return scored, evidence(image_data(train_data, "train"), images=steps * batch_size, batch_size=batch_size)
