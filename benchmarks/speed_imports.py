"""What importing ``ghn_init`` costs over the bare interpreter, and what its unused hooks cost.

    python benchmarks/speed_imports.py

CPU seconds of processes of their own: an empty program, and one that imports ``ghn_init``, in turn. Then
``timm.create_model`` of a small model and ``AutoModel.from_config`` of a small BERT, in turn with the hooks
and without (``ghn_init.unpatch()``), ``ghn_init`` never passed. Writes
``benchmarks/results/speed_imports.json``.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

RESULTS = Path(__file__).resolve().parent / "results" / "speed_imports.json"
PROCESSES = 15
BUILDS = 30
IMPORT = "import ghn_init, sys; assert 'torch' not in sys.modules"


def process_seconds(program: str) -> float:
    """CPU seconds of a process that runs a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def importing() -> dict[str, Any]:
    """Milliseconds of importing the package."""
    pairs = [(process_seconds("pass"), process_seconds(IMPORT)) for _ in range(PROCESSES)]
    empty, whole = zip(*pairs, strict=True)
    return {
        "interpreter ms": round(1e3 * statistics.median(empty), 1),
        "with ghn_init ms": round(1e3 * statistics.median(whole), 1),
        "added ms": round(1e3 * statistics.median(b - a for a, b in pairs), 1),
    }


def hooks(build: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds of a constructor with hooks and without."""
    import ghn_init

    times: dict[str, list[float]] = {"with": [], "without": []}
    build()
    for _ in range(BUILDS):
        for name, switch in (("with", ghn_init.patch), ("without", ghn_init.unpatch)):
            switch()
            start = time.process_time()
            build()
            times[name].append(1e3 * (time.process_time() - start))
    ghn_init.patch()
    differences = [a - b for a, b in zip(times["with"], times["without"], strict=True)]
    spread = statistics.stdev(differences) / len(differences) ** 0.5
    return {
        "with hooks ms": round(statistics.median(times["with"]), 2),
        "without ms": round(statistics.median(times["without"]), 2),
        "difference ms": round(statistics.median(differences), 3),
        "standard error ms": round(spread, 3),
    }


def main() -> None:
    """Measure, print and write."""
    result: dict[str, Any] = {"import": importing()}
    import timm
    import torch
    import transformers

    torch.set_num_threads(1)
    result["timm.create_model('resnet10t')"] = hooks(lambda: timm.create_model("resnet10t"))
    bert = transformers.BertConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512, vocab_size=2000
    )
    result["AutoModel.from_config(small BERT)"] = hooks(lambda: transformers.AutoModel.from_config(bert))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
