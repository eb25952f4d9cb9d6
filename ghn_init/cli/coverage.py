"""``ghn-init coverage``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError

SUITES = ("timm", "torchvision", "transformers", "plain", "others")


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``coverage`` to the command line."""
    coverage = commands.add_parser(
        "coverage",
        parents=[common],
        help="measure which models can be initialised",
        description="Build every model of a suite on the meta device, trace it, predict its weights and "
        "check its graph, each in a process of its own. Results are kept model by model: a run that was "
        "stopped continues. The exit code is 1 if a model fails that this run measured.",
    )
    coverage.add_argument(
        "suite",
        nargs="*",
        type=_suite,
        metavar="SUITE",
        help=f"{', '.join(SUITES)} or all; none to write the page of earlier results only",
    )
    coverage.add_argument("--only", default="", metavar="TEXT", help="models whose name contains this text")
    coverage.add_argument(
        "--sample", type=int, default=0, metavar="N", help="N models of each suite, of all families"
    )
    coverage.add_argument("--again", action="store_true", help="measure models that have a result, too")
    coverage.add_argument("--failed", action="store_true", help="measure models that failed once more")
    coverage.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="processes at a time (default: one a core)",
    )
    coverage.add_argument(
        "--limit", type=float, default=300.0, metavar="SECONDS", help="CPU time of one model (default 300)"
    )
    coverage.add_argument(
        "--memory", type=float, default=8.0, metavar="GB", help="that one model may allocate (default 8)"
    )
    coverage.add_argument(
        "--ghn", default="bundled", help="folder, file or Hub id of the GHN (default: bundled)"
    )
    coverage.add_argument(
        "--export",
        action="store_true",
        help="also compare the data flow with that of torch.export; measures models without that, too",
    )
    coverage.add_argument(
        "--results",
        type=Path,
        default=Path("coverage"),
        metavar="FOLDER",
        help="of the results, a file for each suite (default: coverage)",
    )
    coverage.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="write the results as Markdown: this file, and one for each suite in a folder beside it",
    )
    coverage.set_defaults(run=run_coverage)


def run_coverage(options: argparse.Namespace) -> None:
    """Measure, print a summary, write the page."""
    from ghn_init.coverage.page import write_pages
    from ghn_init.coverage.processes import Settings
    from ghn_init.coverage.run import Choice, run

    if options.jobs < 1 or options.sample < 0 or options.limit <= 0 or options.memory <= 0:
        raise CommandError("--jobs, --limit and --memory must be positive, and --sample not negative")
    if not options.suite and not options.page:
        raise CommandError("name a suite to measure, or a --page to write")
    names = list(SUITES) if "all" in options.suite else list(dict.fromkeys(options.suite))
    outcome = run(
        names,
        options.results,
        choice=Choice(options.only, options.sample, options.again, options.failed, options.export),
        settings=Settings(options.ghn, options.limit, options.memory, options.export),
        jobs=options.jobs,
    )
    if options.page:
        for path in write_pages(options.results, options.page):
            print(f"written: {path}")
    print(f"{outcome.measured} models measured, {len(outcome.failed)} failed")
    if outcome.failed:
        more = f" and {len(outcome.failed) - 20} more" if len(outcome.failed) > 20 else ""
        raise CommandError(f"failed: {', '.join(outcome.failed[:20])}{more}")


def _suite(name: str) -> str:
    if name not in (*SUITES, "all"):
        raise argparse.ArgumentTypeError(f"there is no suite {name!r}: choose of {', '.join(SUITES)}, all")
    return name
