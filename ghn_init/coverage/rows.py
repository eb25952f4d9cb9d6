"""Rows of results on disk: appended one by one, so that a run that is killed loses none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def is_available(row: Row) -> bool:
    """Whether the model of a row can exist here."""
    return "unavailable" not in row


def succeeded(row: Row) -> bool:
    """Whether a row tells of a model that was initialised and whose graph is sane."""
    return is_available(row) and not ("error" in row or "problems" in row)


def program_of(row: Row) -> str:
    """The program of a row's model; the model's own name where it is not known."""
    return row.get("program", row["model"])


def programs_that_agree(rows: Iterable[Row]) -> set[str]:
    """The programs of rows whose data flow agrees with that of ``torch.export``."""
    return {row["program"] for row in rows if "program" in row and row.get("export") == "agrees"}


class Results:
    """The rows of one suite, a JSON object a line in ``FOLDER/SUITE.jsonl``; of equal names the last counts.

    Args:
        folder: Where the file is or will be.
        suite: Name of the suite.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self.path = folder / f"{suite}.jsonl"
        self.rows = self._read()

    def add(self, row: Row) -> None:
        """Append a row; it is in the file when this returns."""
        self.rows[row["model"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(_line(row))
            file.flush()
            os.fsync(file.fileno())

    def compact(self, keep: Iterable[str] | None = None) -> None:
        """Rewrite the file: one row a model, sorted by name, no remains of an interrupted write.

        Args:
            keep: The models that there are; rows of others are dropped. By default none is.
        """
        if not self.path.exists():
            return
        with _lock(self.path.parent):
            self.rows = self._read()
            if keep is not None:
                known = set(keep)
                self.rows = {name: row for name, row in self.rows.items() if name in known}
            self.rows = dict(sorted(self.rows.items()))
            partial = self.path.with_suffix(".partial")
            partial.write_text("".join(map(_line, self.rows.values())), encoding="utf-8")
            partial.replace(self.path)

    def _read(self) -> dict[str, Row]:
        if not self.path.exists():
            return {}
        rows: dict[str, Row] = {}
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # cut short when the process was killed
                continue
            rows[row["model"]] = row
        return rows


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, separators=(",", ":"), ensure_ascii=False) + "\n"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Only one process at a time, where the system has such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
