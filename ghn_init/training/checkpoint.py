"""Checkpoints of a training run: written whole or not at all, read without executing anything."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.training.config import TrainConfig

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(folder: Path, state: Mapping[str, Any]) -> Path:
    """Writes ``checkpoint.pt``; a crash at any moment leaves the old one or the new one.

    Raises:
        CheckpointError: The disk is full or the folder cannot be written.
    """
    path = folder / CHECKPOINT
    partial = folder / f".{CHECKPOINT}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        if partial.is_file():
            partial.unlink()
        raise CheckpointError(
            f"{path}: cannot be written, is the disk full? ({error}); the checkpoint before it is kept"
        ) from error
    return path


def load_checkpoint(folder: Path, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """Reads the checkpoint of a run, or None if there is none yet.

    Args:
        folder: The run's folder.
        config: The run's configuration; it must be the one that the checkpoint was made with, but for the
            number of steps and the checkpoint interval.

    Raises:
        CheckpointError: The file is damaged, or belongs to another configuration.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    state, saved = read_checkpoint(folder)
    saved = TrainConfig.from_dict(saved).to_dict()  # a field younger than the checkpoint had its default
    saved = json.loads(json.dumps(saved))
    wanted = json.loads(json.dumps(config))
    free = {"steps", "checkpoint_every"}
    changed = sorted(
        key for key in saved.keys() | wanted.keys() if key not in free and saved.get(key) != wanted.get(key)
    )
    if changed:
        raise CheckpointError(
            f"{path}: made with another configuration ({', '.join(changed)} differ); use another folder"
        )
    return state


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """State and configuration of the checkpoint of a run.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    path = folder / CHECKPOINT
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state, json.loads(state["config"])
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, TypeError, UnpicklingError) as error:
        raise CheckpointError(
            f"{path}: missing or damaged checkpoint ({error}); delete it to start over"
        ) from error


def copy_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detached copy of a state dict."""
    return {name: value.detach().clone() for name, value in state.items()}
