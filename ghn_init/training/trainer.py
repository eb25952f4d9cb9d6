"""The training loop: architectures in, a GHN that predicts their parameters out."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.errors import CheckpointError, DataError
from ghn_init.ghn import GHN, GHNConfig
from ghn_init.logging import progress_bar
from ghn_init.training.batches import Loader, Loss, as_batches, name_of, outputs
from ghn_init.training.checkpoint import copy_state, load_checkpoint, read_checkpoint, save_checkpoint
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData
from ghn_init.training.datasets import load_images
from ghn_init.training.inner import inner_gradients, with_norm_penalty
from ghn_init.training.log import StepLog, append, mean_row, rewind
from ghn_init.training.order import draw
from ghn_init.training.processes import Processes
from ghn_init.training.spaces import Space
from ghn_init.training.targets import FAILURES, TargetPool

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger("ghn_init")

LOG_EVERY = 10


class Trainer:
    """A run that can be stopped at any update and continued bit-exactly on the CPU.

    Args:
        config: The run.
        data: Training images, or a ``DataLoader`` or any other repeatable iterable of batches
            ``(inputs, targets)``; by default the images that the configuration names. See
            :class:`ghn_init.training.batches.LoaderBatches` for what a loader must be.
        folder: Where checkpoint and log go; None keeps nothing.
        accelerator: Device, mixed precision (bf16), trackers and processes of the run: each process takes its
            share of every meta-batch, and all make the same update, that of one process with the whole
            meta-batch. Default: this process alone, on the CPU in float32.
        loss: A network's outputs and the targets to a number.

    Raises:
        CheckpointError: The folder holds a damaged checkpoint, or one of another configuration.
        ConfigError: The number of the networks' outputs is not known, or not that of the classes.
        DataError: No usable images or batches.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: ImageData | Loader | None = None,
        folder: str | os.PathLike[str] | None = None,
        accelerator: Accelerator | None = None,
        *,
        loss: Loss = F.cross_entropy,
    ) -> None:
        self.config, self.loss = config, loss
        self.data = as_batches(data if data is not None else load_images(config.data, "train"), config)
        self.folder = None if folder is None else Path(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.ghn = GHN(GHNConfig.from_dict({**config.ghn, "num_classes": outputs(self.data, config)}))
        self.processes = Processes(accelerator)
        self.ghn.to(self.processes.device)
        fused = self.processes.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(
            self.ghn.parameters(), config.lr, weight_decay=config.weight_decay, fused=fused
        )
        self.average = copy_state(self.ghn.state_dict())
        space = Space(config.families, config.seed)
        self.pool, self._small = (
            TargetPool(space, self.ghn, config.pool, side, config.seed, self.data.example(side))
            for side in (config.image_size, config.small_size)
        )
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        self._resume()

    # ------------------------------------------------------------ one update

    def update(self) -> StepLog:
        """One update of the GHN."""
        config = self.config
        lr = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        before = self.skipped
        results = self._meta_batch()
        self.processes.sum_gradients(self.ghn)
        sums = [sum(values) for values in zip(*results, strict=True)] or [0.0] * 3
        count, skipped, *sums = self.processes.sum_numbers([len(results), self.skipped - before, *sums])
        self.skipped = before + round(skipped)
        norm = math.nan
        if count:
            norm = float(nn.utils.clip_grad_norm_(self.ghn.parameters(), config.clip))
            if math.isfinite(norm):
                self.optimizer.step()
                self._update_average()
            else:
                self.skipped += round(count)
                logger.warning("step %d: the GHN's gradient is not finite; update skipped", self.step)
        self.step += 1
        mean = [each / count if count else math.nan for each in sums]
        return StepLog(self.step, mean[0], mean[1], mean[2], lr, norm, self.skipped)

    def _meta_batch(self) -> list[tuple[float, float, float]]:
        """Accumulates the gradient; (first loss, last loss, accuracy) of each architecture that counts."""
        config = self.config
        start = self.step * config.meta_batch
        pool = self._small if self._is_small() else self.pool
        places = self.processes.own(range(config.meta_batch))
        indices = {place: self._architecture(start + place) for place in places}
        ready = {place: pool.get(index) for place, index in indices.items()}
        targets = {place: target for place, target in ready.items() if target is not None}
        self.skipped += len(ready) - len(targets)
        if not targets:
            return []
        with self.processes.autocast():
            predictions = self.ghn([target.graph for target in targets.values()])
        predictions = self.processes.in_full_precision(predictions)
        results: list[tuple[float, float, float]] = []
        tensors: list[Tensor] = []
        gradients: list[Tensor] = []
        for (place, target), predicted in zip(targets.items(), predictions, strict=True):
            batches = self._batches(start + place)
            try:
                with self.processes.autocast():
                    result = inner_gradients(target, predicted, batches, config.inner_lr, loss=self.loss)
            except DataError:
                raise
            except FAILURES as error:  # tracing allocates nothing and does not see every misfit
                self.skipped += 1
                pool.leave_out(indices[place], error)
                continue
            if result is None:
                self.skipped += 1
                logger.warning("step %d: %s is not finite; skipped", self.step, target.graph)
                continue
            pool.succeeded = True
            results.append((result.losses[0], result.losses[-1], result.accuracy))
            tensors += predicted.values()
            penalised = with_norm_penalty(result.gradients, predicted, config.norm_penalty)
            gradients += [gradient / config.meta_batch for gradient in penalised.values()]
        torch.autograd.backward(tensors, gradients)
        return results

    def _architecture(self, position: int) -> int:
        config = self.config
        if config.pool is None:
            return position
        in_use = min(config.pool, int(config.pool_start + config.pool_growth * self.step))
        return draw(in_use, config.seed, position)

    def _batches(self, position: int) -> list[tuple[Tensor, Tensor]]:
        steps = self.config.inner_steps
        side = self.config.small_size if self._is_small() else self.config.image_size
        return [self.processes.moved(batch) for batch in self.data.take(position * steps, steps, side)]

    def _is_small(self) -> bool:
        return self.step < self.config.small_share * self.config.steps

    def _learning_rate(self) -> float:
        config = self.config
        warm = min(1.0, (self.step + 1) / max(1, config.warmup))
        share = min(1.0, self.step / config.steps)
        cosine = config.final_lr + (1 - config.final_lr) * 0.5 * (1 + math.cos(math.pi * share))
        return config.lr * warm * cosine

    def _update_average(self) -> None:
        if not self.config.ema:
            return
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.ghn.state_dict().items():
                self.average[name].lerp_(value, 1 - decay)

    # ------------------------------------------------------------ the run

    def run(self, *, until: int | None = None, on_step: Callable[[StepLog], None] | None = None) -> GHN:
        """Trains to the end, or to update ``until``, and returns the averaged GHN.

        Args:
            until: Last update of this call.
            on_step: Called after each update.
        """
        last = self.config.steps if until is None else min(until, self.config.steps)
        show = None if self.processes.is_main else False
        self.processes.begin(self.config.to_dict())
        recent: deque[StepLog] = deque(maxlen=50)
        began = time.process_time() - self.seconds
        with progress_bar(total=last, initial=self.step, desc="training the GHN", show=show) as bar:
            while self.step < last:
                entry = self.update()
                recent.append(entry)
                bar.update()
                bar.set_postfix(loss=f"{entry.loss:.3f}", skipped=entry.skipped, refresh=False)
                if self.step % LOG_EVERY == 0:
                    self._log(recent, time.process_time() - began)
                if on_step is not None:
                    on_step(entry)
                if self.step % self.config.checkpoint_every == 0 or self.step == last:
                    self.save()
        self.seconds = time.process_time() - began
        self.processes.end()
        return self.averaged()

    def averaged(self) -> GHN:
        """A GHN with the moving average of the weights, in evaluation mode."""
        return _with_weights(self.ghn.config, self.average if self.config.ema else self.ghn.state_dict())

    def save(self) -> None:
        """Writes the checkpoint, in the first process; does nothing without a folder."""
        if self.folder is None:
            return
        if self.processes.is_main:
            self._save(self.folder)
        self.processes.meet()

    def _save(self, folder: Path) -> None:
        state = {
            "config": json.dumps(self.config.to_dict()),
            "step": self.step,
            "skipped": self.skipped,
            "num_classes": self.ghn.config.num_classes,
            "loss": name_of(self.loss),
            "ghn": self.ghn.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(folder, state)

    def _resume(self) -> None:
        state = None if self.folder is None else load_checkpoint(self.folder, self.config.to_dict())
        if state is None:
            return
        classes, trained = self.ghn.config.num_classes, state["num_classes"]
        if classes != trained:
            raise CheckpointError(
                f"{self.folder}: made with images of {trained} classes, {self.data.source} has {classes}; "
                "use another folder"
            )
        trained, named = state.get("loss", name_of(F.cross_entropy)), name_of(self.loss)
        if named != trained:
            raise CheckpointError(f"{self.folder}: made with loss {trained}, not {named}; use another folder")
        self.ghn.load_state_dict(state["ghn"])
        self.average = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.skipped = state["step"], state["skipped"]
        if self.folder is not None and self.processes.is_main:
            self.seconds = rewind(self.folder, self.step)
        logger.info("continuing at update %d of %d", self.step, self.config.steps)

    def _log(self, recent: deque[StepLog], seconds: float) -> None:
        row = mean_row(recent, seconds)
        self.processes.log(row, self.step)
        if self.folder is None or not self.processes.is_main:
            return
        append(self.folder, row)


def train(
    config: TrainConfig,
    folder: str | os.PathLike[str],
    data: ImageData | None = None,
    accelerator: Accelerator | None = None,
) -> GHN:
    """Trains a GHN, or continues the run in ``folder``, and returns it.

    The folder gets ``checkpoint.pt`` and ``log.jsonl``; ``ghn.save_pretrained`` writes the result.

    Args:
        config: The run.
        folder: Of the run.
        data: Training images; by default those that the configuration names.
        accelerator: See :class:`Trainer`.
    """
    return Trainer(config, data, folder, accelerator).run()


def load_run(folder: str | os.PathLike[str]) -> tuple[TrainConfig, GHN]:
    """Configuration and averaged GHN of a run's last checkpoint.

    Raises:
        CheckpointError: The checkpoint is missing or damaged.
    """
    state, saved = read_checkpoint(Path(folder))
    config = TrainConfig.from_dict(saved)
    ghn_config = GHNConfig.from_dict({**config.ghn, "num_classes": state["num_classes"]})
    return config, _with_weights(ghn_config, state["average"] if config.ema else state["ghn"])


def _with_weights(config: GHNConfig, weights: dict[str, Tensor]) -> GHN:
    with torch.random.fork_rng(devices=[]):  # its first weights are drawn
        ghn = GHN(config)
    ghn.load_state_dict(weights)
    return ghn.eval()
