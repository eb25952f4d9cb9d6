"""The record of a ranking under way: finished candidates outlive an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ghn_init.errors import ConfigError
from ghn_init.ghn import GHN


def fingerprint(ghn: GHN) -> str:
    """Digest of a GHN's numbers."""
    found = hashlib.sha256()
    for name, tensor in sorted(ghn.state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:12]


class Progress:
    """Finished candidates, in memory and in a file of JSON lines, which several processes may append to.

    Args:
        path: The file; None keeps nothing.
        settings: What the rows depend on.
        first: Whether this process begins a file that does not exist; all others must wait for it.

    Raises:
        ConfigError: The file belongs to a ranking with other settings, or is none.
    """

    def __init__(self, path: Any, settings: Mapping[str, Any], *, first: bool = True) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._path = None if path is None else Path(path)
        self._settings = dict(settings)
        if self._path is not None and first and not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps({"settings": self._settings}) + "\n", encoding="utf-8")

    def read(self) -> None:
        """Take over what the file holds; a line that was cut off while it was written is passed over."""
        if self._path is None:
            return
        text = self._path.read_text(encoding="utf-8")
        head, *lines = text.splitlines() or [""]
        try:
            before = dict(json.loads(head)["settings"])
        except (LookupError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{self._path} is not the record of a ranking ({error}): give another file"
            ) from error
        differing = [key for key in {*before, *self._settings} if before.get(key) != self._settings.get(key)]
        if differing:
            raise ConfigError(
                f"{self._path} belongs to a ranking with other settings ({', '.join(sorted(differing))}): "
                "give another file, or the same settings"
            )
        for line in lines:
            try:
                row = json.loads(line)
                self.rows[row["entry"]["name"]] = row
            except (LookupError, ValueError, TypeError):
                continue
        if not text.endswith("\n"):
            self._append("")

    def add(self, row: dict[str, Any], *, write: bool = True) -> None:
        """Keep one finished candidate; ``write=False`` where another process writes it to the file."""
        self.rows[row["entry"]["name"]] = row
        if write:
            self._append(json.dumps(row))

    def _append(self, line: str) -> None:
        if self._path is not None:
            with self._path.open(
                "ab", buffering=0
            ) as file:  # one write, so that lines of processes never mix
                file.write(line.encode() + b"\n")
