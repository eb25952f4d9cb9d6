"""``python -m ghn_init.training train|evaluate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch


def main(arguments: Sequence[str] | None = None) -> int:
    """Parses the command line and runs one command."""
    parser = argparse.ArgumentParser("python -m ghn_init.training", description="Train and evaluate GHNs.")
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="train a GHN, or continue the run in a folder")
    train.add_argument("config", help="a preset (bundled, quick) or a JSON file of TrainConfig fields")
    train.add_argument(
        "folder", type=Path, help="of the run: checkpoint, log, and at the end the GHN in ghn/"
    )
    train.add_argument("--data", help="folder of Fashion-MNIST's files, or 'bundled'")
    train.add_argument("--steps", type=int, help="number of updates in place of the configuration's")
    train.set_defaults(run=_train)
    evaluate = commands.add_parser("evaluate", help="accuracy on held-out networks before any training step")
    evaluate.add_argument("ghn", help="'bundled', a folder or a Hub id")
    evaluate.add_argument("--data", help="folder of Fashion-MNIST's files, or 'bundled'")
    evaluate.add_argument("--images", type=int, default=2000, help="test images (default 2000)")
    evaluate.add_argument(
        "--nets", type=int, default=40, help="held-out networks of the cell space (default 40)"
    )
    evaluate.set_defaults(run=_evaluate)
    card = commands.add_parser("card", help="evaluate the GHN of a run and save it with its model card")
    card.add_argument("folder", type=Path, help="folder of the run")
    card.add_argument("ghn", type=Path, help="folder to save the GHN in")
    card.add_argument("--command", required=True, help="the command that made the run, for the card")
    card.add_argument("--data", help="folder of Fashion-MNIST's files, or 'bundled'")
    card.add_argument("--images", type=int, default=2000, help="test images (default 2000)")
    card.add_argument("--nets", type=int, default=40, help="held-out networks of the cell space (default 40)")
    card.set_defaults(run=_card)
    options = parser.parse_args(arguments)
    return options.run(options)


def _train(options: argparse.Namespace) -> int:
    from ghn_init.training.data import fashion_mnist
    from ghn_init.training.presets import load_preset
    from ghn_init.training.trainer import train

    config = load_preset(options.config)
    if options.steps is not None:
        config = replace(config, steps=options.steps)
    ghn = train(config, options.folder, fashion_mnist("train", options.data))
    ghn.save_pretrained(options.folder / "ghn")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from ghn_init.default import resolve_ghn
    from ghn_init.training.data import fashion_mnist
    from ghn_init.training.report import evaluation_table

    torch.manual_seed(0)
    ghn = resolve_ghn(options.ghn)
    data = fashion_mnist("test", options.data).head(options.images)
    sys.stdout.write(evaluation_table(ghn, data, options.nets) + "\n")
    return 0


def _card(options: argparse.Namespace) -> int:
    from ghn_init.hub.card import model_card
    from ghn_init.training.data import fashion_mnist
    from ghn_init.training.report import evaluation_table, training_section
    from ghn_init.training.trainer import LOG, load_run

    torch.manual_seed(0)
    config, ghn = load_run(options.folder)
    data = fashion_mnist("test", options.data).head(options.images)
    sections = {
        "Training": training_section(config, options.command, options.folder / LOG),
        "Evaluation": evaluation_table(ghn, data, options.nets),
    }
    count = sum(parameter.numel() for parameter in ghn.parameters())
    text = model_card(ghn.config.to_dict(), count, str(options.ghn), licence="apache-2.0", sections=sections)
    ghn.save_pretrained(options.ghn, card=text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
