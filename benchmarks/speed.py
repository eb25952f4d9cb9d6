"""Time every stage of ``ghn_init.apply``, side by side with the original code where a checkout is given.

    python benchmarks/speed.py                                   # our stages alone
    python benchmarks/speed.py --anchor GHN3 PPUDA               # checkouts of ghn3 and ppuda
    python benchmarks/speed.py --size XL --nets resnet50 --anchor GHN3 PPUDA

    python benchmarks/speed.py --threads 2 --anchor GHN3 PPUDA   # on several threads

Random weights in the official shapes; CPU and wall-clock seconds, the medians of repeats taken in turn with
the original's, so that the ratio of CPU seconds holds on a busy machine. Writes the rows of
``benchmarks/results/speed.jsonl``, which ``speed_page.py`` reads. The original needs ``joblib, networkx,
einops, h5py``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

import ghn_init
from ghn_init.assign import bind, write
from ghn_init.tracing.lower import lower
from ghn_init.tracing.trace import record_model

RESULTS = Path(__file__).resolve().parent / "results" / "speed.jsonl"
NETS = ("mobilenet_v3_large", "resnet50", "swin_t", "vit_b_16", "convnext_base", "efficientnet_v2_l")
STAGES = ("trace", "lower", "distances", "encode", "decode", "write")


def cpu_seconds(call: Callable[[], Any], into: list[float]) -> Any:
    """Call, append the CPU seconds that it took, return its result."""
    start = time.process_time()
    result = call()
    into.append(time.process_time() - start)
    return result


def our_stages(model: nn.Module, ghn: ghn_init.GHN, times: dict[str, list[float]]) -> None:
    """One prediction, stage by stage."""
    recording = cpu_seconds(lambda: record_model(model), times["trace"])
    graph = cpu_seconds(lambda: lower(recording), times["lower"])
    cpu_seconds(graph.distances, times["distances"])
    encode: list[float] = []
    cpu_seconds(lambda: ghn.embed(graph), encode)
    times["encode"].append(encode[0])
    predicted: list[float] = []
    groups = cpu_seconds(lambda: list(ghn.iter_fitted(graph, head="predict")), predicted)
    times["decode"].append(predicted[0] - encode[0])
    binding = bind(model, ghn.plan(graph, head="predict").predicted)
    cpu_seconds(lambda: write(binding, groups), times["write"])


def load_original(paths: list[str], options: dict[str, Any]) -> Callable[[nn.Module], Any]:
    """The original's whole prediction: trace, graph, GNN, decoder, copy into the model."""
    sys.path[:0] = paths
    with contextlib.redirect_stdout(io.StringIO()):
        import ghn3  # pyright: ignore[reportMissingImports]  # noqa: F401
    network, graphs = sys.modules["ghn3.nn"], sys.modules["ghn3.graph"]
    ghn = network.GHN3(**options, num_classes=1000, weight_norm=True, ve=True, layernorm=True).eval()

    def predict(model: nn.Module) -> None:
        with torch.no_grad(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.enable_grad():
                graph = graphs.Graph(model, ve_cutoff=50)
            ghn(model, graph, predict_class_layers=True, reduce_graph=False)

    return predict


def both_clocks(call: Callable[[], Any], cpu: list[float], wall: list[float]) -> None:
    """Call, append the CPU seconds and the wall-clock seconds that it took."""
    start = time.perf_counter()
    cpu_seconds(call, cpu)
    wall.append(time.perf_counter() - start)


def measure(name: str, ghn: ghn_init.GHN, original: Callable[[nn.Module], Any] | None, repeats: int) -> dict:
    """Row of one network."""
    model = torchvision.models.get_model(name).eval()
    stages: dict[str, list[float]] = {stage: [] for stage in STAGES}
    whole: dict[str, list[float]] = {key: [] for key in ("total", "wall", "original", "original_wall")}
    ghn_init.apply(model, ghn)
    for _ in range(repeats):
        both_clocks(lambda: ghn_init.apply(model, ghn), whole["total"], whole["wall"])
        if original is not None:
            both_clocks(lambda: original(model), whole["original"], whole["original_wall"])
        our_stages(model, ghn, stages)
    medians = {key: statistics.median(values) for key, values in {**whole, **stages}.items() if values}
    return {"net": name, "repeats": repeats, **medians}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anchor", nargs=2, metavar=("GHN3", "PPUDA"), help="checkouts of the original code")
    parser.add_argument("--size", choices=["T", "XL"], default="T")
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = ghn_init.GHNConfig.ghn3(options.size)
    shape = {key: getattr(config, key) for key in ("hid", "layers", "heads", "max_shape")}
    original = load_original(options.anchor, shape) if options.anchor else None
    ghn = ghn_init.GHN(config).eval().requires_grad_(False)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    for name in options.nets:
        row = {"ghn": options.size, "threads": options.threads}
        row |= measure(name, ghn, original, options.repeats)
        rows = [old for old in rows if any(old[key] != row[key] for key in ("ghn", "net", "threads"))] + [row]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
