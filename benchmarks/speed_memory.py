"""Load time and peak memory: GHN-3-XL (random weights) loaded, and applied to a model of 300 M parameters.

    python benchmarks/speed_memory.py --files FOLDER                      # ours
    python benchmarks/speed_memory.py --files FOLDER --anchor GHN3 PPUDA  # and the original's loading
    python benchmarks/speed_memory.py --files FOLDER --only "load bf16"   # some cases

The weights (7 GB in all) are made in FOLDER when they are not there. Every case runs in a process of its own;
loading runs twice, and the second time, with the files in the system's cache, is kept. *peak* is the most
memory that the process held (``VmHWM``), mapped files included; *before* is what it held after its imports.
Writes ``benchmarks/results/speed_memory.jsonl``. The original needs ``joblib, networkx, einops, h5py,
huggingface_hub``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torchvision
from torch import nn

import ghn_init
from ghn_init import GHN, GHNConfig

RESULTS = Path(__file__).resolve().parent / "results" / "speed_memory.jsonl"
BIG = "vit_l_16"
LIMIT_GB = 6


def memory(field: str) -> float:
    """MB of this process: ``VmHWM`` is the most it held, ``VmRSS`` what it holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def make_files(folder: Path) -> None:
    """GHN-3-XL with random weights in float32 and bf16."""
    if (folder / "bf16" / "model.safetensors").is_file():
        return
    torch.manual_seed(0)
    ghn = GHN(GHNConfig.ghn3("XL"))
    ghn.save_pretrained(folder / "f32")
    ghn.to(torch.bfloat16).save_pretrained(folder / "bf16")


def make_original(folder: Path, paths: list[str]) -> None:
    """The original GHN-3-XL with random weights, in the form of the published files."""
    if (folder / "ghn3xl.pt").is_file():
        return
    import joblib

    ghn = _original(paths).GHN3(**_shapes(), num_classes=1000, weight_norm=True, ve=True, layernorm=True)
    joblib.dump(ghn.state_dict(), folder / "ghn3xl.pt")


def _shapes() -> dict[str, Any]:
    config = GHNConfig.ghn3("XL")
    return {key: getattr(config, key) for key in ("hid", "layers", "heads", "max_shape")}


def _original(paths: list[str]) -> Any:
    sys.path[:0] = paths
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ghn3  # pyright: ignore[reportMissingImports]  # noqa: F401
    return sys.modules["ghn3.nn"]


def load(folder: Path, paths: list[str], kind: str) -> dict[str, Any]:
    """Load a GHN in a fresh process."""
    call: Callable[[], nn.Module] = lambda: GHN.from_pretrained(folder / kind)  # noqa: E731
    if kind == "original":
        network = _original(paths)
        network.hf_hub_download = lambda **_: str(folder / "ghn3xl.pt")
        call = network.from_pretrained
    else:
        GHN.from_pretrained("bundled")  # what is imported at the first use
    row = timed(call)
    row["weights MB"] = round(sum(p.nbytes for p in row.pop("result").parameters()) / 2**20)
    return row


def timed(call: Callable[[], Any]) -> dict[str, Any]:
    """Seconds and memory of one call."""
    before = memory("VmRSS")
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        result = call()
    return {
        "wall s": round(time.perf_counter() - wall, 2),
        "CPU s": round(time.process_time() - cpu, 2),
        "before MB": round(before),
        "peak MB": round(memory("VmHWM")),
        "result": result,
    }


def apply_big(folder: Path, kind: str) -> dict[str, Any]:
    """Build a model of 300 M parameters, load GHN-3-XL, apply it; the memory of all of it is limited."""
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_GB * 10**9, LIMIT_GB * 10**9))
    model = torchvision.models.get_model(BIG)

    def call() -> ghn_init.InitReport:
        return ghn_init.apply(model, GHN.from_pretrained(folder / kind), head="predict")

    row = timed(call)
    report = row.pop("result")
    return {
        **row,
        "model MB": round(sum(p.nbytes for p in model.parameters()) / 2**20),
        "predicted": round(report.share, 4) if hasattr(report, "share") else len(report.predicted),
    }


def difference(folder: Path) -> dict[str, Any]:
    """How far predictions of bf16 weights are from those of float32, for a ResNet-50."""
    graph = ghn_init.trace(torchvision.models.get_model("resnet50"), convention="ghn3")
    exact = GHN.from_pretrained(folder / "f32").predict(graph, head="predict")
    rough = GHN.from_pretrained(folder / "bf16").predict(graph, head="predict")
    errors = [float((rough[name].float() - value).norm() / value.norm()) for name, value in exact.items()]
    total = sum(float((rough[name].float() - value).square().sum()) for name, value in exact.items())
    norm = sum(float(value.square().sum()) for value in exact.values())
    return {
        "relative error, all values": round((total / norm) ** 0.5, 5),
        "median of tensors": round(statistics.median(errors), 5),
        "largest of tensors": round(max(errors), 5),
    }


CASES = ("load f32", "load bf16", "load original", "apply f32", "apply bf16", "difference bf16")


def run_case(case: str, folder: Path, paths: list[str]) -> dict[str, Any]:
    """Row of one case, in this process."""
    what, kind = case.split()
    if what == "difference":
        return difference(folder)
    return apply_big(folder, kind) if what == "apply" else load(folder, paths, kind)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--anchor", nargs=2, metavar=("GHN3", "PPUDA"), default=[])
    parser.add_argument("--only", nargs="+", choices=CASES)
    parser.add_argument("--here", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.here:
        print(json.dumps(run_case(options.here, options.files, options.anchor)))
        return
    make_files(options.files)
    if options.anchor and (not options.only or "load original" in options.only):
        make_original(options.files, options.anchor)
    cases = [case for case in options.only or CASES if options.anchor or case != "load original"]
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    for case in cases:
        command = [sys.executable, "-W", "ignore", __file__, "--files", str(options.files), "--here", case]
        command += ["--anchor", *options.anchor] if options.anchor else []
        row: dict[str, Any] = {}
        for _ in range(2 if case.startswith("load") else 1):
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            row = {"case": case, **json.loads(done.stdout.splitlines()[-1])}
        rows = [old for old in rows if old["case"] != case] + [row]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
