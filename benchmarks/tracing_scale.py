"""CPU seconds and memory of tracing against the number of operations, and for published language models.

    python benchmarks/tracing_scale.py            # all; writes the results and docs/scale.md
    python benchmarks/tracing_scale.py chain 1000 # one case: its row is replaced
    python benchmarks/tracing_scale.py Llama-2-70B

Every case runs in a process of its own. Seconds are CPU seconds, memory is what tracing adds to the peak of
the process (``ru_maxrss``); the models are on the meta device.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SIZES = {
    "chain": (100, 1_000, 10_000),
    "nested": (100, 250),
    "branches": (1_000, 10_000),
    "dense": (100, 300),
}


class Branches(nn.Module):
    """A chain in which every fourth layer is added to the layer before, as in a residual network."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8) for _ in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        kept = x
        for index, layer in enumerate(self.layers):
            x = torch.relu(layer(x))
            if index % 4 == 3:
                x = kept = x + kept
        return x


class Dense(Branches):
    """Every layer sees the concatenation of all before it (Huang et al., 2017)."""

    def __init__(self, layers: int) -> None:
        super().__init__(0)
        self.layers = nn.ModuleList([nn.Linear(8 * (index + 1), 8) for index in range(layers)])

    def forward(self, x: Tensor) -> Tensor:
        seen = [x]
        for layer in self.layers:
            seen.append(torch.relu(layer(torch.cat(seen, -1))))
        return seen[-1]


class Nested(nn.Module):
    """A module inside a module inside a module: the depth is that of the Python stack."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.inner = Nested(depth - 1) if depth > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.layer(x))


def chain(layers: int) -> nn.Module:
    return nn.Sequential(*(nn.Linear(8, 8) for _ in range(layers)))


def language_model(name: str) -> nn.Module:
    """A model of transformers with published sizes."""
    import transformers

    configs: dict[str, Callable[[], Any]] = {
        "Llama-2-70B": lambda: transformers.LlamaConfig(
            vocab_size=32_000, hidden_size=8192, intermediate_size=28_672, num_hidden_layers=80,
            num_attention_heads=64, num_key_value_heads=8,
        ),
        "Mixtral-8x22B": lambda: transformers.MixtralConfig(
            vocab_size=32_768, hidden_size=6144, intermediate_size=16_384, num_hidden_layers=56,
            num_attention_heads=48, num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2,
        ),
        "DeepSeek-V3": lambda: transformers.DeepseekV3Config(
            vocab_size=129_280, hidden_size=7168, intermediate_size=18_432, moe_intermediate_size=2048,
            num_hidden_layers=61, num_attention_heads=128, num_key_value_heads=128, n_shared_experts=1,
            n_routed_experts=256, num_experts_per_tok=8, n_group=8, topk_group=4, first_k_dense_replace=3,
            q_lora_rank=1536, kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=128, v_head_dim=128,
        ),
    }  # fmt: skip
    return transformers.AutoModelForCausalLM.from_config(configs[name]())


LANGUAGE = ("Llama-2-70B", "Mixtral-8x22B", "DeepSeek-V3")
BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "chain": chain,
    "nested": Nested,
    "branches": Branches,
    "dense": Dense,
}


def peak() -> float:
    """Peak memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(kind: str, size: int) -> dict[str, Any]:
    """Trace one model."""
    from ghn_init.tracing.lower import lower
    from ghn_init.tracing.trace import record_model

    record_model(nn.Linear(8, 8), torch.empty(2, 8, device="meta"))  # first use imports much
    with torch.device("meta"):
        model = BUILDERS[kind](size) if kind in BUILDERS else language_model(kind)
    inputs = torch.empty(2, 8, device="meta") if kind in BUILDERS else None
    before, start = peak(), time.process_time()
    recording = record_model(model, inputs)
    recorded = time.process_time()
    graph = lower(recording)
    lowered = time.process_time()
    traced = peak()
    graph.distances()
    return {
        "model": kind if not size else f"{kind} {size}",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "operations": sum(node.op == "call_function" for node in recording.graph.nodes),
        "nodes": len(graph),
        "edges": len(graph.edges),
        "unreached": len(graph.unreached),
        "record": round(recorded - start, 2),
        "lower": round(lowered - recorded, 2),
        "distances": round(time.process_time() - lowered, 2),
        "added MB": round(traced - before),
        "distances MB": round(peak() - traced),
    }


INTRODUCTION = """\
# Size

<!-- Written by benchmarks/tracing_scale.py from benchmarks/results/tracing_scale.jsonl. -->

CPU seconds of one thread, and the memory that tracing adds to the process, for models on the meta device.
*record* runs the forward without weights, *lower* makes the graph: both grow with the operations and edges.
*distances* are the shortest paths between all pairs of nodes: their time and memory grow with
the square of the nodes. The language models have the published sizes.

Reproduce with `python benchmarks/tracing_scale.py`."""


def page(rows: list[dict[str, Any]]) -> str:
    """The page of the docs."""
    columns = ("model", "parameters", "operations", "nodes", "edges", "record s", "lower s", "added MB")
    columns += ("distances s", "distances MB")
    lines = [*INTRODUCTION.splitlines(), "", f"| {' | '.join(columns)} |", "|---|" + "---:|" * 9]
    keys = ("record", "lower", "added MB", "distances", "distances MB")
    for row in rows:
        counts = (f"{row[key]:,}" for key in ("parameters", "operations", "nodes", "edges"))
        lines.append(f"| {' | '.join([row['model'], *counts, *(str(row[key]) for key in keys)])} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """All cases, one process each, or the one that the command line names."""
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    cases = [(kind, str(size)) for kind, sizes in SIZES.items() for size in sizes] + [
        (name, "0") for name in LANGUAGE
    ]
    root = Path(__file__).resolve().parent.parent
    results = root / "benchmarks" / "results" / "tracing_scale.jsonl"
    rows = {row["model"]: row for row in map(json.loads, results.read_text(encoding="utf-8").splitlines())}
    for case in [(sys.argv[1], *(sys.argv[2:] or "0"))] if len(sys.argv) > 1 else cases:
        command = [sys.executable, __file__, "--here", *case]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row = json.loads(done.stdout.splitlines()[-1])
        rows[row["model"]] = row
        print(json.dumps(row), flush=True)
    ordered = [rows[kind if size == "0" else f"{kind} {size}"] for kind, size in cases]
    results.write_text("".join(json.dumps(row) + "\n" for row in ordered), encoding="utf-8")
    (root / "docs" / "scale.md").write_text(page(ordered), encoding="utf-8")


if __name__ == "__main__":
    main()
