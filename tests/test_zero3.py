"""ZeRO-3 of DeepSpeed: refused while partitioned, initialised inside of GatheredParameters, then trained."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from state_rows_libraries import SMALL
from states import IMAGE, ConvNet, tiny_ghn
from torch import multiprocessing

import ghn_init

WORLD = 2
SETTINGS = {
    "train_micro_batch_size_per_gpu": 2,
    "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0},
    "zero_allow_untested_optimizer": True,
    "optimizer": {"type": "AdamW", "params": {"lr": 1e-3, "torch_adam": True}},
}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs DeepSpeed"),
]


def whole(deepspeed: Any, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    with deepspeed.zero.GatheredParameters(list(model.parameters())):
        return {name: p.detach().clone() for name, p in model.named_parameters()}


def start(rank: int, store: Path) -> Any:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(WORLD), DS_ACCELERATOR="cpu")
    import deepspeed

    deepspeed.init_distributed("gloo", False, init_method=f"file://{store}", rank=rank, world_size=WORLD)
    torch.manual_seed(rank)
    return deepspeed


def train(deepspeed: Any, model: ConvNet, expected: dict[str, torch.Tensor]) -> None:
    """One step moves every parameter from its prediction by the learning rate at most."""
    engine, *_ = deepspeed.initialize(model=model, config=SETTINGS, model_parameters=model.parameters())
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    now = whole(deepspeed, engine.module)
    assert all(torch.equal(now[name], value) for name, value in expected.items())
    engine.backward(engine(torch.randn(2, 3, 8, 8)).sum())
    engine.step()
    moved = whole(deepspeed, engine.module)
    assert all(0 < float((moved[name] - value).abs().max()) < 2e-3 for name, value in expected.items())


def built_in_parts(rank: int, store: Path) -> None:
    deepspeed = start(rank, store)
    with deepspeed.zero.Init(config_dict_or_path=SETTINGS):
        model = ConvNet()
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    before = whole(deepspeed, model)
    with pytest.raises(ghn_init.AssignError, match=r"deepspeed\.zero\.GatheredParameters"):
        ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE)
    assert all(torch.equal(value, before[name]) for name, value in whole(deepspeed, model).items())

    with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
        report = ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE)
    expected = ghn_init.predict(ConvNet(), tiny_ghn(), example_inputs=IMAGE)
    assert report.predicted.keys() == expected.keys()
    train(deepspeed, model, expected)
    dist.destroy_process_group()


def built_whole(rank: int, store: Path) -> None:
    deepspeed = start(rank, store)
    model = ConvNet()
    ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE)
    train(deepspeed, model, ghn_init.predict(ConvNet(), tiny_ghn(), example_inputs=IMAGE))
    dist.destroy_process_group()


def built_by_transformers(rank: int, store: Path) -> None:
    deepspeed = start(rank, store)
    import transformers
    from transformers.integrations import HfDeepSpeedConfig

    config = transformers.BertConfig(**SMALL)
    plain = transformers.AutoModel.from_config(config)
    kept = HfDeepSpeedConfig(SETTINGS)  # while it lives, models are built in parts
    with pytest.raises(ghn_init.AssignError, match=r"deepspeed\.zero\.GatheredParameters"):
        transformers.AutoModel.from_config(config, ghn_init=tiny_ghn())
    model = transformers.AutoModel.from_config(config)
    del kept
    assert all(parameter.numel() == 0 for parameter in model.parameters())
    with deepspeed.zero.GatheredParameters(list(model.parameters()), modifier_rank=0):
        ghn_init.apply(model, tiny_ghn())
    now = whole(deepspeed, model)
    expected = ghn_init.predict(plain, tiny_ghn())
    assert all(torch.equal(now[name], value) for name, value in expected.items())
    dist.destroy_process_group()


@pytest.mark.parametrize("scenario", [built_in_parts, built_whole, built_by_transformers])
def test_a_model_under_zero3_is_initialised_and_trained(scenario, tmp_path):
    multiprocessing.spawn(scenario, (tmp_path / "store",), nprocs=WORLD)
