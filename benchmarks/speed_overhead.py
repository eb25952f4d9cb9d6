"""What applying the bundled GHN costs beside the models' own default initialisation: 50 models of timm.

    python benchmarks/speed_overhead.py               # all models that are not measured yet
    python benchmarks/speed_overhead.py resnet50      # these

CPU seconds of one thread, each the least of some repeats taken in turn: ``build`` is ``timm.create_model``,
``bare`` the same while nothing is drawn or filled, and so ``init = build - bare`` is what the default
initialisation costs alone. ``apply`` is a whole ``ghn_init.apply``, tracing included. Writes
``benchmarks/results/speed_overhead.jsonl``, which ``speed_page.py`` reads.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import timm
import torch

import ghn_init

RESULTS = Path(__file__).resolve().parent / "results" / "speed_overhead.jsonl"
COUNT = 50
MOST_PARAMETERS = 120_000_000
REPEATS = 3
DRAWS = ("uniform_", "normal_", "erfinv_", "zero_", "fill_")


def spread(count: int = COUNT) -> list[str]:
    """A middle one of the names of each of ``count`` model files of timm, spread evenly over all files."""
    files = [file for file in timm.list_modules() if _of_moderate_size(file) is not None]
    chosen = [files[round(i * (len(files) - 1) / (count - 1))] for i in range(count)]
    return [name for name in map(_of_moderate_size, chosen) if name is not None]


@functools.cache
def _of_moderate_size(file: str) -> str | None:
    names = timm.list_models(module=file)
    for name in [*names[len(names) // 2 :], *names[: len(names) // 2]]:
        with torch.device("meta"):
            model = timm.create_model(name)
        if sum(parameter.numel() for parameter in model.parameters()) <= MOST_PARAMETERS:
            return name
    return None


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """While it lasts, tensors keep what their memory holds."""
    own = {name: getattr(torch.Tensor, name) for name in DRAWS}
    try:
        for name in DRAWS:
            setattr(torch.Tensor, name, lambda self, *args, **kwargs: self)
        yield
    finally:
        for name, method in own.items():
            setattr(torch.Tensor, name, method)


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def measure(name: str, ghn: ghn_init.GHN) -> dict[str, Any]:
    """Row of one model."""
    model = timm.create_model(name)
    times: dict[str, list[float]] = {"build": [], "bare": [], "apply": []}
    stages: list[Mapping[str, float]] = []
    for _ in range(REPEATS):
        times["build"].append(seconds(lambda: timm.create_model(name)))
        with nothing_drawn():
            times["bare"].append(seconds(lambda: timm.create_model(name)))
        times["apply"].append(seconds(lambda: stages.append(ghn_init.apply(model, ghn).timings)))
    row = {stage: round(min(values), 4) for stage, values in times.items()}
    init = max(row["build"] - row["bare"], 1e-4)
    return {
        "model": name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **row,
        "init": round(init, 4),
        "to_init": round(row["apply"] / init, 2),
        "to_build": round(row["apply"] / row["build"], 2),
        "wall": {stage: round(min(each[stage] for each in stages), 4) for stage in stages[0]},
    }


def main() -> None:
    """Command line."""
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    measured = {row["model"] for row in rows}
    names = sys.argv[1:] or [name for name in spread() if name not in measured]
    ghn = ghn_init.GHN.from_pretrained("bundled")
    ghn_init.apply(timm.create_model("resnet18"), ghn)
    for name in names:
        try:
            row = measure(name, ghn)
        except ghn_init.GHNInitError as error:
            row = {"model": name, "error": str(error)}
        rows = [old for old in rows if old["model"] != name] + [row]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
