"""Training runs by name: JSON files beside this one."""

from __future__ import annotations

import json
from pathlib import Path

from ghn_init.errors import ConfigError
from ghn_init.training.config import TrainConfig

_FOLDER = Path(__file__).resolve().parent


def preset_names() -> list[str]:
    """Names that :func:`load_preset` takes."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def load_preset(name: str) -> TrainConfig:
    """The run of a preset, or of a JSON file.

    Raises:
        ConfigError: There is neither, or the file is not the JSON form of a :class:`TrainConfig`.
    """
    path = _FOLDER / f"{name}.json" if name in preset_names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"{name!r} is neither a preset ({', '.join(preset_names())}) nor a JSON file")
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: expected a JSON object of TrainConfig fields, got {type(data).__name__}")
    return TrainConfig.from_dict(data)
