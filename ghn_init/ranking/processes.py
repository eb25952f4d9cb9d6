"""Candidates spread over processes: of a pool on this machine, or of an Accelerate launch."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pickle import Pickler, PicklingError
from typing import Any

import torch

from ghn_init.children import end_with_parent
from ghn_init.errors import ConfigError
from ghn_init.ranking.assess import Task, assess
from ghn_init.ranking.candidates import Candidate


def place(device: Any) -> torch.device:
    """The device that candidates run on."""
    if device is not None:
        return torch.device(device)
    return _launched().device if _is_launched() else torch.device("cpu")


def is_first() -> bool:
    """Whether this is the first process of a launch, or the only one."""
    return not _is_launched() or _launched().is_main_process


def meet() -> None:
    """Wait for the other processes of a launch."""
    if _is_launched():
        _launched().wait_for_everyone()


def run_all(todo: Sequence[Candidate], task: Task, workers: int) -> Iterator[tuple[dict[str, Any], bool]]:
    """Rows of all candidates as they are done, in every process of a launch the same ones in the end.

    Yields:
        A row, and whether it is this process's to write down.
    """
    if _is_launched():
        yield from _shared(todo, task)
    elif workers == 1 or len(todo) < 2:
        yield from ((assess(candidate, task), True) for candidate in todo)
    else:
        yield from ((row, True) for row in _pooled(todo, task, min(workers, len(todo))))


def _pooled(todo: Sequence[Candidate], task: Task, workers: int) -> Iterator[dict[str, Any]]:
    for candidate in todo:
        _check_sendable(candidate)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(task,)
    )
    try:
        for done in as_completed([pool.submit(_assess_here, candidate) for candidate in todo]):
            try:
                yield done.result()
            except BrokenProcessPool as error:
                raise ConfigError(
                    f"one of the {workers} processes ended without an answer (out of memory?): use fewer, "
                    "and resume= to keep what is done"
                ) from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)


def _check_sendable(candidate: Candidate) -> None:
    """Pickle a candidate to nowhere.

    An error of the pool's own pickling may leave its shutdown waiting for ever (CPython before 3.12), so it
    must not get that far.
    """
    try:
        Pickler(_Nowhere()).dump(candidate)
    except (AttributeError, TypeError, ValueError, PicklingError) as error:
        raise ConfigError(
            f"the candidate {candidate.name!r} cannot be sent to another process ({error}): give modules, "
            "timm names or functions of an importable module, or workers=1"
        ) from error


_task: Task | None = None
"""What a process of the pool does with each candidate; sent to it once."""


def _begin(task: Task) -> None:
    global _task
    torch.set_num_threads(1)
    _task = task
    end_with_parent()  # a pool whose owner was killed waits for ever


def _assess_here(candidate: Candidate) -> dict[str, Any]:
    assert _task is not None
    return assess(candidate, _task)


def _is_launched() -> bool:
    """Whether Accelerate runs this in several processes; torchrun alone may rank in one of them."""
    used = "accelerate" in sys.modules or any(name.startswith("ACCELERATE_") for name in os.environ)
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and used


def _launched() -> Any:
    from accelerate import PartialState

    return PartialState()


def _shared(todo: Sequence[Candidate], task: Task) -> Iterator[tuple[dict[str, Any], bool]]:
    from accelerate.utils import gather_object

    state = _launched()
    mine = []
    for candidate in todo[state.process_index :: state.num_processes]:
        mine.append(assess(candidate, task))
        yield mine[-1], True
    own = {row["entry"]["name"] for row in mine}
    yield from ((row, False) for row in gather_object(mine) if row["entry"]["name"] not in own)
