"""The table of tested versions in CONTRIBUTING.md, from results of the tests in environments of their own.

    python benchmarks/versions.py record minimum-3.10 JUNIT.xml ...    # with the Python that ran these tests
    python benchmarks/versions.py table                                # write the table

``nox -s minimum newest`` does both.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "versions.json"
PAGE = ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- results: versions -->", "<!-- end of results -->"
PACKAGES = ("torch", "torchvision", "timm", "transformers", "huggingface-hub", "accelerate", "numpy")
COUNTS = ("tests", "failures", "errors", "skipped")


def record(name: str, files: list[str]) -> None:
    """Keep what the tests gave in this environment."""
    counts = dict.fromkeys(COUNTS, 0)
    modules: set[str] = set()
    for file in files:
        for suite in ElementTree.parse(file).getroot().iter("testsuite"):
            for count in COUNTS:
                counts[count] += int(suite.get(count, "0"))
            modules |= {str(case.get("classname")) for case in suite.iter("testcase")}
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows[name] = {
        "python": platform.python_version(),
        **{package: _version(package) for package in PACKAGES},
        **counts,
        "files": len(modules),
        "commit": commit.stdout.strip(),
    }
    RESULTS.write_text(json.dumps(dict(sorted(rows.items())), indent=1) + "\n", encoding="utf-8")


def _version(package: str) -> str:
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "-"


def table() -> str:
    """The rows as Markdown."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    head = ["", *rows]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for package in ("python", *PACKAGES):
        lines.append("| " + " | ".join([package, *(row[package] for row in rows.values())]) + " |")
    passed = [f"{r['tests'] - r['failures'] - r['errors'] - r['skipped']:,}" for r in rows.values()]
    lines.append("| " + " | ".join(["**tests passed**", *passed]) + " |")
    for name, count in (
        ("failed", ("failures", "errors")),
        ("skipped", ("skipped",)),
        ("test files", ("files",)),
    ):
        lines.append(
            "| " + " | ".join([name, *(str(sum(r[c] for c in count)) for r in rows.values())]) + " |"
        )
    lines.append("| " + " | ".join(["commit", *(row["commit"] for row in rows.values())]) + " |")
    return "\n".join(lines)


def write() -> None:
    """Write the table into the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(sys.argv[2], sys.argv[3:])
    write()
