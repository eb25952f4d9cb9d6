"""``ghn-init demo``, ``train``, ``evaluate`` and ``card``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError

_DATA = (
    "images by name: fashion-mnist, digits, fractals, torchvision:CIFAR10, hub:org/name, folder:PATH, "
    "bundled, or a folder of Fashion-MNIST's files"
)


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``demo``, ``train``, ``evaluate`` and ``card`` to the command line."""
    _add_demo(commands, common)
    _add_train(commands, common)
    _add_evaluate(commands, common)
    _add_card(commands, common)


def _add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    train = commands.add_parser(
        "train",
        parents=[common],
        help="train a GHN on random architectures and images",
        description="Train a GHN, or continue the run in a folder; the GHN lies in FOLDER/ghn at the end. "
        "'accelerate launch -m ghn_init train ...' shares every meta-batch among processes.",
    )
    train.add_argument("config", help="a preset (bundled, cells, quick) or a JSON file of TrainConfig fields")
    train.add_argument("folder", type=Path, help="of the run: checkpoint, log, and at the end the GHN")
    train.add_argument("--data", metavar="NAME", help=f"{_DATA}; default: the configuration's")
    train.add_argument("--steps", type=int, help="number of updates in place of the configuration's")
    train.add_argument(
        "--track", metavar="TRACKER", help="also log to a tracker of Accelerate: tensorboard, ..."
    )
    train.set_defaults(run=run_train)


def _add_evaluate(commands: Any, common: argparse.ArgumentParser) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        parents=[common],
        help="accuracy of a GHN's predictions on held-out architectures, before or along training",
        description="Predict the weights of networks that no training run draws; measure their accuracy. "
        "With --inits, train these networks from each initialisation, at learning rates chosen on others.",
    )
    evaluate.add_argument("ghn", help="'bundled', a folder or a Hub id")
    evaluate.add_argument("--data", metavar="NAME", help=_DATA)
    evaluate.add_argument("--images", type=int, help="test images (default 2000; with --inits 1000)")
    evaluate.add_argument(
        "--nets", type=int, help="held-out cell networks, and a quarter of each other family (default 40; 20)"
    )
    along = evaluate.add_argument_group("along training")
    along.add_argument(
        "--inits",
        nargs="+",
        metavar="INIT",
        help="default, kaiming, orthogonal, mimetic, ghn, ghn:share=0.7,base=kaiming ...",
    )
    along.add_argument(
        "--out", type=Path, default=Path("ghn-evaluation"), help="folder of rows, table and figure"
    )
    along.add_argument("--lrs", nargs="+", type=float, default=[0.01, 0.03, 0.1, 0.3], help="learning rates")
    along.add_argument(
        "--budgets", nargs="+", type=int, default=[50, 156], help="updates; one training for each"
    )
    along.add_argument("--marks", nargs="+", type=int, default=[], help="updates at which to measure, too")
    along.add_argument("--seeds", nargs="+", type=int, default=[0], help="of own init and order of images")
    along.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    along.add_argument("--train-images", type=int, default=10_000, help="training images (default 10000)")
    along.add_argument(
        "--choose-on", type=int, default=4, help="development networks, counted as --nets (default 4)"
    )
    along.add_argument("--families", nargs="+", default=[], help="only these families")
    evaluate.set_defaults(run=run_evaluate)


def _add_card(commands: Any, common: argparse.ArgumentParser) -> None:
    card = commands.add_parser(
        "card",
        parents=[common],
        help="evaluate the GHN of a training run and save it with its model card",
        description="Evaluate the GHN of a training run; save it with a card that says how it was trained.",
    )
    card.add_argument("folder", type=Path, help="of the run")
    card.add_argument("ghn", type=Path, help="folder to save the GHN in")
    card.add_argument("--command", required=True, help="the command that made the run, for the card")
    card.add_argument("--data", metavar="NAME", help=f"{_DATA}; default: the run's")
    card.add_argument("--images", type=int, default=2000, help="test images (default 2000)")
    card.add_argument("--nets", type=int, default=40, help="held-out networks of the cell space (default 40)")
    card.set_defaults(run=run_card)


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
    from ghn_init.training.commands import train_run

    train_run(options.config, options.folder, options.data, options.steps, options.track)


def run_evaluate(options: argparse.Namespace) -> None:
    """Evaluate a GHN."""
    if options.inits:
        print(_compare(options))
        return
    from ghn_init.training.commands import zero_shot_table

    print(zero_shot_table(options.ghn, options.data, options.images or 2000, options.nets or 40))


def _compare(options: argparse.Namespace) -> str:
    from ghn_init.training.commands import compare_inits
    from ghn_init.training.comparison import Comparison

    comparison = Comparison(
        options.inits,
        options.lrs,
        budgets=options.budgets,
        seeds=options.seeds,
        marks=options.marks,
        optimizer=options.optimizer,
    )
    return compare_inits(
        options.ghn,
        comparison,
        options.out,
        options.data,
        images=options.train_images,
        test_images=options.images or 1000,
        networks=options.nets or 20,
        chosen_on=options.choose_on,
        families=options.families,
    )


def run_card(options: argparse.Namespace) -> None:
    """Save the GHN of a run with its card."""
    from ghn_init.training.commands import save_with_card

    save_with_card(options.folder, options.ghn, options.command, options.data, options.images, options.nets)


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
