"""Fill the results in docs/trust.md and docs/large_models.md from the files in benchmarks/results.

pytest tests/test_state_table.py tests/test_states.py tests/test_interrupts.py --junitxml states.xml
python benchmarks/fuzz_models.py --examples 10000 --seed 1 --log fuzz.jsonl
python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4 --out benchmarks/results/sharded.jsonl
python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4 --budget 1.2 \\
    --out benchmarks/results/sharded_budget.jsonl
python benchmarks/trust_page.py --states states.xml --fuzz fuzz.jsonl --commit "$(git rev-parse --short HEAD)"
python benchmarks/trust_page.py            # writes the pages again from the results that are there
python benchmarks/trust_page.py --check    # fails if a page is not current
"""

from __future__ import annotations

import argparse
import json
import platform
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end of results -->)", re.DOTALL)
FILES = {
    "states": "tests/test_states",
    "table": "tests/test_state_table",
    "interrupts": "tests/test_interrupts",
}
TITLES = {
    "table": "states of a model, one row each, and the `Trainer`",
    "states": "other states, and what is around a model",
    "interrupts": "interrupts",
}


def summary_of_tests(report: Path) -> dict[str, Any]:
    """Of a JUnit file: passed, skipped and failed tests of each file, and why tests were skipped."""
    counts = {name: Counter(passed=0, skipped=0, failed=0) for name in TITLES}
    reasons: Counter[str] = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        place = case.get("classname", "").replace(".", "/")
        name = next(name for name, file in FILES.items() if place == file)
        skipped = case.find("skipped")
        broken = case.find("failure") is not None or case.find("error") is not None
        counts[name]["failed" if broken else "passed" if skipped is None else "skipped"] += 1
        if skipped is not None:
            reasons[skipped.get("message", "")] += 1
    return {"tests": counts, "skipped_because": reasons}


def summary_of_fuzzing(log: Path) -> dict[str, Any]:
    """Counts of outcomes in a log of benchmarks/fuzz_models.py."""
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    (seed,) = {row["seed"] for row in rows}
    if sorted(row["index"] for row in rows) != list(range(len(rows))):
        raise SystemExit(f"{log}: some examples are missing or there twice")
    return {
        "command": f"python benchmarks/fuzz_models.py --examples {len(rows)} --seed {seed} --log fuzz.jsonl",
        "seed": seed,
        "models": len(rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows).most_common()),
    }


def keep(name: str, summary: dict[str, Any], commit: str, note: str) -> None:
    """Write a summary with the versions that it belongs to."""
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    text = json.dumps(summary | {"commit": commit, "versions": versions, "note": note}, indent=2)
    (RESULTS / name).write_text(text + "\n", encoding="utf-8")


def states() -> str:
    """The table of tests of states."""
    found = json.loads((RESULTS / "state_tests.json").read_text())
    lines = ["| what is tested | tests | passed | skipped | failed |", "| --- | --- | --- | --- | --- |"]
    for name, title in TITLES.items():
        counts = found["tests"][name]
        figures = [sum(counts.values()), counts["passed"], counts["skipped"], counts["failed"]]
        lines.append(f"| {title} (`{FILES[name]}.py`) | {' | '.join(map(str, figures))} |")
    reasons = "; ".join(f"{count} × {reason}" for reason, count in sorted(found["skipped_because"].items()))
    return "\n".join([*lines, "", f"Skipped: {reasons or 'none'}. {origin(found)}"])


def fuzzing() -> str:
    """The table of outcomes of random models."""
    found = json.loads((RESULTS / "fuzz_models.json").read_text())
    lines = ["| outcome | models |", "| --- | --- |"]
    known = {"applied": "applied, every property holds", "finding": "another exception, or a property broken"}
    outcomes = found["outcomes"] | {"finding": found["outcomes"].get("finding", 0)}
    for outcome, count in outcomes.items():
        lines.append(f"| {known.get(outcome, f'refused with `{outcome}`, nothing changed')} | {count:,} |")
    return "\n".join([*lines, "", f"Of {found['models']:,} models (seed {found['seed']}). {origin(found)}"])


def origin(found: dict[str, Any]) -> str:
    """What a result was measured with."""
    versions = found["versions"]
    note = f" {found['note']}" if found.get("note") else ""
    return f"Commit {found['commit']}, torch {versions['torch']}, Python {versions['python']}.{note}"


def sharded() -> str:
    """The table of memory of ranks."""
    rows = [json.loads(line) for line in (RESULTS / "sharded.jsonl").read_text().splitlines()]
    first = rows[0]
    command = "python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4"
    lines = [
        f"A model of {first['model_gb']:.2f} GB on the meta device, the {first['ghn']} GHN, gloo processes",
        f"on one CPU, torch {first['torch']} (`{command}`):",
        "",
        "| ranks | shards, GB a rank | peak beyond what was used before, GB | CPU seconds, all | same bits |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        same = "yes" if row["same_bits"] else "**no**"
        figures = f"{row['shards_gb']:.2f} | {row['extra_gb']:.2f} | {row['cpu_seconds']:.0f}"
        lines.append(f"| {row['ranks']} | {figures} | {same} |")
    return "\n".join(lines)


def budget() -> str:
    """The table of ranks that may not use more memory than a budget, which is below the model's size."""
    rows = [json.loads(line) for line in (RESULTS / "sharded_budget.jsonl").read_text().splitlines()]
    first = rows[0]
    command = f"python benchmarks/sharded.py --gigabytes 1.5 --ranks 1 2 4 --budget {first['budget_gb']}"
    lines = [
        f"The same model of {first['model_gb']:.2f} GB, where the system gives no rank more than",
        f"{first['budget_gb']} GB beyond what it used before (`{command}`):",
        "",
        "| ranks | outcome | peak beyond what was used before, GB |",
        "| --- | --- | --- |",
    ]
    for row in rows:
        failed = row.get("failed", "").partition(":")[0]
        outcome = (
            f"`{failed}`: out of memory, nothing changed"
            if failed
            else "initialised, the bits of one process"
        )
        if not failed and not row["same_bits"]:
            outcome = "**other bits**"
        lines.append(f"| {row['ranks']} | {outcome} | {'–' if failed else format(row['extra_gb'], '.2f')} |")
    return "\n".join(lines)


SECTIONS = {"states": states, "fuzzing": fuzzing, "sharded": sharded, "budget": budget}


def main() -> int:
    """Keep summaries where they are given, and write the pages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--states", type=Path, help="JUnit file of the tests of states")
    parser.add_argument("--fuzz", type=Path, help="log of benchmarks/fuzz_models.py")
    parser.add_argument("--commit", default="unknown", help="commit that the given files were measured at")
    parser.add_argument("--note", default="", help="sentence to put below the table of the given files")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not current")
    options = parser.parse_args()
    if options.states is not None:
        keep("state_tests.json", summary_of_tests(options.states), options.commit, options.note)
    if options.fuzz is not None:
        keep("fuzz_models.json", summary_of_fuzzing(options.fuzz), options.commit, options.note)
    current = True
    for page in (ROOT / "docs" / "trust.md", ROOT / "docs" / "large_models.md"):
        text = page.read_text(encoding="utf-8")
        filled = MARKED.sub(lambda found: f"{found[1]}\n{SECTIONS[found[2]]()}\n\n{found[3]}", text)
        current &= filled == text
        if not options.check:
            page.write_text(filled, encoding="utf-8")
    return int(options.check and not current)


if __name__ == "__main__":
    raise SystemExit(main())
