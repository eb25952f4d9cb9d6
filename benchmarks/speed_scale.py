"""What a prediction costs against the number of nodes, and of parameters.

    python benchmarks/speed_scale.py                    # all; each case in a process of its own
    python benchmarks/speed_scale.py nodes 1000         # one case, one JSON line
    python benchmarks/speed_scale.py parameters 1000000
    python benchmarks/speed_scale.py materialised 1000000000

*nodes*: graphs of a chain of matrices with shortcuts, through the GHN-3-T encoder (all-to-all attention).
*parameters*: language models of the Llama kind on the meta device, predicted group by group by GHN-3-T; each
group is spelled out and dropped. *materialised*: the same models, given memory and written group by group
by ``ghn_init.apply(..., materialize=True)``. CPU seconds of one thread, and the memory that the stage adds to
the peak of the process. Writes ``benchmarks/results/speed_scale.jsonl``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from ghn_init import GHN, GHNConfig, apply, trace
from ghn_init.graph import ArchGraph, Node, ParamSlot
from ghn_init.graph.batch import graph_structure

RESULTS = Path(__file__).resolve().parent / "results" / "speed_scale.jsonl"
NODES = (100, 300, 1_000, 3_000, 10_000, 20_000)
PARAMETERS = {  # about so many: hidden size, layers, vocabulary
    1_000_000: (128, 4, 1_000),
    10_000_000: (320, 6, 6_000),
    100_000_000: (768, 10, 16_000),
    1_000_000_000: (2_048, 20, 16_000),
    7_000_000_000: (4_096, 32, 32_000),
}

MATERIALISED = (1_000_000, 10_000_000, 100_000_000, 1_000_000_000)  # the last takes 4 GB


def peak() -> float:
    """Most memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Stages:
    """CPU seconds and added peak memory of one stage after the other."""

    def __init__(self) -> None:
        self.row: dict[str, Any] = {}
        self._clock, self._peak = time.process_time(), peak()

    def done(self, stage: str) -> None:
        """The stage that ends now."""
        now, held = time.process_time(), peak()
        self.row |= {f"{stage} s": round(now - self._clock, 4), f"{stage} MB": round(held - self._peak)}
        self._clock, self._peak = now, held


def chain(count: int) -> ArchGraph:
    """A graph of ``count`` nodes: matrices in a row, and a shortcut over every fourth."""
    nodes = [Node("input")]
    for index in range(1, count):
        slot = ParamSlot(f"layers.{index}.weight", (64, 64))
        nodes.append(Node("conv", (slot,), (64, 64)))
    edges = [(index, index + 1) for index in range(count - 1)]
    edges += [(index, index + 5) for index in range(0, count - 5, 4)]
    return ArchGraph(tuple(nodes), edges)


def nodes(count: int) -> dict[str, Any]:
    """Distances and encoding of a graph."""
    ghn = GHN(GHNConfig.ghn3("T")).eval().requires_grad_(False)
    ghn.embed(chain(50))
    graph = chain(count)
    stages = Stages()
    structure = graph_structure(graph)
    stages.done("distances")
    ghn.embed(graph)
    stages.done("encode")
    return {"edges": len(graph.edges), "pairs": len(structure) ** 2, **stages.row}


def parameters(count: int) -> dict[str, Any]:
    """Tracing and predicting a language model of about ``count`` parameters, which get no memory."""

    ghn, model = _language_model(count)
    stages = Stages()
    graph = trace(model)
    stages.done("trace")
    predicted = 0
    for group in ghn.iter_groups(graph, head="predict"):
        predicted += sum(tensor.numel() for tensor in group.values())
    stages.done("predict")
    total = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": total, "predicted": predicted, "nodes": len(graph), **stages.row}


def materialised(count: int) -> dict[str, Any]:
    """Giving memory to a language model of about ``count`` parameters, and writing it."""
    ghn, model = _language_model(count)
    stages = Stages()
    apply(model, ghn, head="predict", materialize=True)
    stages.done("apply")
    total = sum(parameter.numel() for parameter in model.parameters())
    size = sum(parameter.nbytes for parameter in model.parameters())
    return {"parameters": total, "model MB": round(size / 2**20), **stages.row}


def _language_model(count: int) -> tuple[GHN, torch.nn.Module]:
    import transformers

    hidden, layers, words = PARAMETERS[count]
    config = transformers.LlamaConfig(
        vocab_size=words, hidden_size=hidden, intermediate_size=hidden * 43 // 16, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64,
    )  # fmt: skip
    ghn = GHN(GHNConfig.ghn3("T")).eval().requires_grad_(False)
    trace(torch.nn.Linear(8, 8), torch.empty(2, 8))
    with torch.device("meta"):
        return ghn, transformers.AutoModelForCausalLM.from_config(config)


def main() -> None:
    """All cases, one process each, or the one that the command line names."""
    torch.set_num_threads(1)
    if len(sys.argv) == 3:
        kind, size = sys.argv[1], int(sys.argv[2])
        row = {"nodes": nodes, "parameters": parameters, "materialised": materialised}[kind](size)
        print(json.dumps({"kind": kind, "size": size, **row}))
        return
    cases = [("nodes", size) for size in NODES] + [("parameters", size) for size in PARAMETERS]
    cases += [("materialised", size) for size in MATERIALISED]
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    for kind, size in cases:
        command = [sys.executable, "-W", "ignore", __file__, kind, str(size)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows = [old for old in rows if (old["kind"], old["size"]) != (kind, size)] + [row]
        RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
