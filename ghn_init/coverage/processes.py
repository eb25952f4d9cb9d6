"""A process for each model, several at a time, that may fail, hang or use up its memory."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
from torch import nn

from ghn_init.children import end_with_parent
from ghn_init.coverage import suites
from ghn_init.coverage.case import OutOfTimeError
from ghn_init.coverage.edges import compare_edges
from ghn_init.coverage.measure import Row, measure
from ghn_init.coverage.rows import programs_that_agree
from ghn_init.default import resolve_ghn

Key = tuple[str, str]
"""Suite and name of a case."""

_WALL, _WALL_AT_LEAST = 10, 120
"""Wall-clock seconds for each CPU second of the limit: a process that sleeps is ended too."""


@dataclass(frozen=True)
class Settings:
    """How each model is measured.

    Attributes:
        ghn: The GHN, as :func:`ghn_init.default.resolve_ghn` takes it.
        seconds: CPU seconds that one model may take.
        memory: Gigabytes that one model may allocate.
        export: Also compare the data flow with that of ``torch.export``.
    """

    ghn: str = "bundled"
    seconds: float = 300.0
    memory: float = 8.0
    export: bool = False


@dataclass
class _Running:
    process: Any
    pipe: Connection
    key: Key
    deadline: float
    before_export: Row | None = None


def run_all(
    todo: Iterable[Key], settings: Settings, jobs: int, compared: Iterable[str] = ()
) -> Iterator[tuple[Key, Row]]:
    """Measure every case; yields the rows as they are done.

    Args:
        todo: Which cases.
        settings: How.
        jobs: Processes at a time.
        compared: Programs that agree with ``torch.export``; others are compared until a model of them does.
    """
    forks = "fork" in multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("fork" if forks else "spawn")
    torch.set_num_threads(1)
    if forks:
        resolve_ghn(settings.ghn)  # once, here, rather than in every process
        if settings.export:
            _warm_up_export()
        gc.freeze()  # the collector of a child has nothing to find in what it inherits
    known = set(compared)
    waiting, running = iter(todo), dict[Connection, _Running]()
    try:
        while True:
            while len(running) < jobs and (key := next(waiting, None)) is not None:
                started = _start(context, key, settings, known)
                running[started.pipe] = started
            if not running:
                return
            ready = set(wait(list(running), timeout=1.0))
            for pipe, each in list(running.items()):
                row = _received(each, settings) if pipe in ready else _overdue(each, settings)
                if row is not None:
                    del running[pipe]
                    _end(each)
                    known |= programs_that_agree([row])
                    yield each.key, row
    finally:
        for each in running.values():
            _end(each)
        gc.unfreeze()


def _warm_up_export() -> None:
    """Let ``torch.export`` import and look up once what it needs for common operations."""
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(True), nn.AdaptiveAvgPool2d(4), nn.Flatten(2)]
    layers += [nn.TransformerEncoderLayer(16, 2, 8, batch_first=True), nn.GELU(), nn.LayerNorm(16)]
    compare_edges(nn.Sequential(*layers).train(), torch.empty(2, 3, 8, 8, device="meta"))


def _start(context: Any, key: Key, settings: Settings, compared: Collection[str]) -> _Running:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, key, settings, compared), daemon=True)
    process.start()
    theirs.close()
    return _Running(process, ours, key, time.monotonic() + _wall(settings))


def _wall(settings: Settings) -> float:
    return _WALL * settings.seconds + _WALL_AT_LEAST


def _received(running: _Running, settings: Settings) -> Row | None:
    """The row, once it is whole; of a process that ended without one, what was known and how it ended."""
    try:
        row, whole = running.pipe.recv()
    except EOFError:
        running.process.join()
        return _cut_short(running, "ProcessError", _how_it_ended(running.process.exitcode, settings))
    if whole:
        return row
    running.before_export = row
    return None


def _overdue(running: _Running, settings: Settings) -> Row | None:
    if time.monotonic() <= running.deadline:
        return None
    return _cut_short(running, "TimeoutError", f"no result after {_WALL * settings.seconds:.0f} s")


def _cut_short(running: _Running, kind: str, message: str) -> Row:
    if running.before_export is None:
        return {"error": {"stage": "", "type": kind, "message": message, "where": ""}}
    return {**running.before_export, "export": "fails", "export_refusal": f"{kind}: {message}"}


def _how_it_ended(code: int, settings: Settings) -> str:
    name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    if name in ("SIGXCPU", "SIGKILL"):
        return f"{name}: more than {settings.seconds:.0f} CPU seconds, or killed for its memory"
    return f"the process ended by {name}"


def _end(running: _Running) -> None:
    running.process.kill()
    running.process.join()
    running.pipe.close()


def _child(pipe: Connection, key: Key, settings: Settings, compared: Collection[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its children
    end_with_parent()
    torch.set_num_threads(1)
    logging.getLogger("ghn_init").setLevel(logging.ERROR)  # reasons are in the row
    _silence()
    before = _resident()
    _set_limits(settings)

    peaks: list[int] = []

    def tell(row: Row, *, whole: bool = False) -> None:
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        pipe.send(({**row, "memory_mb": max(0, peaks[0] - before)}, whole))

    case, ghn = suites.cases(key[0])[key[1]], resolve_ghn(settings.ghn)
    tell(measure(case, ghn, export=settings.export, compared=compared, told=tell), whole=True)


def _silence() -> None:
    """What a model's own code prints is not for the terminal."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def _set_limits(settings: Settings) -> None:
    def out_of_time(number: int, frame: Any) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (hard, hard))  # the rest of the time tells what happened
        raise OutOfTimeError(f"more than {settings.seconds:.0f} CPU seconds")

    signal.signal(signal.SIGXCPU, out_of_time)
    spent = time.process_time()
    soft = int(spent + settings.seconds) + 1
    hard = soft + 20
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))
    held = _pages("statm", 5)
    if held:
        most = held + int(settings.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _resident() -> int:
    """Megabytes that this process holds at its start, most of them its parent's."""
    return _pages("statm", 1) >> 20


def _pages(file: str, field: int) -> int:
    """Bytes of a field of ``/proc/self``; 0 where there is none."""
    try:
        with open(f"/proc/self/{file}", encoding="ascii") as text:
            return int(text.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0
