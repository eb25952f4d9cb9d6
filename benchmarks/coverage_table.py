"""Run ``ghn_init.apply`` on many models and write what came of it.

    python benchmarks/coverage_table.py                   # all suites; continues where it stopped
    python benchmarks/coverage_table.py --suite timm --only resnet --again
    python benchmarks/coverage_table.py --table           # only write docs/coverage.md again

Each model is built with real weights in a process of its own (one thread, one at a time), initialised with
the bundled GHN and checked: every parameter accounted for, every predicted value finite.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from coverage_models import cases
from coverage_report import write_page
from tqdm import tqdm

import ghn_init
from ghn_init.cli.models import build

HERE = Path(__file__).resolve().parent
SUITES = ("torchvision", "timm", "transformers")


def measure(spec: str, arguments: dict[str, Any], ghn: Any) -> dict[str, Any]:
    """Build one model, initialise it, check it; the row of the table."""
    torch.manual_seed(0)
    model = build(spec, **arguments)
    names = {name for name, _ in model.named_parameters()}
    start_cpu, start = time.process_time(), time.perf_counter()
    report = ghn_init.apply(model, ghn)
    cpu, wall = time.process_time() - start_cpu, time.perf_counter() - start
    parameters = dict(model.named_parameters())
    told = [*report.predicted, *report.kept, *report.skipped]
    missing = names.symmetric_difference(
        name for name in told if name in parameters or name not in report.graph.tied
    )
    if missing or len(set(told)) != len(told):
        raise AssertionError(f"not accounted for exactly once: {sorted(missing)[:5]}")
    broken = [name for name in report.predicted if name in names and not parameters[name].isfinite().all()]
    if broken:
        raise AssertionError(f"values that are not finite: {broken[:5]}")
    return {
        "ghn": str(report.ghn),
        "nodes": len(report.graph),
        "edges": len(report.graph.edges),
        "parameters": len(names),
        "values": sum(parameter.numel() for parameter in parameters.values()),
        "predicted": sum(name in names for name in report.predicted),
        "predicted_values": sum(parameters[name].numel() for name in report.predicted if name in names),
        "kept": {name: reason for name, reason in report.kept.items() if name in names},
        "skipped": {name: reason for name, reason in report.skipped.items() if name in names},
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
    }


def isolated(spec: str, arguments: dict[str, Any], ghn: Any, limit: float) -> dict[str, Any]:
    """:func:`measure` in a forked process that may fail, run out of memory or be too slow."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(theirs, spec, arguments, ghn))
    process.start()
    theirs.close()
    try:
        row = ours.recv() if ours.poll(limit) else {"error": f"no result within {limit:.0f} s"}
    except EOFError:
        process.join()
        row = {"error": f"the process died (exit code {process.exitcode})"}
    process.kill()
    process.join()
    return row


def _child(pipe: Any, spec: str, arguments: dict[str, Any], ghn: Any) -> None:
    torch.set_num_threads(1)
    try:
        pipe.send(measure(spec, arguments, ghn))
    except BaseException as error:  # noqa: BLE001 - whatever a model does is a row of the table
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:400]
        place = f"{Path(where.filename).name}:{where.lineno}"
        pipe.send({"error": f"{type(error).__name__}: {text}", "where": place})


def main() -> None:
    """Measure what has no row yet, then write the page."""
    options = _options()
    rows = _read(options.results)
    if not options.table:
        logging.getLogger("ghn_init").setLevel(logging.ERROR)  # reasons go into the table
        for library in SUITES:
            import_module(library)  # once, here, rather than in every forked process
        ghn = ghn_init.GHN.from_pretrained(options.ghn) if options.ghn else _bundled()
        todo = [
            (suite, spec, arguments)
            for suite in options.suite or SUITES
            for spec, arguments in cases(suite)
            if options.only in spec
            and (options.again or spec not in rows or (options.failed and "error" in rows[spec]))
        ]
        with tqdm(todo, unit="model") as bar:
            for suite, spec, arguments in bar:
                bar.set_postfix_str(spec)
                rows[spec] = {"suite": suite, "model": spec, **isolated(spec, arguments, ghn, options.limit)}
                if "error" in rows[spec]:
                    bar.write(f"{spec}: {rows[spec]['error']}")
                _write(rows, options.results)
    write_page(list(rows.values()), options.page)


def _bundled() -> Any:
    from ghn_init.default import resolve_ghn

    return resolve_ghn("bundled")


def _read(results: Path) -> dict[str, dict[str, Any]]:
    if not results.exists():
        return {}
    lines = results.read_text(encoding="utf-8").splitlines()
    return {row["model"]: row for row in map(json.loads, lines)}


def _write(rows: dict[str, dict[str, Any]], results: Path) -> None:
    """Replace the results as a whole, so that an interruption leaves the last complete state."""
    results.parent.mkdir(parents=True, exist_ok=True)
    partial = results.with_suffix(".partial")
    order = sorted(rows.values(), key=lambda row: (SUITES.index(row["suite"]), row["model"]))
    partial.write_text("".join(json.dumps(row) + "\n" for row in order), encoding="utf-8")
    partial.replace(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite (repeatable)")
    parser.add_argument("--only", default="", help="only models whose spec contains this text")
    parser.add_argument("--again", action="store_true", help="measure models that have a row, too")
    parser.add_argument("--failed", action="store_true", help="measure models that failed once more")
    parser.add_argument("--table", action="store_true", help="measure nothing, only write the page")
    parser.add_argument("--ghn", help="another GHN than the bundled one")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds per model (default 600)")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "coverage.jsonl", help="rows")
    parser.add_argument("--page", type=Path, default=HERE.parent / "docs" / "coverage.md", help="the page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
