"""A run on the processes, precision and trackers of an Accelerate launch."""

from __future__ import annotations

import json
import math
import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from ghn_init import ConfigError
from ghn_init.training.config import TrainConfig
from ghn_init.training.log import LOG
from ghn_init.training.processes import Processes
from ghn_init.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")


def config(**changes: object) -> TrainConfig:
    small = {
        "ghn": {"hid": 16, "layers": 1, "max_shape": [16, 16, 3, 3], "encoder": "gated_gnn"},
        "families": {"resnet": 1.0, "vit": 1.0}, "pool": 4, "pool_start": 3, "batch_size": 8,
        "inner_steps": 2, "steps": 4, "warmup": 2, "checkpoint_every": 2, "meta_batch": 3, "data": "bundled",
    }  # fmt: skip
    return TrainConfig.from_dict({**small, **changes})


def a_rank(rank: int, world: int, port: int, folder: Path) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }  # fmt: skip
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    assert accelerator.num_processes == world
    trainer = Trainer(config(), folder=folder, accelerator=accelerator)
    entries = []
    trainer.run(until=2, on_step=lambda entry: entries.append(entry.loss))
    resumed = Trainer(config(), folder=folder, accelerator=accelerator)  # both ranks read the checkpoint
    assert resumed.step == 2
    resumed.run(on_step=lambda entry: entries.append(entry.loss))
    torch.save({"ghn": resumed.ghn.state_dict(), "losses": entries}, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_make_the_update_of_one_with_the_joint_meta_batch(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(a_rank, (2, port, tmp_path), nprocs=2)
    left, right = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = Trainer(config())
    start = {name: value.clone() for name, value in alone.ghn.state_dict().items()}
    losses: list[float] = []
    alone.run(on_step=lambda entry: losses.append(entry.loss))
    for name, value in alone.ghn.state_dict().items():
        assert torch.equal(left["ghn"][name], right["ghn"][name])
        moved = float((value - start[name]).norm())
        assert float((left["ghn"][name] - value).norm()) <= 0.02 * moved + 1e-6, name
    assert left["losses"] == pytest.approx(losses, rel=1e-3)
    assert left["losses"] == right["losses"]


def in_mixed_precision(_: int, folder: Path) -> None:
    torch.set_num_threads(1)
    from accelerate import Accelerator
    from accelerate.tracking import GeneralTracker

    class Lines(GeneralTracker):
        name = "lines"
        requires_logging_directory = False

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[dict[str, Any]] = []

        @property
        def tracker(self) -> Any:
            return self.rows

        def store_init_configuration(self, values: dict) -> None:
            self.rows.append(values)

        def log(self, values: dict, step: int | None = None, **_: Any) -> None:
            self.rows.append({**values, "at": step})

    lines = Lines()
    accelerator = Accelerator(cpu=True, mixed_precision="bf16", log_with=lines)
    trainer = Trainer(config(meta_batch=1, steps=10), folder=folder, accelerator=accelerator)
    entries = []
    trainer.run(on_step=entries.append)
    assert all(math.isfinite(entry.loss) for entry in entries)
    assert {value.dtype for value in trainer.ghn.state_dict().values()} == {torch.float32}
    full = Trainer(config(meta_batch=1, steps=10))
    assert full.update().loss != entries[0].loss
    assert full.update().loss == pytest.approx(entries[1].loss, rel=0.05)
    (folder / "tracked.json").write_text(json.dumps(lines.rows))
    accelerator.state._mixed_precision = "fp16"
    with pytest.raises(ConfigError, match="needs a scaled loss"):
        Processes(accelerator)


def test_bf16_and_trackers(tmp_path: Path):
    spawn(in_mixed_precision, (tmp_path,), nprocs=1)
    first, *rows = json.loads((tmp_path / "tracked.json").read_text())
    assert first["inner_steps"] == 2
    logged = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [row["at"] for row in rows] == [row["step"] for row in logged] == [10]
    assert rows[0]["loss"] == logged[0]["loss"]


def test_one_process_needs_no_accelerator():
    alone = Processes()
    assert alone.is_main
    assert alone.device == torch.device("cpu")
    assert alone.own(range(3)) == [0, 1, 2]
    assert alone.sum_numbers([1.0, 2.0]) == [1.0, 2.0]
