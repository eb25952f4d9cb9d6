"""``ghn-init demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``demo`` to the command line."""
    demo = commands.add_parser(
        "demo",
        parents=[common],
        help="see predicted weights at work on real images",
        description="Initialise a timm model that the GHN never saw, and once more with timm's own init; "
        "measure both on real test images before any training and along the same short training.",
    )
    demo.add_argument("model", nargs="?", default="resnet18", help="timm model that takes 32x32 images")
    demo.add_argument("--ghn", default="bundled", help="folder, file or Hub id of the GHN (default: bundled)")
    demo.add_argument("--steps", type=int, default=150, help="training steps of 64 images (default 150)")
    demo.add_argument("--lr", type=float, default=0.025, help="learning rate (default 0.025)")
    demo.add_argument("--seed", type=int, default=0, help="of timm's init and of the order of the images")
    demo.add_argument("--data", metavar="FOLDER", help="folder with the Fashion-MNIST files, or 'bundled'")
    demo.add_argument("--train-images", type=int, default=4000, help="at most this many (default 4000)")
    demo.add_argument("--test-images", type=int, default=1000, help="at most this many (default 1000)")
    demo.add_argument(
        "--out",
        metavar="FOLDER",
        type=Path,
        default=Path("ghn-demo"),
        help="for the picture (default: ghn-demo)",
    )
    demo.set_defaults(run=run_demo)


def run_demo(options: argparse.Namespace) -> None:
    """Run the demonstration and print what it measured."""
    for name in ("steps", "train_images", "test_images"):
        if getattr(options, name) < 1:
            raise CommandError(f"--{name.replace('_', '-')} must be at least 1")
    try:
        from ghn_init.demo import run

        result = run(
            options.model,
            out=options.out,
            ghn=options.ghn,
            steps=options.steps,
            lr=options.lr,
            seed=options.seed,
            data_root=options.data,
            train_images=options.train_images,
            test_images=options.test_images,
        )
    except ModuleNotFoundError as error:
        raise CommandError(f"{error.name} is not installed: pip install 'ghn-init[timm,plot]'") from error
    print(result)
