"""A rank that is killed while a model is written: the others put back what they had written, and say so."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from states import IMAGE, ConvNet, tiny_ghn
from test_distributed import Local, sharded
from torch import multiprocessing, nn

import ghn_init
from ghn_init import GHN, AssignError

WORLD = 3
AS_EXPECTED = 17
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo"),
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL"),
]


def killed_after_a_group(predict: Any) -> Any:
    """The method, which yields groups of tensors, but kills the process when the second is there."""

    def dying(self: GHN, *args: Any, **options: Any) -> Iterator[Any]:
        for number, group in enumerate(predict(self, *args, **options)):
            if number == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield group

    return dying


def on_each_rank(rank: int, store: Path, kind: str, statistics: bool) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    plain = ConvNet()
    model = sharded(plain) if kind == "sharded" else nn.parallel.DistributedDataParallel(plain)
    local = Local(model)
    dist.barrier()
    if rank == WORLD - 1:
        GHN.iter_fitted = killed_after_a_group(GHN.iter_fitted)  # type: ignore[method-assign]
    with pytest.raises(AssignError, match="put back"):
        ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE, statistics=statistics)
    assert local.unchanged()
    # The group is broken now: leaving it in order would wait for it.
    os._exit(AS_EXPECTED)


# With statistics, values are in the model before the ranks agree; without, they wait until then.
@pytest.mark.parametrize("statistics", [False, True], ids=["waiting", "written"])
@pytest.mark.parametrize("kind", ["sharded", "replicated"])
def test_the_others_put_back_and_raise(kind, statistics, tmp_path):
    context = multiprocessing.get_context("spawn")
    shared = (tmp_path / "store", kind, statistics)
    ranks = [context.Process(target=on_each_rank, args=(rank, *shared)) for rank in range(WORLD)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(300)
    codes = [process.exitcode for process in ranks]
    for process in ranks:
        process.kill()
    assert codes == [AS_EXPECTED] * (WORLD - 1) + [-signal.SIGKILL]
