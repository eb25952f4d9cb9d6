"""Models spread over gloo processes: every rank holds its part of the bits of a single process."""

from __future__ import annotations

import copy
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from states import IMAGE, ConvNet, TiedNet, tiny_ghn
from torch import Tensor, multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.utils import parametrizations

import ghn_init
from ghn_init import AssignError
from ghn_init.assign import bind, write

pytestmark = pytest.mark.skipif(not dist.is_available() or not dist.is_gloo_available(), reason="needs gloo")
GHN = tiny_ghn()
TOKENS = torch.zeros(1, 4, dtype=torch.long)
SCENARIOS: dict[str, Callable[[], None]] = {}


def scenario(function: Callable[[], None]) -> Callable[[], None]:
    SCENARIOS[function.__name__] = function
    return function


def on_each_rank(rank: int, world: int, names: list[str], store: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    try:
        for name in names:
            torch.manual_seed(rank)
            try:
                SCENARIOS[name]()
            except Exception as error:
                raise AssertionError(f"scenario {name} on rank {rank} of {world}") from error
            dist.barrier()
    finally:
        dist.destroy_process_group()


def sharded(model: nn.Module, **options: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    if hasattr(model, "conv"):
        fully_shard(model.conv, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


RUNS_SHARDED = hasattr(torch.cpu.Stream, "record_event")
"""Whether this torch runs a ``fully_shard`` model on a CPU: 2.6 shards it and fails in its forward."""


def trained(model: nn.Module, inputs: Tensor) -> None:
    if RUNS_SHARDED:
        model(inputs).sum().backward()


def check(model: nn.Module, expected: dict[str, Tensor]) -> None:
    named = dict(model.named_parameters())
    assert expected.keys() <= named.keys()
    for name, value in expected.items():
        assert torch.equal(whole(named[name]), value.to(named[name].dtype)), name


def predicted(model: nn.Module, inputs: Tensor = IMAGE) -> dict[str, Tensor]:
    return ghn_init.predict(model, GHN, example_inputs=inputs)


class Local:
    """This rank's bits of a model, to be compared after a fault."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.values = {name: self._part(p).clone() for name, p in model.named_parameters()}

    def unchanged(self) -> bool:
        now = dict(self.model.named_parameters())
        return all(torch.equal(self._part(now[name]), value) for name, value in self.values.items())

    @staticmethod
    def _part(tensor: Tensor) -> Tensor:
        return tensor.detach().to_local() if hasattr(tensor, "to_local") else tensor.detach()


@scenario
def data_parallel() -> None:
    model = ConvNet()
    wrapped = nn.parallel.DistributedDataParallel(model)
    ghn_init.apply(wrapped, GHN, example_inputs=IMAGE)
    check(model, predicted(ConvNet()))
    wrapped(torch.randn(2, 3, 8, 8)).sum().backward()


@scenario
def fully_sharded() -> None:
    model = sharded(ConvNet())
    optimiser = torch.optim.AdamW(model.parameters())
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert not report.skipped
    assert not report.kept
    check(model, predicted(ConvNet()))
    trained(model, torch.randn(2, 3, 8, 8))
    optimiser.step()


@scenario
def fully_sharded_after_a_forward_that_left_it_whole() -> None:
    if not RUNS_SHARDED:
        return
    model = sharded(ConvNet()).eval()
    model(IMAGE)
    assert not hasattr(model.stem.weight, "full_tensor")
    ghn_init.apply(model, GHN, example_inputs=IMAGE)
    plain = ConvNet().eval()
    ghn_init.apply(plain, GHN, example_inputs=IMAGE)
    image = torch.ones(2, 3, 8, 8)
    assert torch.equal(model(image), plain(image))
    model.reshard()
    check(model, predicted(ConvNet()))


class Tokens(nn.Module):
    """Layers whose widths no number of ranks divides, some with fewer rows than ranks."""

    def __init__(self, hidden: int = 30) -> None:
        super().__init__()
        self.embed, self.up, self.down = nn.Embedding(12, 16), nn.Linear(16, hidden), nn.Linear(hidden, 16)
        self.narrow, self.norm, self.head = nn.Linear(16, 1), nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.norm(self.down(self.up(self.embed(tokens)).relu()))
        return self.head(x * self.narrow(x).sigmoid())


@scenario
def fully_sharded_in_mixed_precision() -> None:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    model = sharded(Tokens().bfloat16(), mp_policy=MixedPrecisionPolicy(torch.bfloat16, torch.float32))
    ghn_init.apply(model, GHN, example_inputs=TOKENS)
    check(model, predicted(Tokens(), TOKENS))
    trained(model, TOKENS)


@scenario
def what_a_rank_holds_nothing_of_is_not_decoded() -> None:
    model = sharded(Tokens())
    binding = bind(model, predicted(Tokens(), TOKENS))
    # One row: rank 0 holds it.
    assert ("narrow.weight" in binding.elsewhere) == (dist.get_rank() > 0)
    report = ghn_init.apply(model, GHN, example_inputs=TOKENS)
    assert "narrow.weight" in report.predicted
    check(model, predicted(Tokens(), TOKENS))


@scenario
def fully_sharded_on_meta() -> None:
    with torch.device("meta"):
        model = ConvNet()
    sharded(model)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE, head="keep", materialize=True)
    assert set(report.kept) == {"head.weight", "head.bias"}
    check(model, {name: value for name, value in predicted(ConvNet()).items() if name not in report.kept})
    assert not any(tensor.is_meta for tensor in model.state_dict().values())
    kept = whole(model.head.weight)
    assert 0 < kept.abs().max() <= 1 / 8**0.5
    every = [torch.empty_like(kept) for _ in range(dist.get_world_size())]
    dist.all_gather(every, kept)
    assert all(torch.equal(each, kept) for each in every)
    optimiser = torch.optim.AdamW(model.parameters())
    trained(model, torch.randn(2, 3, 8, 8))
    optimiser.step()


@scenario
def fully_sharded_on_meta_with_nothing_on_some_ranks() -> None:
    with torch.device("meta"):
        model = Tokens()
    sharded(model)
    ghn_init.apply(model, GHN, example_inputs=TOKENS, materialize=True)
    check(model, predicted(Tokens(), TOKENS))
    trained(model, TOKENS)


@scenario
def fully_sharded_after_to_empty() -> None:
    with torch.device("meta"):
        model = ConvNet()
    sharded(model).to_empty(device="cpu")
    ghn_init.apply(model, GHN, example_inputs=IMAGE)
    check(model, predicted(ConvNet()))


@scenario
def fully_sharded_and_tied() -> None:
    model = sharded(TiedNet())
    report = ghn_init.apply(model, GHN, example_inputs=TOKENS)
    plain = TiedNet()
    assert report.tied == ghn_init.apply(plain, GHN, example_inputs=TOKENS).tied
    check(model, dict(plain.named_parameters()))
    assert model.out.weight is model.embed.weight


@scenario
def fully_sharded_and_parametrised() -> None:
    hooks = [nn.utils.weight_norm, nn.utils.spectral_norm]
    for wrap in [parametrizations.weight_norm, parametrizations.spectral_norm, *hooks]:
        # Power iterations end where they began to converge: both models must begin alike.
        torch.manual_seed(0)
        plain = ConvNet()
        model = copy.deepcopy(plain)
        for each in (plain, model):
            torch.manual_seed(0)
            wrap(each.conv)
        sharded(model)
        notes = ghn_init.apply(plain, GHN, example_inputs=IMAGE).notes
        assert ghn_init.apply(model, GHN, example_inputs=IMAGE).notes == notes
        check(
            model, {n: p for n, p in plain.named_parameters() if not n.startswith(("stem", "norm", "head"))}
        )
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, plain.get_buffer(name)), name
        trained(model, torch.randn(2, 3, 8, 8))


@scenario
def tensor_parallel() -> None:
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor import parallel as tp

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    model = Tokens()
    plan = {
        "embed": tp.RowwiseParallel(input_layouts=Replicate()),
        "up": tp.ColwiseParallel(),
        "down": tp.RowwiseParallel(output_layouts=Shard(1)),
        "norm": tp.SequenceParallel(use_local_output=False),
        "narrow": tp.PrepareModuleInput(input_layouts=Shard(1), desired_input_layouts=Replicate()),
    }
    tp.parallelize_module(model, mesh, plan)
    report = ghn_init.apply(model, GHN, example_inputs=TOKENS)
    assert not report.kept
    assert not report.skipped
    check(model, predicted(Tokens(), TOKENS))
    assert model.up.weight.to_local().shape[0] < 30


@scenario
def two_dimensions() -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import parallel as tp

    if dist.get_world_size() < 4:
        return
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    hidden = 30 if RUNS_SHARDED else 32  # torch 2.6 divides no uneven width twice
    model = Tokens(hidden)
    tp.parallelize_module(model, mesh["tp"], {"up": tp.ColwiseParallel(), "down": tp.RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])
    ghn_init.apply(model, GHN, example_inputs=TOKENS)
    check(model, predicted(Tokens(hidden), TOKENS))
    trained(model, TOKENS)


@scenario
def an_interrupt_between_groups() -> None:
    model = sharded(ConvNet())
    local = Local(model)

    def interrupted():
        yield {name: torch.ones(parameter.shape) for name, parameter in model.named_parameters()}
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(model, interrupted())
    assert local.unchanged()


@scenario
def an_error_on_one_rank_puts_every_rank_back() -> None:
    for model in (sharded(ConvNet()), nn.parallel.DistributedDataParallel(ConvNet())):
        local = Local(model)
        last = dist.get_rank() == dist.get_world_size() - 1
        expected = ghn_init.GHNInitError if last else AssignError
        with pytest.raises(expected, match="no-such" if last else "failed, so what this rank had written"):
            ghn_init.apply(model, "./no-such-folder" if last else GHN, example_inputs=IMAGE)
        assert local.unchanged()


@scenario
def ranks_with_different_ghns_are_refused() -> None:
    model = sharded(ConvNet())
    local = Local(model)
    with pytest.raises(AssignError, match="would not write one model"):
        ghn_init.apply(model, tiny_ghn(seed=dist.get_rank()), example_inputs=IMAGE)
    assert local.unchanged()


@scenario
def a_plain_model_is_written_by_one_rank_alone() -> None:
    model = ConvNet()
    if dist.get_rank() == 0:
        ghn_init.apply(model, GHN, example_inputs=IMAGE)
        check(model, predicted(ConvNet()))


def transformers_tensor_parallel() -> None:
    import transformers
    from transformers.distributed import DistributedConfig

    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=64,
    )  # fmt: skip
    torch.manual_seed(0)
    plain = transformers.AutoModelForCausalLM.from_config(config)
    folder = [str(Path.cwd() / "llama")]
    if dist.get_rank() == 0:
        plain.save_pretrained(folder[0])
    dist.broadcast_object_list(folder)
    spread = DistributedConfig(tp_plan="auto", tp_size=dist.get_world_size())
    model = transformers.AutoModelForCausalLM.from_pretrained(folder[0], distributed_config=spread)
    assert any(hasattr(parameter, "to_local") for parameter in model.parameters())
    report, expected = ghn_init.apply(model, GHN), ghn_init.apply(plain, GHN)
    assert report.predicted.keys() == expected.predicted.keys()
    check(model, dict(plain.named_parameters()))


def a_rank_that_never_comes() -> None:
    from ghn_init.assigning import agreement

    model = sharded(ConvNet())
    local = Local(model)
    dist.barrier()
    if dist.get_rank() == 0:
        agreement.WAIT_SECONDS = 1.0
        with pytest.raises(AssignError, match="did not all finish"):
            ghn_init.apply(model, GHN, example_inputs=IMAGE)
        assert local.unchanged()
    else:
        time.sleep(6)
    # The group is broken now: leaving it in order would wait for it.
    os._exit(0)


def test_models_sharded_over_two_processes_have_the_bits_of_one(tmp_path):
    names = [each.__name__ for each in (data_parallel, fully_sharded, fully_sharded_on_meta, tensor_parallel)]
    names.append(an_error_on_one_rank_puts_every_rank_back.__name__)
    multiprocessing.spawn(on_each_rank, (2, names, tmp_path / "store"), nprocs=2)


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_all_scenarios(world, tmp_path):
    multiprocessing.spawn(on_each_rank, (world, list(SCENARIOS), tmp_path / "store"), nprocs=world)


def alone(rank: int, function: Callable[[], None], store: Path) -> None:
    SCENARIOS[function.__name__] = function
    on_each_rank(rank, 2, [function.__name__], store)


@pytest.mark.slow
def test_transformers_tensor_parallel(tmp_path, monkeypatch):
    pytest.importorskip("transformers.distributed")
    monkeypatch.chdir(tmp_path)
    multiprocessing.spawn(alone, (transformers_tensor_parallel, tmp_path / "store"), nprocs=2)


@pytest.mark.slow
def test_a_rank_that_never_comes_is_an_error_after_a_limit(tmp_path):
    multiprocessing.spawn(alone, (a_rank_that_never_comes, tmp_path / "store"), nprocs=2)


@pytest.mark.slow
def test_what_is_left_out_changes_no_bit_of_the_rest():
    from torchvision.models import mobilenet_v3_small

    graph = ghn_init.trace(mobilenet_v3_small())
    every = GHN.predict(graph)
    for start in range(3):
        skip = set(list(every)[start::3])
        part = GHN.predict(graph, skip=skip)
        assert part.keys() == every.keys() - skip
        assert all(torch.equal(value, every[name]) for name, value in part.items())
