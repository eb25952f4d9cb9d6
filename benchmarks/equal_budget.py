"""A GHN trained on cells at about the budget of the original GHN-2 code, on networks that no run draws.

OMP_NUM_THREADS=1 ghn-init train cells runs/cells
python benchmarks/equal_budget.py runs/cells      # accuracies of held-out cells
python benchmarks/equal_budget.py --report         # Markdown into docs/training.md
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from marked import write

from ghn_init.training.cells import NORMS
from ghn_init.training.data import fashion_mnist
from ghn_init.training.evaluate import ZeroShot, zero_shot
from ghn_init.training.spaces import held_out
from ghn_init.training.trainer import load_run

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "equal_budget.json"
PAGE = ROOT / "docs" / "training.md"
NETWORKS, IMAGES = 100, 2000


def measure(folder: Path) -> dict[str, Any]:
    """What a run cost, and the accuracy of its bare predictions."""
    config, ghn = load_run(folder)
    last = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
    drawn = {f"{index}": each for index, each in enumerate(held_out("cells", NETWORKS))}
    found = zero_shot(ghn, drawn, fashion_mnist("test").head(IMAGES))
    return {
        "config": config.to_dict(), "updates": last["step"], "cpu_seconds": last["cpu_seconds"],
        "skipped": last["skipped"], "accuracies": found.accuracies, "failed": found.failed,
        "norms": {name: each.args["norm"] for name, each in drawn.items()}, "torch": torch.__version__,
    }  # fmt: skip


def report(result: dict[str, Any]) -> str:
    """Markdown: accuracies by norm."""
    lines = [
        f"{result['updates']:,} updates in {result['cpu_seconds']:,.0f} CPU seconds, {result['skipped']} "
        f"networks skipped; {IMAGES:,} test images.",
        "",
        "| held-out cells | number | mean ± standard error (%) | median | max | min |",
        "|---|---|---|---|---|---|",
    ]
    groups = {"the first 40": [str(index) for index in range(40)], "all": list(result["accuracies"])}
    for norm in NORMS:
        groups[f"all, norm {norm}"] = [name for name, each in result["norms"].items() if each == norm]
    for title, names in groups.items():
        part = ZeroShot({name: result["accuracies"][name] for name in names if name in result["accuracies"]})
        if part.accuracies:
            lines.append(f"| {title} | {' | '.join(cells(part))} |")
    return "\n".join(lines)


def cells(part: ZeroShot) -> list[str]:
    """Number, mean, median, largest and smallest accuracy."""
    values = torch.tensor(list(part.accuracies.values())) * 100
    middle = torch.quantile(values, 0.5)
    error = f"{100 * part.mean:.1f} ± {100 * part.standard_error:.1f}"
    return [str(len(values)), error, *(f"{float(each):.1f}" for each in (middle, values.max(), values.min()))]


def main() -> None:
    """Measures a run, or writes the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    if options.folder is not None:
        torch.set_num_threads(1)
        RESULTS.write_text(json.dumps(measure(options.folder), indent=1) + "\n")
    if options.report:
        write(PAGE, {"equal budget": report(json.loads(RESULTS.read_text()))})


if __name__ == "__main__":
    main()
