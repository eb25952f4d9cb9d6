"""``ghn-init demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``demo`` to the command line."""
    demo = commands.add_parser(
        "demo",
        parents=[common],
        help="see predicted weights at work on real images",
        description="Initialise a model that the GHN never saw, then train it next to the default init.",
    )
    demo.add_argument("--out", metavar="FOLDER", type=Path, default=Path("ghn-demo"), help="where to write")
    demo.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> None:
    """Run the demonstration."""
    from ghn_init.demo import run

    print(run(out=options.out))
