"""Peak memory of each rank while a model is initialised shard by shard: the table of docs/large_models.md.

    python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4 --out benchmarks/results/sharded.jsonl
    python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4 --budget 1.2 \\
        --out benchmarks/results/sharded_budget.jsonl
    python benchmarks/trust_page.py

The model is built on the meta device, sharded by ``fully_shard`` over gloo processes, and given memory and
values by one ``ghn_init.apply(model, ghn, materialize=True)``. With ``--budget`` a rank may not use more
memory than that, in GB of address space beyond what it has when the model is built; a rank that fails must
leave its model as it was, and the bits of the others must be those of one process without a budget.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh

WIDTH = 2048
GIGA = 1e9


class Block(nn.Module):
    """A gated feed-forward block of 32 million parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


def build(gigabytes: float) -> nn.Sequential:
    """A model of about this size in float32, on the meta device."""
    blocks = max(1, round(gigabytes * GIGA / (4 * 8 * WIDTH**2)))
    with torch.device("meta"):
        return nn.Sequential(nn.Linear(64, WIDTH), *(Block() for _ in range(blocks)), nn.Linear(WIDTH, 10))


def memory(field: str) -> int:
    """A field of this process's status, in bytes: ``VmRSS`` now, ``VmHWM`` at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(field))


def digest(model: nn.Module) -> list[str]:
    """Hash of each row of each parameter that this rank holds."""
    found: list[str] = []
    for parameter in model.parameters():
        local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        found += [hashlib.sha256(row.numpy().tobytes()).hexdigest()[:12] for row in local.detach()]
    return found


def local_bytes(parameter: Tensor) -> int:
    """Bytes of a parameter in this rank's memory."""
    if parameter.is_meta:
        return 0
    return (parameter.to_local() if hasattr(parameter, "to_local") else parameter).nbytes


def on_rank(rank: int, world: int, options: argparse.Namespace, store: str, results: Any) -> None:
    """Initialise this rank's shards and report the memory that it took."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    from torch.distributed.fsdp import fully_shard

    import ghn_init
    from ghn_init.default import resolve_ghn

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    # Loaded here, so that what is measured is the initialisation alone.
    ghn = resolve_ghn(options.ghn)
    model = build(options.gigabytes)
    if world > 1:
        mesh = init_device_mesh("cpu", (world,))
        for block in model:
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    before, libraries = memory("VmRSS"), memory("RssFile")
    if options.budget is not None:
        limit = memory("VmSize") + int(options.budget * GIGA)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    start = time.process_time()
    failed = ""
    try:
        ghn_init.apply(model, ghn, example_inputs=torch.zeros(1, 64), head="predict", materialize=True)
    except Exception as error:  # noqa: BLE001 - reported in the table
        failed = f"{type(error).__name__}: {error}"[:160]
    seconds = time.process_time() - start
    # Without the pages of libraries that were first touched meanwhile: the system takes them back at will.
    peak = memory("VmHWM") - max(0, memory("RssFile") - libraries)
    results[rank] = {
        "shards": sum(local_bytes(parameter) for parameter in model.parameters()),
        "before": before, "peak": peak, "seconds": seconds, "failed": failed,
        "unchanged": all(parameter.is_meta for parameter in model.parameters()),
        "digest": [] if failed else digest(model),
    }  # fmt: skip
    dist.destroy_process_group()


def measure(world: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each rank reports."""
    with multiprocessing.Manager() as manager, tempfile.TemporaryDirectory() as folder:
        results = manager.dict()
        multiprocessing.spawn(on_rank, (world, options, f"{folder}/store", results), nprocs=world)
        return [dict(results[rank]) for rank in range(world)]


def same_rows(one: list[list[str]], other: list[list[str]]) -> bool:
    """Whether the rows that the ranks hold together are the same; the order of ranks is that of rows."""
    joined = lambda ranks: sorted(hash for rank in ranks for hash in rank)  # noqa: E731
    return joined(one) == joined(other)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.5)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ghn", default="bundled")
    parser.add_argument("--budget", type=float)
    parser.add_argument("--out", type=Path, help="file of results, one JSON object for each number of ranks")
    options = parser.parse_args()
    size = round(sum(p.nbytes for p in build(options.gigabytes).parameters()) / GIGA, 3)
    print(f"Model of {size:.2f} GB\n")
    print("| ranks | shards, GB a rank | peak beyond what was used before, GB | CPU seconds | same bits |")
    print("|---|---|---|---|---|")
    first: list[list[str]] | None = None
    if options.budget is not None:
        unlimited = argparse.Namespace(**{**vars(options), "budget": None})
        first = [rank["digest"] for rank in measure(1, unlimited)]
    rows: list[dict[str, Any]] = []
    for world in options.ranks:
        ranks = measure(world, options)
        sizes = {
            "model_gb": size,
            "budget_gb": options.budget,
            "ghn": options.ghn,
            "torch": torch.__version__,
        }
        if failed := [rank["failed"] for rank in ranks if rank["failed"]]:
            if not all(rank["unchanged"] for rank in ranks):
                raise SystemExit(f"{world} ranks: a model was changed by a failure: {failed[0]}")
            print(f"| {world} | – | {failed[0]} | – | – |")
            rows.append({"ranks": world, **sizes, "failed": failed[0]})
            continue
        hashes = [rank["digest"] for rank in ranks]
        first = first or hashes
        shards = max(rank["shards"] for rank in ranks) / GIGA
        extra = max(rank["peak"] - rank["before"] for rank in ranks) / GIGA
        seconds = sum(rank["seconds"] for rank in ranks)
        same = same_rows(first, hashes)
        print(
            f"| {world} | {shards:.2f} | {extra:.2f} | {seconds:.0f} | {'yes' if same else 'NO'} |",
            flush=True,
        )
        figures = {"shards_gb": shards, "extra_gb": extra, "cpu_seconds": seconds}
        figures = {key: round(value, 3) for key, value in figures.items()}
        rows.append({"ranks": world, **sizes, **figures, "same_bits": same})
    if options.out is not None:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
