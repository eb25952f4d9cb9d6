"""Initialise a model that no process holds whole: on the meta device, sharded, then written shard by shard.

torchrun --nproc-per-node 2 examples/sharded.py
"""

from __future__ import annotations

import argparse
import os
import tempfile

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import ghn_init


class Block(nn.Module):
    """A feed-forward block with a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


def on_rank(rank: int, world: int, store: str, width: int) -> None:
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    mesh = init_device_mesh("cpu", (world,))
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(16, width), Block(width), Block(width), nn.Linear(width, 10))
    for block in model:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)

    report = ghn_init.apply(
        model, "bundled", example_inputs=torch.zeros(1, 16), head="predict", materialize=True
    )
    here = sum(parameter.to_local().numel() for parameter in model.parameters())
    print(f"rank {rank}: {here} of {sum(report.sizes.values())} values are here", flush=True)

    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.randn(4, 16)).square().mean().backward()
    optimiser.step()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=2, help="processes to start where torchrun starts none")
    options = parser.parse_args()
    if "RANK" in os.environ:
        on_rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "env://", options.width)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments = (options.ranks, f"file://{folder}/store", options.width)
        torch.multiprocessing.spawn(on_rank, arguments, nprocs=options.ranks)


if __name__ == "__main__":
    main()
