"""The record of a ranking under way: finished candidates outlive an interruption."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ghn_init.errors import ConfigError


class Progress:
    """Finished candidates, in memory and in a file of JSON lines.

    Raises:
        ConfigError: The file belongs to a ranking with other settings, or is none.
    """

    def __init__(self, path: Any, settings: Mapping[str, Any]) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._path = None if path is None else Path(path)
        if self._path is None:
            return
        if self._path.exists():
            self._read(self._path, settings)
        else:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"settings": settings}) + "\n", encoding="utf-8")

    def _read(self, path: Path, settings: Mapping[str, Any]) -> None:
        lines = path.read_text(encoding="utf-8").splitlines()
        try:
            before = json.loads(lines[0])["settings"]
            rows = [json.loads(line) for line in lines[1:-1]]
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{path} is not the record of a ranking ({error}): give another file"
            ) from error
        try:
            rows += [json.loads(line) for line in lines[1:][-1:]]
        except ValueError:  # the line that was being written when the run was cut off
            whole = "\n".join(lines[:-1]) + "\n"
            path.write_text(whole, encoding="utf-8")
        differing = [key for key in {*before, *settings} if before.get(key) != settings.get(key)]
        if differing:
            raise ConfigError(
                f"{path} belongs to a ranking with other settings ({', '.join(sorted(differing))}): give "
                "another file, or the same settings"
            )
        self.rows = {row["entry"]["name"]: row for row in rows}

    def add(self, row: dict[str, Any]) -> None:
        """Keep one finished candidate."""
        self.rows[row["entry"]["name"]] = row
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
