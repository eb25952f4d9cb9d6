"""Python blocks of the documentation: found, run, and their printed output held or written.

    python tests/doc_blocks.py docs/concepts.md     # runs the page and writes what its blocks print

A comment in front of a fence says what is special about it::

    <!-- not run: reason -->       only compiled
    <!-- needs: package -->        run where the package is installed
    <!-- printed -->               a text fence behind a Python fence: exactly what that block prints
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>not run|needs): (?P<why>.+?) -->\n)?"
    r"^```python[^\n]*\n(?P<code>.*?)^```\n"
    r"(?:\n?<!-- printed -->\n```text\n(?P<printed>.*?)^```\n)?",
    re.M | re.S,
)

RUNNER = """
import contextlib, io, json, os, sys
blocks, target = json.load(open(sys.argv[1])), sys.argv[2]
space, printed = {"__name__": "__main__"}, []
for page, line, code in blocks:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        # a block keeps its line numbers, so that a failure points into the page
        exec(compile("\\n" * (line - 1) + code, page, "exec"), space)
    printed.append(out.getvalue())
json.dump(printed, open(target, "w"))
"""


class Block(NamedTuple):
    """One Python fence of a page.

    Attributes:
        line: Number of its first line of code.
        code: The text.
        runs: Whether it is run here.
        printed: What the page says that it prints; None if it does not say.
        span: Where that text lies in the page.
    """

    line: int
    code: str
    runs: bool
    printed: str | None
    span: tuple[int, int]


def blocks(page: Path) -> list[Block]:
    """All Python blocks of a page, each of which compiles."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start("code")) + 1
        compile(match["code"], f"{page.name}:{line}", "exec")
        missing = match["mark"] == "needs" and importlib.util.find_spec(match["why"]) is None
        runs = match["mark"] != "not run" and not missing
        found.append(Block(line, match["code"], runs, match["printed"], match.span("printed")))
    return found


def run(page: Path, folder: Path) -> list[tuple[Block, str]]:
    """Run a page's blocks in order, in one namespace of a process of its own.

    Args:
        page: A page.
        folder: Working directory of the process.

    Returns:
        Each block that ran, and what it printed.

    Raises:
        AssertionError: A block failed.
    """
    wanted = [block for block in blocks(page) if block.runs]
    with tempfile.TemporaryDirectory() as place:
        script, told = Path(place, "blocks.json"), Path(place, "printed.json")
        script.write_text(json.dumps([(str(page), block.line, block.code) for block in wanted]))
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(script), str(told)],
            cwd=folder,
            env={**os.environ, "GHN_INIT_DEFAULT": "bundled", "HF_HUB_OFFLINE": "1", "COLUMNS": "100"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return list(zip(wanted, json.loads(told.read_text()), strict=True))


def write(page: Path) -> None:
    """Replace the printed outputs of a page by what its blocks print now."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = run(page, Path(folder))
    text = page.read_text(encoding="utf-8")
    for block, printed in reversed(outputs):
        if block.printed is not None:
            text = text[: block.span[0]] + printed + text[block.span[1] :]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write(Path(name).resolve())
