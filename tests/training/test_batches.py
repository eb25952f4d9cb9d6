"""Training on any loader with any loss."""

from __future__ import annotations

import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from ghn_init import CheckpointError, ConfigError, DataError
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import fashion_mnist
from ghn_init.training.families import FAMILIES, Family
from ghn_init.training.trainer import Trainer

GHN = {"hid": 16, "layers": 1, "max_shape": [16, 16, 3, 3], "encoder": "gated_gnn", "num_classes": 5}


def config(**changes: object) -> TrainConfig:
    small = {
        "ghn": GHN, "families": {"resnet": 1.0, "vit": 1.0}, "pool": 4, "pool_start": 2, "inner_steps": 2,
        "steps": 6, "warmup": 2, "checkpoint_every": 2, "image_size": 32,
    }  # fmt: skip
    return TrainConfig.from_dict({**small, **changes})


class Attributes(Dataset):
    """Real images, randomly shifted and mirrored, with five yes-or-no attributes of what they show."""

    TOP, SHOE, LONG, OPEN, WORN = {0, 2, 3, 4, 6}, {5, 7, 9}, {1, 3}, {5, 8}, set(range(10)) - {8}

    def __init__(self, images: int = 256) -> None:
        self.data = fashion_mnist("train", "bundled").head(images)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        inputs, labels = self.data.batch(slice(index, index + 1))
        shift = (random.randint(-2, 2), int(np.random.randint(-2, 3)))
        inputs = inputs[0].roll(shift, (1, 2)).contiguous()
        if torch.rand(()) < 0.5:
            inputs = inputs.flip(2)
        label = int(labels)
        groups = (self.TOP, self.SHOE, self.LONG, self.OPEN, self.WORN)
        return inputs, torch.tensor([float(label in group) for group in groups])


def attributes(images: int = 256, **options: object) -> DataLoader:
    return DataLoader(Attributes(images), **{"batch_size": 16, "shuffle": True, **options})  # type: ignore[arg-type]


def equal(left: Trainer, right: Trainer) -> bool:
    pairs = zip(left.ghn.state_dict().values(), right.ghn.state_dict().values(), strict=True)
    averages = zip(left.average.values(), right.average.values(), strict=True)
    return all(torch.equal(a, b) for a, b in [*pairs, *averages])


def test_several_labels_of_an_image_are_learned(tmp_path: Path):
    run = config(families={"resnet": 1.0}, pool=2, steps=80, inner_steps=2, lr=2e-3, warmup=5)
    trainer = Trainer(run, attributes(batch_size=16), loss=F.binary_cross_entropy_with_logits)
    assert trainer.ghn.config.num_classes == 5
    entries = []
    ghn = trainer.run(on_step=entries.append)
    losses = [entry.loss for entry in entries]
    assert median(losses[-20:]) < 0.9 * median(losses[:10])
    assert all(math.isnan(entry.accuracy) for entry in entries)
    ghn.save_pretrained(tmp_path / "ghn")


def test_numbers_are_predicted():
    data = fashion_mnist("train", "bundled").head(128)
    inputs, _ = data.batch(slice(0, 128))
    brightness = torch.stack([inputs.mean((1, 2, 3)), inputs.std((1, 2, 3))], 1)
    run = config(ghn={**GHN, "num_classes": 2}, steps=30, families={"resnet": 1.0}, pool=2, lr=2e-3, warmup=5)
    losses: list[float] = []
    trainer = Trainer(run, DataLoader(TensorDataset(inputs, brightness), 32, shuffle=True), loss=nn.MSELoss())
    trainer.run(on_step=lambda entry: losses.append(entry.loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


@pytest.mark.parametrize(
    "options",
    [{}, {"num_workers": 1}, {"generator": torch.Generator()}],
    ids=["plain", "worker", "generator"],
)
def test_a_run_on_a_loader_continues_bit_exactly_in_the_middle_of_an_epoch(tmp_path: Path, options: dict):
    loss = F.binary_cross_entropy_with_logits
    parts = Trainer(config(), attributes(64, **options), tmp_path, loss=loss)
    parts.run(until=3)  # six batches: the second epoch of four has begun
    parts.save()
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)  # the caller's generators play no part
    resumed = Trainer(config(), attributes(64, **options), tmp_path, loss=loss)
    assert resumed.step == 3
    resumed.run()
    whole = Trainer(config(), attributes(64, **options), loss=loss)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    whole.run()
    after = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]
    assert equal(resumed, whole)
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_killed_run_on_a_loader_continues_bit_exactly(tmp_path: Path):
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_batches import F, Trainer, attributes, config\n"
        "loss = F.binary_cross_entropy_with_logits\n"
        "trainer = Trainer(config(steps=500), attributes(64), sys.argv[1], loss=loss)\n"
        "trainer.run(on_step=lambda entry: print(entry.step, flush=True))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 3:
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    loss, threads = F.binary_cross_entropy_with_logits, torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = Trainer(config(steps=500), attributes(64), tmp_path, loss=loss)
        until = resumed.step + 3
        assert resumed.step >= 2  # the last checkpoint before the signal
        resumed.run(until=until)
        whole = Trainer(config(steps=500), attributes(64), loss=loss)
        whole.run(until=until)
    finally:
        torch.set_num_threads(threads)
    assert equal(resumed, whole)


