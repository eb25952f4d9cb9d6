"""Candidates spread over processes: of a pool on this machine, or of an Accelerate launch."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch

from ghn_init.errors import ConfigError
from ghn_init.ranking.assess import Task, assess
from ghn_init.ranking.candidates import Candidate


def place(device: Any) -> torch.device:
    """The device that candidates run on."""
    if device is not None:
        return torch.device(device)
    return _launched().device if _is_launched() else torch.device("cpu")


def run_all(todo: Sequence[Candidate], task: Task, workers: int) -> Iterator[dict[str, Any]]:
    """Rows of all candidates as they are done, in every process of a launch the same ones."""
    if _is_launched():
        yield from _shared(todo, task)
    elif workers == 1 or len(todo) < 2:
        yield from (assess(candidate, task) for candidate in todo)
    else:
        yield from _pooled(todo, task, min(workers, len(todo)))


def _pooled(todo: Sequence[Candidate], task: Task, workers: int) -> Iterator[dict[str, Any]]:
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
    )
    try:
        for done in as_completed([pool.submit(assess, candidate, task) for candidate in todo]):
            try:
                yield done.result()
            except (AttributeError, TypeError, ValueError) as error:
                raise ConfigError(
                    f"a candidate cannot be sent to another process ({error}): give modules, timm names or "
                    "functions of an importable module, or workers=1"
                ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _is_launched() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "accelerate" in sys.modules


def _launched() -> Any:
    from accelerate import PartialState

    return PartialState()


def _shared(todo: Sequence[Candidate], task: Task) -> Iterator[dict[str, Any]]:
    from accelerate.utils import gather_object

    state = _launched()
    mine = [assess(candidate, task) for candidate in todo[state.process_index :: state.num_processes]]
    yield from gather_object(mine)
