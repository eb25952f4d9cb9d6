"""A part of a suite with models of every family."""

from __future__ import annotations

import random
from collections.abc import Iterable

from ghn_init.coverage.case import Case


def sample(cases: Iterable[Case], count: int, seed: int = 0) -> list[Case]:
    """Draw cases family by family: a second one of a family only when every family has one.

    Args:
        cases: All of them.
        count: How many to draw, if there are as many.
        seed: Of the draw; the same cases, count and seed give the same sample, and a smaller count a part of
            it.

    Returns:
        The sample, in the order of ``cases``.
    """
    everything = list(cases)
    families: dict[str, list[Case]] = {}
    for case in everything:
        families.setdefault(case.family, []).append(case)
    draw = random.Random(seed)
    for members in families.values():
        draw.shuffle(members)
    order = list(families.values())
    draw.shuffle(order)
    rounds = range(max(map(len, order), default=0))
    drawn = [members[turn] for turn in rounds for members in order if turn < len(members)]
    chosen = {case.name for case in drawn[:count]}
    return [case for case in everything if case.name in chosen]
