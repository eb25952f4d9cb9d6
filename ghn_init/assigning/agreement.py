"""Ranks that hold one model together keep what they wrote, or put it back, together."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import nn

from ghn_init.errors import AssignError
from ghn_init.parallel import process_groups

logger = logging.getLogger("ghn_init")

WAIT_SECONDS = 600.0
"""How long a rank that is done waits for the others."""


class Ballot:
    """What this rank tells the others: whether it failed, and what it wrote.

    Args:
        groups: Process groups of the ranks that hold the model together, each with the device that it
            communicates on; empty for a model that this process holds alone.
    """

    def __init__(self, groups: list[tuple[Any, torch.device]]) -> None:
        self.groups = groups
        self.digest = 0

    def compare(self, content: Callable[[], object]) -> None:
        """Have the ranks check that ``content`` has the same ``repr`` on all of them; called only then."""
        if self.groups:
            whole = hashlib.sha256(repr(content()).encode()).digest()
            self.digest = int.from_bytes(whole[:7], "big")

    def count(self, *, failed: bool) -> tuple[int | None, bool]:
        """A rank that failed, if there is one, and whether what the ranks wrote is the same.

        Raises:
            RuntimeError: A rank is lost, or did not answer in time.
        """
        own = torch.distributed.get_rank() + 1 if failed else 0
        votes = torch.tensor([own, self.digest, -self.digest])
        # One round joins the ranks of a mesh; more join meshes that overlap in some ranks.
        for _ in self.groups:
            for group, device in self.groups:
                there = votes.to(device)
                work = torch.distributed.all_reduce(
                    there, torch.distributed.ReduceOp.MAX, group, async_op=True
                )
                if work is not None:
                    work.wait(timedelta(seconds=WAIT_SECONDS))
                votes = there.cpu()
        worst, largest, smallest = votes.tolist()
        return (worst - 1 if worst else None), largest == -smallest


@contextmanager
def agreeing(model: nn.Module) -> Iterator[Ballot]:
    """Run a block that all ranks of a model run, and raise on every rank if it fails on any.

    Ranks communicate at the end of the block, and only about a model that they hold together: one with
    DTensors, or in ``DistributedDataParallel``. Else the block runs without communication, on one rank or on
    all.

    Raises:
        AssignError: Another rank failed, is lost, does not run the block, or compares something else.
    """
    ballot = Ballot(process_groups(model))
    try:
        yield ballot
    except BaseException:
        if ballot.groups:
            try:
                ballot.count(failed=True)
            except Exception as error:  # noqa: BLE001 - the block's own error matters more
                logger.warning("the other ranks could not be told that this one failed: %s", error)
        raise
    if not ballot.groups:
        return
    try:
        failed, same = ballot.count(failed=False)
    except RuntimeError as error:
        raise AssignError(
            "the model is held by several ranks, and they did not all finish: a rank is lost, or apply was "
            f"not called on every rank. What this rank had written was put back. ({error})"
        ) from error
    if failed is not None:
        raise AssignError(f"rank {failed} failed, so what this rank had written was put back: see its error")
    if not same:
        raise AssignError(
            "the ranks would not write one model: their GHNs, graphs, seeds or arguments differ (did one of "
            "them fall back to the bundled GHN?). What this rank had written was put back"
        )
