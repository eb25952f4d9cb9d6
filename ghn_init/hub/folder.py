"""The folder format of a GHN: ``config.json``, ``model.safetensors`` and ``README.md``.

The configuration is written twice, in ``config.json`` for people and in the header of ``model.safetensors``,
so that the weights file alone is enough.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.hub.weights_file import read_tensors, write_tensors

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"

FORMAT_KEY = "ghn_init_format"
FORMAT_VERSION = 1

REQUIRED_KEYS = (
    "primitives",
    "hid",
    "layers",
    "heads",
    "num_classes",
    "max_shape",
    "encoder",
    "decoder",
    "virtual_edges",
    "layernorm",
    "weight_norm",
    "kernel_crop",
    "class_layer",
    "graph_convention",
)
"""Keys of format 1. Most cannot be told from the weights' shapes, so none is filled in by a default."""

FLOATING = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
"""Types of the weights of a GHN."""

_MAX_CONFIG_BYTES = 1 << 20


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and state dict of a GHN folder; the weights are memory-mapped.

    Raises:
        CheckpointError: a file is missing, truncated or not what its name says.
    """
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{folder} has no {name}: a GHN folder holds {CONFIG_FILE} and {WEIGHTS_FILE}, as "
                "save_pretrained writes them. For a single weights file pass the file's own path."
            )
    config = parse_config(folder / CONFIG_FILE, folder / CONFIG_FILE)
    header, state = read_tensors(folder / WEIGHTS_FILE)
    if "config" in header and parse_config(header["config"], folder / WEIGHTS_FILE) != config:
        raise CheckpointError(
            f"{folder / CONFIG_FILE} and the header of {WEIGHTS_FILE} beside it disagree: one of them was "
            f"edited, or a save was cut short. Save again, or load {folder / WEIGHTS_FILE} itself, which "
            "uses its header."
        )
    return config, state


def read_weights_file(
    path: Path, config_path: Path | None = None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and state dict of one ``.safetensors`` file.

    The configuration comes from the file's header, else from ``config_path`` (a ``config.json`` beside it).
    """
    header, state = read_tensors(path)
    if "config" in header:
        return parse_config(header["config"], f"the header of {path}"), state
    if config_path is not None and config_path.is_file():
        return parse_config(config_path, config_path), state
    raise CheckpointError(
        f"{path} holds no GHN configuration: its header has no 'config' entry and there is no {CONFIG_FILE} "
        "beside it. Save GHNs with save_pretrained, which writes both."
    )


def parse_config(source: Path | str, where: object) -> dict[str, Any]:
    """The configuration dictionary in JSON text (or in a file), without the format marker."""
    try:
        if isinstance(source, Path):
            if source.stat().st_size > _MAX_CONFIG_BYTES:
                raise CheckpointError(
                    f"{where} is larger than {_MAX_CONFIG_BYTES} bytes: not a configuration."
                )
            source = source.read_text(encoding="utf-8")
        config = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{where} holds a JSON {type(config).__name__}, not an object.")
    version = config.pop(FORMAT_KEY, FORMAT_VERSION)
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{where} is in format {version!r} and this ghn_init reads format {FORMAT_VERSION}: "
            "upgrade ghn_init (pip install -U ghn-init)."
        )
    return config


def write_folder(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], card: str | None = None
) -> None:
    """Write a GHN folder; every file is complete before the first one gets its name.

    An existing card is kept unless ``card`` is given. Files that are memory-mapped by a loaded GHN stay
    valid.
    """
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{folder} is a file: save_pretrained needs a folder.")
    text = config_json(config)
    staged: dict[Path, Path] = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if card is not None:
            staged[folder / CARD_FILE] = _stage(folder, lambda path: path.write_text(card, encoding="utf-8"))
        staged[folder / CONFIG_FILE] = _stage(folder, lambda path: path.write_text(text, encoding="utf-8"))
        staged[folder / WEIGHTS_FILE] = _stage(folder, lambda path: write_weights_file(path, config, state))
        for target, temporary in staged.items():
            temporary.replace(target)
    except OSError as error:
        raise CheckpointError(f"could not save to {folder}: {error}") from error
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)


def config_json(config: Mapping[str, Any]) -> str:
    """The text of ``config.json``."""
    return json.dumps({FORMAT_KEY: FORMAT_VERSION, **config}, indent=2) + "\n"


def write_weights_file(path: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """One ``.safetensors`` file, configuration in its header; tensors that share memory are written twice.

    The configuration is the only header entry, as safetensors writes several in random order, and equal GHNs
    are to give equal files.
    """
    header = json.dumps({FORMAT_KEY: FORMAT_VERSION, **config})
    write_tensors(path, state, {"config": header})


def require_finite(state: Mapping[str, Tensor], where: object) -> None:
    """Raise CheckpointError at the first tensor without values, quantised, or with a NaN or an infinity."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.dtype not in FLOATING:
            raise CheckpointError(
                f"{where}: {name} has dtype {tensor.dtype}; the weights of a GHN are float64, float32, "
                "bfloat16 or float16. Save it in one of them."
            )
        if tensor.is_meta:
            raise CheckpointError(f"{where}: {name} is on the meta device and holds no values.")
        if tensor.is_floating_point() and not _all_finite(tensor):
            bad = int((~torch.isfinite(tensor)).sum())
            raise CheckpointError(
                f"{where}: {name} has {bad} NaN or infinite values of {tensor.numel()}. The file is damaged "
                "or its training diverged; a GHN that is not finite predicts nothing usable. Use another "
                "checkpoint."
            )


def _all_finite(tensor: Tensor) -> bool:
    """One pass without a temporary tensor: NaN and infinities show in the extremes."""
    if not tensor.numel():
        return True
    low, high = torch.aminmax(tensor)
    return bool(torch.isfinite(low)) and bool(torch.isfinite(high))


def _stage(folder: Path, write: Callable[[Path], object]) -> Path:
    """A new temporary file in ``folder``, written by ``write``, on disk, with the user's permissions."""
    temporary = folder / f".saving-{secrets.token_hex(8)}"
    temporary.touch(exist_ok=False)
    mode = temporary.stat().st_mode
    try:
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that only their owner can read
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary
