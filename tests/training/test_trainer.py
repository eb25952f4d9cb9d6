"""The training loop on the bundled images."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from ghn_init import CheckpointError, ConfigError, DataError
from ghn_init.training.checkpoint import CHECKPOINT
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.families import FAMILIES, Family
from ghn_init.training.inner import inner_gradients, with_norm_penalty
from ghn_init.training.log import LOG, append, rewind
from ghn_init.training.trainer import Trainer

GHN = {"hid": 16, "layers": 1, "max_shape": [16, 16, 3, 3], "encoder": "gated_gnn"}


def config(**changes: object) -> TrainConfig:
    small = {
        "ghn": GHN, "families": {"resnet": 1.0, "vit": 1.0}, "pool": 4, "pool_start": 2, "batch_size": 8,
        "inner_steps": 2, "steps": 6, "warmup": 2, "checkpoint_every": 2, "image_size": 32,
    }  # fmt: skip
    return TrainConfig.from_dict({**small, **changes})


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("train", "bundled")


def states_equal(left: Trainer, right: Trainer) -> bool:
    pairs = zip(left.ghn.state_dict().values(), right.ghn.state_dict().values(), strict=True)
    averages = zip(left.average.values(), right.average.values(), strict=True)
    return all(torch.equal(a, b) for a, b in [*pairs, *averages])


def test_a_run_repeats_itself_and_changes_every_part_of_the_ghn(images):
    first, second = Trainer(config(), images), Trainer(config(), images)
    start = copy.deepcopy(first.ghn.state_dict())
    first.run()
    torch.manual_seed(123)  # the global state of the caller plays no part
    second.run()
    assert states_equal(first, second)
    moved = {name for name, value in first.ghn.state_dict().items() if not torch.equal(value, start[name])}
    assert moved == set(start)


def test_a_killed_run_continues_bit_exactly(tmp_path: Path, images):
    code = (
        "import json, sys\n"
        "from ghn_init.training.config import TrainConfig\n"
        "from ghn_init.training.data import fashion_mnist\n"
        "from ghn_init.training.trainer import Trainer\n"
        "config = TrainConfig.from_dict(json.loads(sys.argv[1]))\n"
        "trainer = Trainer(config, fashion_mnist('train', 'bundled'), sys.argv[2])\n"
        "trainer.run(on_step=lambda entry: print(entry.step, flush=True))\n"
    )
    long = config(steps=500)
    command = [sys.executable, "-c", code, json.dumps(long.to_dict()), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 3:
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed, whole = Trainer(long, images, tmp_path), Trainer(long, images)
        until = resumed.step + 3
        assert resumed.step >= 2  # the last checkpoint before the signal
        resumed.run(until=until)
        whole.run(until=until)
    finally:
        torch.set_num_threads(threads)
    assert states_equal(resumed, whole)
    rows = (
        [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
        if (tmp_path / LOG).exists()
        else []
    )
    assert all(math.isfinite(row["loss"]) for row in rows)


def test_a_meta_batch_is_the_mean_over_its_architectures(images):
    together = Trainer(config(meta_batch=2), images)
    together.ghn.zero_grad()
    together._meta_batch()
    joint = [parameter.grad.clone() for parameter in together.ghn.parameters()]
    together.ghn.zero_grad()
    for place in range(2):
        target = together.pool.get(together._architecture(place))
        assert target is not None
        predicted = together.ghn(target.graph)
        result = inner_gradients(target, predicted, together._batches(place), together.config.inner_lr)
        assert result is not None
        gradients = [gradient / 2 for gradient in result.gradients.values()]
        torch.autograd.backward(list(predicted.values()), gradients)
    for one, parameter in zip(joint, together.ghn.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-3, atol=1e-6)


def test_one_inner_step_is_the_plain_gradient(images):
    trainer = Trainer(config(inner_steps=1), images)
    target = trainer.pool.get(0)
    assert target is not None
    predicted = trainer.ghn(target.graph)
    batches = trainer._batches(0)
    result = inner_gradients(target, predicted, batches, lr=0.1, clip=math.inf)
    assert result is not None
    loss = torch.nn.functional.cross_entropy(target(predicted, batches[0][0]), batches[0][1])
    expected = torch.autograd.grad(loss, list(predicted.values()))
    for found, wanted in zip(result.gradients.values(), expected, strict=True):
        torch.testing.assert_close(found, wanted)
    assert result.losses == [pytest.approx(float(loss.detach()))]


def test_the_norm_penalty_is_that_of_the_sum_of_norms_and_shrinks_predictions(images):
    plain, penalised = Trainer(config(), images), Trainer(config(norm_penalty=0.5), images)
    target = plain.pool.get(0)
    assert target is not None
    predicted = plain.ghn(target.graph)
    result = inner_gradients(target, predicted, plain._batches(0), plain.config.inner_lr)
    assert result is not None
    leaves = {name: value.detach().requires_grad_() for name, value in predicted.items()}
    penalty = 0.5 * torch.stack([value.norm() for value in leaves.values()]).sum()
    expected = torch.autograd.grad(penalty, list(leaves.values()))
    found = with_norm_penalty(result.gradients, predicted, 0.5)
    for name, gradient in zip(leaves, expected, strict=True):
        torch.testing.assert_close(found[name] - result.gradients[name], gradient, rtol=1e-4, atol=1e-6)
    sizes = []
    for trainer in (plain, penalised):
        trainer.run()
        predicted = trainer.ghn(target.graph)
        sizes.append(sum(float(value.norm().detach()) for value in predicted.values()))
    assert sizes[1] < sizes[0]


def test_an_architecture_that_gives_nan_is_skipped_and_counted(images):
    trainer = Trainer(config(pool=1, pool_start=1), images)
    target = trainer.pool.get(0)
    assert target is not None
    before = copy.deepcopy(trainer.ghn.state_dict())
    forward = type(target.module).forward
    target.module.forward = lambda x: forward(target.module, x) * math.nan  # type: ignore[method-assign]
    entry = trainer.update()
    assert entry.skipped == 1
    assert math.isnan(entry.loss)
    assert all(torch.equal(value, before[name]) for name, value in trainer.ghn.state_dict().items())
    del target.module.forward
    assert math.isfinite(trainer.update().loss)


def test_an_architecture_that_does_not_fit_the_images_is_skipped_and_counted(images):
    trainer = Trainer(config(families={"convnext": 1.0}, image_size=16), images)
    assert trainer.update().skipped == 1
    assert "convnext" in next(iter(trainer.pool.failed.values()))


def test_an_architecture_that_fails_only_when_it_runs_is_skipped_and_counted(images, monkeypatch):
    broken = []

    class Net(nn.Sequential):
        def forward(self, input):
            if broken:
                raise RuntimeError("no such kernel on this device")
            return super().forward(input)

    def build(args, classes, side):
        return Net(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    monkeypatch.setitem(FAMILIES, "fails", Family(lambda rng: {"draw": rng.random()}, build))
    trainer = Trainer(config(families={"fails": 1.0}), images)
    assert all(trainer.pool.get(index) for index in range(4))
    broken.append(True)
    assert [trainer.update().skipped, trainer.update().skipped] == [1, 2]
    assert "no such kernel" in next(iter(trainer.pool.failed.values()))


def test_the_first_updates_may_see_small_images(images):
    trainer = Trainer(config(small_share=0.5, steps=4, small_size=16), images)
    sides = []
    for _ in range(4):
        inputs = trainer._batches(0)[0][0]
        assert inputs.is_contiguous(memory_format=torch.channels_last)
        sides.append(inputs.shape[-1])
        assert math.isfinite(trainer.update().loss)
    assert sides == [16, 16, 32, 32]


def test_an_endless_space_gives_a_new_architecture_at_each_update(images):
    trainer = Trainer(config(pool=None, steps=3, inner_steps=1), images)
    assert [trainer._architecture(position) for position in range(3)] == [0, 1, 2]
    trainer.run()
    assert trainer.step == 3
    assert trainer.skipped == 0


def test_a_short_training_lowers_the_loss(images):
    trainer = Trainer(
        config(families={"resnet": 1.0}, pool=2, batch_size=32, inner_steps=3, steps=60, lr=2e-3, warmup=5),
        images,
    )
    losses: list[float] = []
    trainer.run(on_step=lambda entry: losses.append(entry.loss))
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 0.1


def test_checkpoints_of_another_run_and_damaged_ones_are_refused(tmp_path: Path, images):
    Trainer(config(), images, tmp_path).run(until=2)
    with pytest.raises(CheckpointError, match="lr differ"):
        Trainer(config(lr=5e-3), images, tmp_path)
    assert Trainer(config(steps=9), images, tmp_path).step == 2  # a run may be made longer
    fewer = ImageData(images.images, images.labels % 5, images.classes[:5], "five classes")
    with pytest.raises(CheckpointError, match="10 classes, five classes has 5"):
        Trainer(config(), fewer, tmp_path)
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer(config(), images, tmp_path)


def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(tmp_path: Path, images):
    trainer = Trainer(config(), images, tmp_path)
    trainer.run(until=2)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / f".{CHECKPOINT}.partial").mkdir()
    with pytest.raises(CheckpointError, match="cannot be written"):
        trainer.save()
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_a_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on_from_it(tmp_path: Path, images):
    code = (
        "import json, resource, sys\n"
        "from ghn_init import CheckpointError\n"
        "from ghn_init.training.config import TrainConfig\n"
        "from ghn_init.training.data import fashion_mnist\n"
        "from ghn_init.training.trainer import Trainer\n"
        "config = TrainConfig.from_dict(json.loads(sys.argv[1]))\n"
        "trainer = Trainer(config, fashion_mnist('train', 'bundled'), sys.argv[2])\n"
        "trainer.run(until=2)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    trainer.run()\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, json.dumps(config().to_dict()), str(tmp_path)]
    told = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ).stdout
    assert "cannot be written" in told
    assert "the checkpoint before it is kept" in told
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]  # nothing half-written is left
    resumed = Trainer(config(), images, tmp_path)
    assert resumed.step == 2
    assert math.isfinite(resumed.update().loss)


def test_the_log_of_a_stopped_run_goes_on_at_its_checkpoint(tmp_path: Path):
    for step in (10, 20, 30):
        append(tmp_path, {"step": step, "cpu_seconds": step / 2})
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 40, "cpu_')
    assert rewind(tmp_path, 25) == 10.0
    append(tmp_path, {"step": 30, "cpu_seconds": 16.0})
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30]
    (tmp_path / LOG).unlink()
    (tmp_path / LOG).mkdir()
    with pytest.raises(CheckpointError, match="can go on from its last checkpoint"):
        append(tmp_path, {"step": 40})


@pytest.mark.parametrize(
    "failure", [KeyError("width"), ZeroDivisionError("groups"), TypeError("no such argument")]
)
def test_whatever_a_family_raises_is_a_counted_skip(failure: Exception, images, monkeypatch):
    def build(args, classes, side):
        if args["fails"]:
            raise failure
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    drawn = Family(lambda rng: {"draw": rng.random(), "fails": rng.random() < 0.5}, build)
    monkeypatch.setitem(FAMILIES, "some", drawn)
    trainer = Trainer(config(families={"some": 1.0}, pool=None, steps=8), images)
    trainer.run()
    failed = sum(trainer.pool._space[index].args["fails"] for index in range(8))
    assert trainer.skipped == len(trainer.pool.failed) == failed
    assert 0 < failed < 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be positive"),
        ({"lr": math.nan}, "lr must be positive"),
        ({"ema": 1.0}, "ema must be in"),
        ({"norm_penalty": -1.0}, "norm_penalty must not be negative"),
        ({"small_share": 2}, "small_share must be in"),
        ({"pool": 1, "meta_batch": 2}, "smaller than the meta-batch"),
        ({"epochs": 3}, "unknown keys"),
        ({"families": {"rnn": 1.0}}, "unknown families"),
    ],
)
def test_configurations_that_make_no_sense_are_refused(changes: dict[str, object], message: str, images):
    with pytest.raises(ConfigError, match=message):
        Trainer(config(**changes), images)


def test_too_few_images_for_a_batch_are_refused(images):
    with pytest.raises(DataError, match="fewer than one batch"):
        Trainer(config(), images.head(4))
