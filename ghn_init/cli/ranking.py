"""``ghn-init rank``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``rank`` to the command line."""
    rank = commands.add_parser(
        "rank",
        parents=[common],
        help="which of these architectures is worth training?",
        description="Score architectures with predicted weights on real images, before training any of them.",
    )
    rank.add_argument("models", nargs="*", metavar="MODEL", help="timm models")
    rank.add_argument("--space", metavar="FAMILY", help="rank samples of a family (cells, resnet, vit, ...)")
    rank.add_argument("--samples", type=int, default=50, help="how many of the family (default 50)")
    rank.add_argument("--search", choices=("random", "evolution", "tpe"), help="search the family instead")
    rank.add_argument("--max-parameters", type=float, help="largest number of parameters, e.g. 2e6")
    rank.add_argument(
        "--max-flops", type=float, help="largest number of operations of a forward pass, e.g. 3e8"
    )
    rank.add_argument("--ghn", default="bundled", help="folder, file or Hub id of the GHN (default: bundled)")
    rank.add_argument("--images", type=int, default=1000, help="Fashion-MNIST test images (default 1000)")
    rank.add_argument("--steps", type=int, default=0, help="cheap training steps before scoring (default 0)")
    rank.add_argument(
        "--proxy", action="append", default=[], help="synflow, naswot or grad_norm (repeatable)"
    )
    rank.add_argument("--latency", action="store_true", help="measure the time of a forward pass")
    rank.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    rank.add_argument("--seed", type=int, default=0, help="of samples, search and initial weights")
    rank.add_argument("--resume", type=Path, metavar="FILE", help="keep finished candidates here; continue")
    rank.add_argument("--json", type=Path, metavar="FILE", help="write the ranking")
    rank.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of score against parameters")
    rank.set_defaults(run=run_rank)


def run_rank(options: argparse.Namespace) -> None:
    """Rank and print the table."""
    from ghn_init.ranking import Ranking, rank, sample_space, search
    from ghn_init.training.data import fashion_mnist
    from ghn_init.training.spaces import Space

    if bool(options.models) == bool(options.space):
        raise CommandError("give timm models, or --space FAMILY")
    budget = {"max_parameters": options.max_parameters, "max_flops": options.max_flops}
    asked: dict[str, Any] = {
        **{"images": options.images, "steps": options.steps, "proxies": options.proxy, "seed": options.seed},
        "measure_latency": options.latency,
    }
    if options.steps:
        asked["train_data"] = fashion_mnist("train")
    if options.search:
        if not options.space:
            raise CommandError("--search needs --space FAMILY")
        ranking, _ = search(
            *(options.space, "fashion_mnist", options.ghn),
            **{"method": options.search, "evaluations": options.samples, **budget, **asked},
        )
    else:
        models: Any = options.models
        if options.space:
            models = sample_space(Space({options.space: 1.0}, options.seed), options.samples, **budget)
        ranking = rank(
            *(models, "fashion_mnist", options.ghn),
            **{"workers": options.workers, "resume": options.resume, **asked},
        )
    assert isinstance(ranking, Ranking)
    print(ranking)
    if options.json:
        ranking.to_json(options.json)
    if options.plot:
        ranking.plot(options.plot)
