"""Updates of a GHN-2 per second, beside the original training step on the same networks and images.

    python benchmarks/speed_training.py                  # ours alone
    python benchmarks/speed_training.py --anchor PPUDA   # a checkout of facebookresearch/ppuda
    python benchmarks/speed_training.py --threads 2      # ours, each update on two threads
    python benchmarks/speed_training.py --processes 2    # ours, an update of two networks in two processes

The settings are the original's at small size: GHN-2 of hid 32 and max_shape (64, 64, 7, 7), one architecture
and 64 images (32 x 32) an update, Adam, gradients clipped at 5. Both start from the same weights and see the
same networks of cells and the same batches in the same order, each with graphs made before. Times are CPU
seconds of one thread, taken in turn. Several threads are timed by the clock on the wall, which says nothing
on a machine that others use; several processes by the CPU seconds of each, so that networks a second are
those of as many free cores. Writes ``benchmarks/results/speed_training.json``. The original needs ``joblib,
networkx, einops, h5py``.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
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
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.hub.convert import convert
from ghn_init.training.config import TrainConfig
from ghn_init.training.order import draw
from ghn_init.training.spaces import Space
from ghn_init.training.trainer import Trainer

RESULTS = Path(__file__).resolve().parent / "results" / "speed_training.json"
GHN2 = {
    "hid": 32,
    "layers": 1,
    "max_shape": (64, 64, 7, 7),
    "encoder": "gated_gnn",
    "kernel_crop": "top_left",
}
CONVENTIONS = {"class_layer": "last_nodes", "graph_convention": "ghn3"}
CELLS = {"cells": 1.0}
Step = Callable[[int, int], float]  # number of the update, number of the network → loss


def configuration(networks: int) -> TrainConfig:
    """The original's settings."""
    return TrainConfig(
        ghn={**GHN2, **CONVENTIONS}, families=CELLS, pool=networks, pool_start=networks, steps=10**6,
        inner_steps=1, warmup=0, final_lr=1.0, ema=0.0,
    )  # fmt: skip


def our_step(trainer: Trainer) -> Step:
    """One update of ours; the trainer itself knows which network is next."""

    def step(number: int, network: int) -> float:
        assert trainer.step == number
        return trainer.update().loss

    return step


