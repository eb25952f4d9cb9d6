"""What ``ghn-init train``, ``evaluate`` and ``card`` do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ghn_init.default import resolve_ghn
from ghn_init.errors import ConfigError
from ghn_init.extras import needed
from ghn_init.ghn import GHN
from ghn_init.hub.card import model_card
from ghn_init.training.comparison import Comparison, choose_and_report, development
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import ImageData, Split
from ghn_init.training.datasets import load_images
from ghn_init.training.families import FAMILIES
from ghn_init.training.floor import set_floor
from ghn_init.training.inits import REFERENCES
from ghn_init.training.log import LOG
from ghn_init.training.presets import load_preset
from ghn_init.training.report import evaluation_table, training_section
from ghn_init.training.spaces import Architecture, held_out
from ghn_init.training.summary import plot, table
from ghn_init.training.trainer import load_run, train

if TYPE_CHECKING:
    from accelerate import Accelerator

_LAUNCHED = ("ACCELERATE_MIXED_PRECISION", "WORLD_SIZE")
ROWS, TABLE, FIGURE = "rows.jsonl", "table.md", "figure.png"


def train_run(
    config: str, folder: Path, data: str | None = None, steps: int | None = None, tracker: str | None = None
) -> GHN:
    """Trains a GHN, or continues the run in ``folder``; the GHN lies in ``folder/ghn`` at the end.

    Under ``accelerate launch``, or with a GPU, the run is Accelerate's: its processes share each meta-batch.

    Args:
        config: Preset or JSON file.
        folder: Of the run.
        data: Images by name, in place of the configuration's.
        steps: Updates, in place of the configuration's.
        tracker: Of Accelerate (``tensorboard``); it writes into ``folder``.

    Raises:
        ConfigError: Configuration or tracker is unknown, or the tracker's library is missing.
    """
    chosen: TrainConfig = load_preset(config)
    if data is not None:
        chosen = replace(chosen, data=data)
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    accelerator = _accelerator(tracker, folder)
    ghn = train(chosen, folder, accelerator=accelerator)
    if accelerator is None or accelerator.is_main_process:
        set_floor(ghn, chosen)
        ghn.save_pretrained(folder / "ghn")
    return ghn


def _accelerator(tracker: str | None, folder: Path) -> Accelerator | None:
    if (
        tracker is None
        and not torch.cuda.is_available()
        and not any(name in os.environ for name in _LAUNCHED)
    ):
        return None
    with needed("train", "training on devices, in several processes or with a tracker"):
        from accelerate import Accelerator
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    if tracker is not None and tracker not in map(str, get_available_trackers()):
        raise ConfigError(
            f"tracker {tracker!r} is unknown or its library is not installed; Accelerate knows "
            f"{', '.join(sorted(LOGGER_TYPE_TO_CLASS))} (tensorboard: pip install tensorboardX)"
        )
    return Accelerator(log_with=tracker, project_dir=folder)


def zero_shot_table(name: str, data: str | None = None, images: int = 2000, networks: int = 40) -> str:
    """Markdown: accuracy of a GHN's bare predictions on held-out networks.

    Args:
        name: Of the GHN.
        data: Images by name.
        images: Test images.
        networks: Held-out networks of the cell space, and a quarter of it of each other family.
    """
    torch.manual_seed(0)
    return evaluation_table(resolve_ghn(name), _images(data, "test", images), networks)


def compare_inits(
    name: str,
    comparison: Comparison,
    folder: Path,
    data: str | None = None,
    *,
    images: int = 10_000,
    test_images: int = 1000,
    networks: int = 20,
    chosen_on: int = 4,
    families: Sequence[str] = (),
) -> str:
    """Trains networks from several initialisations; Markdown of what came out, and in ``folder`` a figure.

    Learning rates are chosen on development networks, accuracies are those of held-out ones. The same call
    continues a comparison that was stopped.

    Args:
        name: Of the GHN.
        comparison: What to compare.
        folder: Gets ``rows.jsonl``, ``table.md`` and ``figure.png``.
        data: Images by name.
        images: Training images; the default makes 156 updates of 64 images an epoch.
        test_images: Images that accuracy is measured on.
        networks: Held-out networks of the cell space, and a quarter of it of each other family.
        chosen_on: The same for development networks.
        families: Those to draw from; default: all.

    Raises:
        ConfigError: A family is unknown, or no initialisation is a reference to compare with.
    """
    references = [init for init in comparison.inits if init in REFERENCES]
    if not references:
        raise ConfigError(
            f"inits has nothing to compare {', '.join(comparison.inits)} with: add one of "
            f"{', '.join(REFERENCES)}"
        )
    if unknown := sorted(set(families) - set(FAMILIES)):
        raise ConfigError(f"unknown families {unknown}; known: {', '.join(FAMILIES)}")
    drawn: dict[str, Architecture] = {}
    choosing: dict[str, Architecture] = {}
    for family in families or FAMILIES:
        share = 1 if family == "cells" else 4
        for index, each in enumerate(held_out(family, max(1, networks // share))):
            drawn[f"{family}/held-out {index}"] = each
        choosing |= development(family, range(max(1, chosen_on // share)))
    folder.mkdir(parents=True, exist_ok=True)
    ghn = resolve_ghn(name)
    fit, test = _images(data, "train", images), _images(data, "test", test_images)
    rows = choose_and_report(comparison, choosing, drawn, ghn, fit, test, folder / ROWS)
    text = table(rows, references)
    (folder / TABLE).write_text(text + "\n", encoding="utf-8")
    plot(rows, folder / FIGURE, references)
    return text


def save_with_card(
    folder: Path, target: Path, command: str, data: str | None = None, images: int = 2000, networks: int = 40
) -> None:
    """Evaluates the GHN of a run and saves it with its model card.

    Args:
        folder: Of the run.
        target: Folder to save the GHN in.
        command: What made the run, for the card.
        data: Images by name, in place of the run's.
        images: Test images.
        networks: As for :func:`zero_shot_table`.
    """
    torch.manual_seed(0)
    config, ghn = load_run(folder)
    set_floor(ghn, config)
    sections = {
        "Training": training_section(config, command, folder / LOG),
        "Evaluation": evaluation_table(ghn, _images(data or config.data, "test", images), networks),
    }
    count = sum(parameter.numel() for parameter in ghn.parameters())
    text = model_card(ghn.config.to_dict(), count, str(target), licence="apache-2.0", sections=sections)
    ghn.save_pretrained(target, card=text)


def _images(name: str | None, split: Split, count: int) -> ImageData:
    return load_images(name or "fashion-mnist", split).head(count)
