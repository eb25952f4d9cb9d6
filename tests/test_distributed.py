"""Data-parallel and sharded models on two gloo processes: every rank writes the bits of a single process."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from states import IMAGE, ConvNet, tiny_ghn
from torch import multiprocessing
from torch.distributed.device_mesh import init_device_mesh

import ghn_init
from ghn_init.assign import write

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


def on_each_rank(rank: int, scenario: str, store: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        torch.manual_seed(rank)
        globals()[scenario]()
    finally:
        dist.destroy_process_group()


def data_parallel() -> None:
    model = ConvNet()
    expected = ghn_init.predict(model, tiny_ghn(), example_inputs=IMAGE)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    ghn_init.apply(wrapped, tiny_ghn(), example_inputs=IMAGE)
    assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


def sharded() -> None:
    from torch.distributed.fsdp import fully_shard

    model = ConvNet()
    graph = ghn_init.trace(model, IMAGE)
    expected = ghn_init.predict(graph, tiny_ghn())
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    report = ghn_init.apply(model, tiny_ghn(), graph=graph)
    assert not report.skipped
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.full_tensor(), expected[name])
    local = {name: parameter.to_local().clone() for name, parameter in model.named_parameters()}

    def interrupted():
        yield {name: torch.ones(parameter.shape) for name, parameter in model.named_parameters()}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(model, interrupted())
    assert all(torch.equal(parameter.to_local(), local[name]) for name, parameter in model.named_parameters())


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["data_parallel", "sharded"])
def test_on_two_ranks(scenario, tmp_path):
    multiprocessing.spawn(on_each_rank, (scenario, tmp_path / "store"), nprocs=2)
