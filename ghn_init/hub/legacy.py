"""Checkpoints of the original authors: joblib files (ghn3) and torch files (ppuda, ghn3's trainer).

Nothing in such a file is executed: see :mod:`ghn_init.hub.pickles`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.hub.pickles.joblib_file import joblib_tokens
from ghn_init.hub.pickles.machine import PickleMachine
from ghn_init.hub.pickles.stream import open_stream
from ghn_init.hub.pickles.tensors import Namespace, NumpyArray, TensorView
from ghn_init.hub.pickles.torch_file import LEGACY_MAGIC, ZIP_MAGIC, read_legacy_body, read_zip

_MAX_DEPTH = 16
_MAX_VALUES = 4096


@dataclass(frozen=True)
class LegacyCheckpoint:
    """What an original checkpoint holds.

    Attributes:
        state_dict: tensors under the original names.
        config: the original constructor's arguments; None when the file holds only a state dict.
    """

    state_dict: dict[str, Tensor]
    config: dict[str, Any] | None


def read_legacy(path: Path) -> LegacyCheckpoint:
    """Read a joblib or torch checkpoint without executing anything in it.

    Raises:
        CheckpointError: the file is missing, truncated, malformed, or names anything but tensors and plain
            values.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    with _opened(path) as content:
        if not isinstance(content, dict):
            raise CheckpointError(f"{path} holds a {type(content).__name__}, not a state dict.")
        state, config = content, None
        if "state_dict" in content:
            state, config = content["state_dict"], content.get("config")
        return LegacyCheckpoint(_tensors(state, path), _config(config, path))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """The object in the file; its tensors can be made while the context lasts."""
    where, size = str(path), path.stat().st_size
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic == ZIP_MAGIC:
            yield read_zip(file, size, where)
            return
        stream = open_stream(file, size, where)
        first = PickleMachine(stream, joblib_tokens(where)).run()
        content = read_legacy_body(stream) if first == LEGACY_MAGIC else first
        stream.finish()
        yield content


def _tensors(state: Any, path: Path) -> dict[str, Tensor]:
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no state dict with tensors.")
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, (TensorView, NumpyArray)):
            raise CheckpointError(
                f"{path}: entry {name!r} is a {type(value).__name__}, not a tensor: this is no GHN's state "
                "dict."
            )
        try:
            tensors[name] = value.tensor()
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise CheckpointError(f"{path}: tensor {name} cannot be read: {error}") from error
    return tensors


def _config(config: Any, path: Path) -> dict[str, Any] | None:
    if config is None:
        return None
    if isinstance(config, Namespace):
        config = config.values
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: its configuration is a {type(config).__name__}, not a dictionary.")
    budget = [_MAX_VALUES]
    return {str(key): _plain(value, path, budget, _MAX_DEPTH) for key, value in config.items()}


def _plain(value: Any, path: Path, budget: list[int], depth: int) -> Any:
    """``value`` if it is made of plain Python values only, within the budget of values and the depth."""
    budget[0] -= 1
    if budget[0] < 0 or depth < 0:
        raise CheckpointError(f"{path}: its configuration is too large or too deep: damaged or hostile.")
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item, path, budget, depth - 1) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, path, budget, depth - 1) for key, item in value.items()}
    raise CheckpointError(f"{path}: its configuration holds a {type(value).__name__}, not plain values.")