def original_step(checkout: str, trainer: Trainer) -> Step:
    """One update of the original code, whose initial weights become ours too."""
    sys.path.insert(0, checkout)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        original: Any = importlib.import_module("ppuda.ghn.nn")
        graphs: Any = importlib.import_module("ppuda.deepnets1m.graph")
    arguments = {"max_shape": GHN2["max_shape"], "num_classes": 10, "hypernet": "gatedgnn", "decoder": "conv"}
    arguments |= {"weight_norm": True, "ve": True, "layernorm": True, "hid": 32}
    ghn = original.GHN(**arguments, debug_level=0).train()
    _, state = convert(ghn.state_dict(), arguments)
    trainer.ghn.load_state_dict(state)
    optimizer = torch.optim.Adam(
        ghn.parameters(), trainer.config.lr, weight_decay=trainer.config.weight_decay
    )
    space = Space(CELLS, trainer.config.seed)
    ready: dict[int, tuple[nn.Module, Any]] = {}

    def step(number: int, network: int) -> float:
        if network not in ready:
            model: Any = space[network].build(10, 32)
            model.expected_input_sz = 32
            model._n_cells = len(model.cells)  # by these the original finds parameters
            for index, cell in enumerate(model.cells):
                cell._cell_ind = index
            graph = graphs.Graph(model.eval(), ve_cutoff=50)
            ready[network] = model.train(), graph
        model, graph = ready[network]
        model.__dict__["_layered_modules"] = original.named_layered_modules(model)
        ((batch, labels),) = trainer.data.take(number, 1, 32)
        optimizer.zero_grad()
        ghn([model], graphs.GraphBatch([graph]).to_device("cpu"))
        loss = F.cross_entropy(_logits(model(batch.contiguous())), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(ghn.parameters(), 5)
        optimizer.step()
        return float(loss)

    return step


def _logits(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def measure(steps: dict[str, Step], networks: int, updates: int) -> dict[str, Any]:
    """CPU seconds and losses of updates, after each network was seen."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    losses: dict[str, list[float]] = {name: [] for name in steps}
    seen: set[int] = set()
    number = 0
    while len(times["ours"]) < updates:
        network = draw(networks, 0, number)
        for name, step in steps.items():
            start = time.process_time()
            with contextlib.redirect_stdout(io.StringIO()):
                loss = step(number, network)
            if network in seen:
                times[name].append(time.process_time() - start)
            losses[name].append(round(loss, 4))
        seen.add(network)
        number += 1
    return {
        name: {
            "updates": len(times[name]),
            "steps/s": round(len(times[name]) / sum(times[name]), 2),
            "median ms": round(1e3 * statistics.median(times[name]), 1),
            "loss": round(statistics.mean(losses[name]), 4),
            "losses": losses[name],
        }
        for name in steps
    }


def several_threads(count: int, networks: int, updates: int) -> dict[str, Any]:
    """Wall-clock seconds of updates on several threads, and on one in turn."""
    trainer = Trainer(configuration(networks))
    walls: dict[int, list[float]] = {1: [], count: []}
    seen: set[int] = set()
    losses: list[float] = []
    while len(walls[count]) < updates:
        network, warm = draw(networks, 0, trainer.step), trainer.step % 2
        torch.set_num_threads(count if warm else 1)
        start = time.perf_counter()
        losses.append(round(trainer.update().loss, 4))
        if network in seen:
            walls[torch.get_num_threads()].append(time.perf_counter() - start)
        seen.add(network)
    middle = {threads: statistics.median(values) for threads, values in walls.items()}
    return {
        "updates": len(walls[count]),
        "steps/s": round(len(walls[count]) / sum(walls[count]), 2),
        "median ms": round(1e3 * middle[count], 1),
        "median ms of one": round(1e3 * middle[1], 1),
        "load": round(os.getloadavg()[0], 1),
        "loss": round(statistics.mean(losses), 4),
    }


def several_processes(count: int, networks: int, updates: int) -> dict[str, Any]:
    """Networks a second of processes that share each update's networks, one each."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", __file__]
    command += ["--networks", str(networks), "--updates", str(updates)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "updates": updates,
        "steps/s": round(count / found["seconds"], 2),
        "median ms": round(1e3 * found["median"], 1),
        "wall steps/s": round(count / found["wall"], 2),
        "load": round(os.getloadavg()[0], 1),
        "loss": round(found["loss"], 4),
    }


def one_of_several(networks: int, updates: int) -> None:
    """A process that :func:`several_processes` started."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    config = dataclasses.replace(configuration(networks), meta_batch=accelerator.num_processes)
    trainer = Trainer(config, accelerator=accelerator)
    for _ in range(2 * networks):  # until most networks were seen
        trainer.update()
    times, losses = [], []
    began = time.perf_counter()
    for _ in range(updates):
        start = time.process_time()
        losses.append(trainer.update().loss)
        times.append(time.process_time() - start)
    mine = [statistics.mean(times), statistics.median(times), (time.perf_counter() - began) / updates]
    total: Any = accelerator.reduce(torch.tensor([*mine, statistics.mean(losses)]), "mean")
    if accelerator.is_main_process:
        print(json.dumps(dict(zip(("seconds", "median", "wall", "loss"), total.tolist(), strict=True))))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--anchor", metavar="PPUDA", help="a checkout of the original code")
    parser.add_argument("--networks", type=int, default=16)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if "LOCAL_RANK" in os.environ:
        one_of_several(options.networks, options.updates)
        return
    sizes = options.networks, options.updates
    result = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if options.threads > 1:
        result[f"ours, {options.threads} threads"] = several_threads(options.threads, *sizes)
    elif options.processes > 1:
        result[f"ours, {options.processes} processes"] = several_processes(options.processes, *sizes)
    else:
        trainer = Trainer(configuration(options.networks))
        steps = {"ours": our_step(trainer)}
        if options.anchor:
            steps["original"] = original_step(options.anchor, trainer)
        result |= measure(steps, *sizes)
    RESULTS.write_text(json.dumps(result) + "\n", encoding="utf-8")
    for name, row in result.items():
        print(name, {key: value for key, value in row.items() if key != "losses"})
        print(row.get("losses", ""))


if __name__ == "__main__":
    main()
