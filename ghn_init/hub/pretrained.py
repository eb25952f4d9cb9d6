"""From an id or path to a built GHN: locate the files, read them, fill a module built on the meta device."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ghn_init.errors import CheckpointError, ConfigError, GHNInitError
from ghn_init.hub.convert import convert, is_original
from ghn_init.hub.folder import (
    CARD_FILE,
    CONFIG_FILE,
    FLOATING,
    REQUIRED_KEYS,
    WEIGHTS_FILE,
    read_folder,
    read_weights_file,
    require_finite,
)
from ghn_init.hub.legacy import read_legacy
from ghn_init.hub.weights_file import ALIGNMENT

M = TypeVar("M", bound=nn.Module)

_LISTED = 6
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class PretrainedFiles:
    """Where the files of one GHN are.

    Attributes:
        path: a folder with ``config.json`` and ``model.safetensors``, or a single weights file.
        source: what the user named, for messages and for ``ghn.source``.
        commit: commit hash, for files of the Hub.
    """

    path: Path
    source: str
    commit: str | None = None


def locate(
    id_or_path: str | os.PathLike[str],
    *,
    filename: str | None = None,
    subfolder: str | None = None,
    **hub: Any,
) -> PretrainedFiles:
    """The files of a GHN: local if ``id_or_path`` exists on disk, else of the Hub repository of that id.

    Raises:
        CheckpointError: a local path that does not hold the file.
        HubError: the Hub could not give the files.
    """
    text = os.fspath(id_or_path)
    path = Path(text).expanduser()
    if os.path.exists(path):  # unlike Path.exists, False for what is too long for a path
        return _locate_local(path, text, filename, subfolder)
    if _looks_local(text, id_or_path):
        raise CheckpointError(
            f"{text} does not exist. Give a folder written by save_pretrained, a checkpoint file, or a Hub "
            "id such as 'user/name'."
        )
    from ghn_init.hub.client import download

    root, commit = download(text, filename=filename, subfolder=subfolder, **hub)
    source = text if filename is None else f"{text}:{filename}"
    return PretrainedFiles(root, source, commit)


def read_card(files: PretrainedFiles) -> str | None:
    """The model card beside the weights; None where there is none that can be read."""
    path = files.path / CARD_FILE
    if not files.path.is_dir() or not path.is_file() or path.stat().st_size > _MAX_CARD_BYTES:
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def read(files: PretrainedFiles) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration dictionary and state dict, in this library's layout, of located files.

    Raises:
        CheckpointError: the file is damaged, unsafe, or of a layout that is not a GHN's.
    """
    if files.path.is_dir():
        config, state = read_folder(files.path)
    elif files.path.suffix == ".safetensors":
        config, state = read_weights_file(files.path, files.path.with_name(CONFIG_FILE))
        if is_original(state):
            config, state = convert(state, config, where=files.source)
    else:
        checkpoint = read_legacy(files.path)
        config, state = convert(checkpoint.state_dict, checkpoint.config, where=files.source)
    missing = [key for key in REQUIRED_KEYS if key not in config]
    if missing:
        raise CheckpointError(
            f"{files.source}: its configuration lacks {', '.join(missing)}. No default is guessed: the "
            "weights mean something else under another setting. Save the GHN again with save_pretrained."
        )
    return config, state


def build(
    cls: type[M],
    config: Any,
    state: dict[str, Tensor],
    where: str,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | int | None = None,
) -> M:
    """``cls(config)`` holding the tensors of ``state``; no random initial value is ever drawn.

    ``state`` is emptied, so that no tensor is held twice.

    Raises:
        CheckpointError: names or shapes differ from what the configuration asks for, or a value is not
            finite.
        ConfigError: ``dtype`` is none that a GHN computes in.
    """
    if dtype is not None and dtype not in FLOATING:
        raise ConfigError(f"a GHN computes in one of {[str(each) for each in FLOATING]}, not in {dtype!r}")
    module = _skeleton(cls, config, where)
    require_fit({name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, state, where)
    whole = [f"{name} ({tensor.dtype})" for name, tensor in state.items() if not tensor.is_floating_point()]
    if whole:
        raise CheckpointError(f"{where}: weights that are no floating-point numbers: {_first(whole)}")
    placed = {}
    for name in list(state):
        # One after the other: what a map has read, and is then copied, is free before the next one is read.
        require_finite({name: state[name]}, where)
        placed[name] = _place(state.pop(name), dtype, device)
    module.load_state_dict(placed, strict=True, assign=True)
    _require_real(module, where)
    return module


def require_fit(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError, naming tensors and shapes, unless ``state`` is exactly what is expected."""
    missing = [name for name in expected if name not in state]
    unexpected = [name for name in state if name not in expected]
    wrong = [
        f"{name} is {tuple(tensor.shape)} in the file and {expected[name]} by the configuration"
        for name, tensor in state.items()
        if name in expected and tuple(tensor.shape) != expected[name]
    ]
    problems = [
        f"{title}: {_first(items)}"
        for title, items in (
            ("missing tensors", missing),
            ("unknown tensors", unexpected),
            ("wrong shapes", wrong),
        )
        if items
    ]
    if problems:
        raise CheckpointError(
            f"{where}: the weights do not fit the configuration; " + "; ".join(problems) + ". "
            "The configuration and the weights are of different GHNs, or one of them was edited."
        )


def _skeleton(cls: type[M], config: Any, where: str) -> M:
    try:
        with torch.device("meta"):
            return cls(config)
    except (RuntimeError, OverflowError, TypeError) as error:
        if isinstance(error, GHNInitError):
            raise
        raise CheckpointError(f"{where}: its configuration cannot be built ({error}): {config}") from error


def _locate_local(path: Path, source: str, filename: str | None, subfolder: str | None) -> PretrainedFiles:
    if path.is_file():
        if filename is not None or subfolder is not None:
            raise CheckpointError(
                f"{source} is a file: filename and subfolder belong to folders and Hub ids."
            )
        return PretrainedFiles(path, source)
    if subfolder is not None:
        path = path / subfolder
    if filename is None or filename == WEIGHTS_FILE:
        return PretrainedFiles(path, source)
    if not (path / filename).is_file():
        raise CheckpointError(f"{path} has no file {filename}.")
    return PretrainedFiles(path / filename, source)


def _looks_local(text: str, given: object) -> bool:
    """Whether a path that does not exist was meant as a path: it cannot be a Hub id ('user/name')."""
    if not isinstance(given, str):
        return True
    return (
        text.startswith((".", "~", os.sep))
        or os.path.isabs(text)
        or text.count("/") > 1
        or (os.altsep == "/" and "\\" in text)
    )


def _place(tensor: Tensor, dtype: torch.dtype | None, device: Any) -> Tensor:
    """``tensor`` in its type and place, at an aligned address.

    CPU kernels choose their code path, and with it the last bit of a sum, by the alignment of their operands;
    a file that another library wrote aligns to 8 bytes, so that the same GHN would predict other bits than
    one just trained.
    """
    if tensor.is_floating_point() and dtype is not None:
        tensor = tensor.to(dtype)
    if device is not None:
        tensor = tensor.to(device)
    return tensor.clone() if tensor.data_ptr() % ALIGNMENT else tensor


def _require_real(module: nn.Module, where: str) -> None:
    """A non-persistent buffer would stay on the meta device: the class must build those from plain values."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_meta:
            raise CheckpointError(f"{where}: {name} is not stored in the file and was not built.")


def _first(items: list[str]) -> str:
    more = len(items) - _LISTED
    return ", ".join(items[:_LISTED]) + (f" and {more} more" if more > 0 else "")