def test_epochs_are_shuffled_anew_and_depend_on_the_seed():
    seen = []
    for seed in (0, 0, 1):
        trainer = Trainer(config(seed=seed), attributes(32), loss=F.binary_cross_entropy_with_logits)
        seen.append([inputs.sum().item() for inputs, _ in trainer.data.take(0, 4, 32)])
    assert seen[0] == seen[1]
    assert set(seen[0]).isdisjoint(seen[2])
    assert set(seen[0][:2]).isdisjoint(seen[0][2:])


class Endless(IterableDataset):
    """Batches of two classes from a stream that does not tell its length."""

    def __iter__(self):
        for _ in range(3):
            inputs = torch.randn(8, 3, 32, 32)
            yield inputs, (inputs.mean((1, 2, 3)) > 0).long()


def test_a_stream_without_a_length_and_a_list_of_batches_do():
    two = config(ghn={**GHN, "num_classes": 2})
    assert math.isfinite(Trainer(two, DataLoader(Endless(), batch_size=None)).update().accuracy)
    trainer = Trainer(two, list(Endless()))
    trainer.run(until=4)
    assert trainer.step == 4
    again = trainer.data.take(1, 1, 32)[0][0]
    assert torch.equal(again, trainer.data.take(4, 1, 32)[0][0])  # the second epoch of three


def test_networks_of_other_inputs_are_trained(monkeypatch: pytest.MonkeyPatch):
    def build(args, classes: int, side: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(2, args["width"], 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
            nn.Linear(args["width"], classes),
        )  # fmt: skip

    monkeypatch.setitem(FAMILIES, "signals", Family(lambda rng: {"width": rng.randint(4, 400)}, build))
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 2, 40, generator=generator)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0].mean(1) > 0).long()), 16, shuffle=True)
    trainer = Trainer(config(ghn={**GHN, "num_classes": 2}, families={"signals": 1.0}), loader)
    assert math.isfinite(trainer.update().loss)
    with pytest.raises(ConfigError, match="small_share needs images"):
        Trainer(config(small_share=0.5), loader)


def test_the_first_updates_may_see_small_images():
    loss = F.binary_cross_entropy_with_logits
    trainer = Trainer(config(small_share=0.5, small_size=16, steps=4), attributes(64), loss=loss)
    assert trainer.update().skipped == 0
    assert trainer.data.take(0, 1, 16)[0][0].shape == (16, 3, 16, 16)


def pairs(inputs: torch.Tensor, targets: torch.Tensor | None = None) -> DataLoader:
    targets = torch.zeros(len(inputs), dtype=torch.long) if targets is None else targets
    return DataLoader(TensorDataset(inputs, targets), 8)


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (pairs(torch.zeros(16, 3, 28, 28)), DataError, "28x28 pixels.*image_size is 32"),
        ([], DataError, "no batch in epoch 0"),
        ([torch.zeros(8, 3, 32, 32)], DataError, "expected batches"),
        ([{"inputs": torch.zeros(8, 3, 32, 32)}], DataError, "expected batches"),
        (iter([]), DataError, "an iterator ends for good"),
    ],
    ids=["size", "empty", "no-targets", "mapping", "iterator"],
)
def test_loaders_of_another_form_are_refused(loader, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Trainer(config(), loader)


def test_the_number_of_outputs_must_be_known():
    nameless = config(ghn={key: value for key, value in GHN.items() if key != "num_classes"})
    with pytest.raises(ConfigError, match="set num_classes"):
        Trainer(nameless, attributes())
    with pytest.raises(ConfigError, match="has 10 classes, the configuration's ghn 5"):
        Trainer(config(), fashion_mnist("train", "bundled"))


def test_images_of_other_channels_end_the_run_with_the_reason():
    trainer = Trainer(config(pool=2), pairs(torch.zeros(16, 1, 32, 32)))
    with pytest.raises(DataError, match=r"none of the first 2 architectures.*\(2, 1, 32, 32\)"):
        trainer.run()


def test_targets_that_the_loss_does_not_take_are_told():
    wrong = pairs(torch.randn(16, 3, 32, 32), torch.full((16,), 7))
    with pytest.raises(DataError, match=r"outputs \(8, 5\) and targets torch.int64 \(8,\) from 7 to 7"):
        Trainer(config(), wrong).update()
    with pytest.raises(DataError, match="not one number"):
        Trainer(config(), attributes(), loss=nn.BCEWithLogitsLoss(reduction="none")).update()


def test_a_run_does_not_continue_with_another_loss(tmp_path: Path):
    Trainer(config(), attributes(), tmp_path, loss=F.binary_cross_entropy_with_logits).run(until=2)
    with pytest.raises(CheckpointError, match="made with loss binary_cross_entropy_with_logits, not MSELoss"):
        Trainer(config(), attributes(), tmp_path, loss=nn.MSELoss())
