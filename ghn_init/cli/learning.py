"""``ghn-init demo``, ``ghn-init train`` and ``ghn-init evaluate``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``demo``, ``train`` and ``evaluate`` to the command line."""
    _add_demo(commands, common)
    train = commands.add_parser(
        "train",
        parents=[common],
        help="train a GHN on random architectures and Fashion-MNIST",
        description="Train a GHN, or continue the run in a folder; the GHN lies in FOLDER/ghn at the end.",
    )
    train.add_argument("config", help="a preset (bundled, quick) or a JSON file of TrainConfig fields")
    train.add_argument("folder", help="of the run: checkpoint, log, and at the end the GHN")
    train.add_argument("--data", metavar="FOLDER", help="folder with the Fashion-MNIST files, or 'bundled'")
    train.add_argument("--steps", help="number of updates in place of the configuration's")
    train.set_defaults(run=run_train)

    evaluate = commands.add_parser(
        "evaluate",
        parents=[common],
        help="accuracy of a GHN's predictions on held-out architectures",
        description="Predict the weights of networks that no training run draws; measure their accuracy.",
    )
    evaluate.add_argument("ghn", help="'bundled', a folder or a Hub id")
    evaluate.add_argument(
        "--data", metavar="FOLDER", help="folder with the Fashion-MNIST files, or 'bundled'"
    )
    evaluate.add_argument("--images", help="test images (default 2000)")
    evaluate.add_argument("--nets", help="held-out networks of each family (default 40)")
    evaluate.set_defaults(run=run_evaluate)


def _add_demo(commands: Any, common: argparse.ArgumentParser) -> None:
    demo = commands.add_parser(
        "demo",
        parents=[common],
        help="see predicted weights at work on real images",
        description="Initialise a timm model that the GHN never saw, and once more with timm's own init; "
        "measure both on real test images before any training and along the same short training.",
    )
    demo.add_argument("model", nargs="?", default="resnet18", help="timm model that takes 32x32 images")
    demo.add_argument("--ghn", default="bundled", help="folder, file or Hub id of the GHN (default: bundled)")
    demo.add_argument("--steps", type=int, default=100, help="training steps of 64 images (default 100)")
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


def run_train(options: argparse.Namespace) -> None:
    """Train a GHN."""
    _training(["train", options.config, options.folder], options, ("data", "steps"))


def run_evaluate(options: argparse.Namespace) -> None:
    """Evaluate a GHN."""
    _training(["evaluate", options.ghn], options, ("data", "images", "nets"))


def _training(words: list[str], options: argparse.Namespace, names: Sequence[str]) -> None:
    from ghn_init.training.__main__ import main

    for name in names:
        if getattr(options, name) is not None:
            words += [f"--{name}", getattr(options, name)]
    main(words)


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
