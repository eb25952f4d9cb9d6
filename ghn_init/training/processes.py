"""Where a run happens: this process alone, or the processes and the device of an Accelerate launch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ghn_init.errors import ConfigError

if TYPE_CHECKING:
    from accelerate import Accelerator

RUN = "ghn_init"


class Processes:
    """The processes that share the architectures of each meta-batch.

    Args:
        accelerator: Of the launch; None for one process on the CPU in float32, which needs no Accelerate.

    Raises:
        ConfigError: The accelerator's mixed precision needs a scaled loss (fp16, fp8).
    """

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        if accelerator is not None and accelerator.mixed_precision not in ("no", "bf16"):
            raise ConfigError(
                f"mixed precision {accelerator.mixed_precision!r} needs a scaled loss, which inner steps "
                "have none of: use 'bf16' or 'no'"
            )
        self._accelerator = accelerator

    @property
    def device(self) -> torch.device:
        """Where the GHN and the target networks are."""
        return torch.device("cpu") if self._accelerator is None else self._accelerator.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, logs and progress."""
        return self._accelerator is None or self._accelerator.is_main_process

    def own(self, places: Sequence[int]) -> list[int]:
        """The places of a meta-batch that are this process's."""
        if self._accelerator is None:
            return list(places)
        return list(places[self._accelerator.process_index :: self._accelerator.num_processes])

    def autocast(self) -> AbstractContextManager[None]:
        """The mixed precision of the launch."""
        return nullcontext() if self._accelerator is None else self._accelerator.autocast()

    def in_full_precision(self, predictions: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
        """Predictions in float32, as parameters are kept in mixed precision."""
        if self._accelerator is None or self._accelerator.mixed_precision == "no":
            return predictions
        return [{name: value.float() for name, value in each.items()} for each in predictions]

    def sum_gradients(self, module: nn.Module) -> None:
        """Gives every process the sum of all processes' gradients; one that has none counts as zero."""
        if self._accelerator is None or self._accelerator.num_processes == 1:
            return
        parameters = list(module.parameters())
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total: Any = self._accelerator.reduce(torch.cat([each.flatten() for each in own]), "sum")
        for parameter, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.reshape(parameter.shape).clone()

    def sum_numbers(self, numbers: Iterable[float]) -> list[float]:
        """Sums over the processes."""
        listed = list(numbers)
        if self._accelerator is None or self._accelerator.num_processes == 1:
            return listed
        total: Any = self._accelerator.reduce(torch.tensor(listed, dtype=torch.float64), "sum")
        return total.tolist()

    def moved(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A batch on the device."""
        images, labels = batch
        return images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def begin(self, config: Mapping[str, Any]) -> None:
        """Opens the accelerator's trackers (``log_with=``), if it has any."""
        if self._accelerator is not None and self._accelerator.log_with:
            plain = {key: str(v) if isinstance(v, dict | list) else v for key, v in config.items()}
            self._accelerator.init_trackers(RUN, {key: v for key, v in plain.items() if v is not None})

    def log(self, row: Mapping[str, float], step: int) -> None:
        """Sends numbers to the trackers."""
        if self._accelerator is not None and self._accelerator.log_with:
            self._accelerator.log(dict(row), step=step)

    def end(self) -> None:
        """Closes the trackers."""
        if self._accelerator is not None and self._accelerator.log_with:
            self._accelerator.end_training()

    def meet(self) -> None:
        """Waits for the other processes."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
