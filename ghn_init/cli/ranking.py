"""``ghn-init rank``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_init.cli.errors import CommandError
from ghn_init.cli.output import tell

if TYPE_CHECKING:
    from ghn_init.ranking import Ranking
    from ghn_init.training.spaces import Architecture


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``rank`` to the command line."""
    rank = commands.add_parser(
        "rank",
        parents=[common],
        help="which of these architectures is worth training?",
        description="Score architectures with predicted weights on real images, before training any of them.",
    )
    rank.add_argument("models", nargs="*", metavar="MODEL", help="timm models")
    rank.add_argument(
        "--space",
        action="append",
        metavar="FAMILY",
        help="rank samples of a family (cells, resnet, vit, ...), or of several (repeatable)",
    )
    rank.add_argument("--samples", type=int, default=50, help="how many samples (default 50)")
    rank.add_argument("--search", choices=("random", "evolution", "tpe"), help="search the family instead")
    rank.add_argument("--minutes", type=float, help="of the search, at most")
    rank.add_argument("--max-parameters", type=float, help="largest number of parameters, e.g. 2e6")
    rank.add_argument(
        "--max-flops", type=float, help="largest number of operations of a forward pass, e.g. 3e8"
    )
    rank.add_argument("--ghn", default="bundled", help="folder, file or Hub id of the GHN (default: bundled)")
    rank.add_argument(
        "--data", default="fashion-mnist", help="data set: its test images score, its training images train"
    )
    rank.add_argument("--images", type=int, default=1000, help="images that score (default 1000)")
    rank.add_argument("--steps", type=int, default=0, help="cheap training steps before scoring (default 0)")
    rank.add_argument(
        "--start",
        choices=("predicted", "own", "both"),
        default="predicted",
        help="weights to begin with: predicted ones (default), the network's own initial ones, or both",
    )
    rank.add_argument(
        "--smooth", action="store_true", help="smooth the scores over alike graphs (20 candidates or more)"
    )
    rank.add_argument(
        "--trained",
        type=Path,
        metavar="FILE",
        help="JSON: name to accuracy after training, of 20 candidates or more; estimate the others'",
    )
    rank.add_argument(
        "--proxy", action="append", default=[], help="synflow, naswot or grad_norm (repeatable)"
    )
    rank.add_argument("--latency", action="store_true", help="measure the time of a forward pass")
    rank.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    rank.add_argument("--seed", type=int, default=0, help="of samples, search and initial weights")
    rank.add_argument("--resume", type=Path, metavar="FILE", help="keep finished candidates here; continue")
    rank.add_argument("--train-best", type=int, default=0, metavar="N", help="train the best N in full")
    rank.add_argument("--train-steps", type=int, default=2000, help="updates of each (default 2000)")
    rank.add_argument("--json", type=Path, metavar="FILE", help="write the ranking")
    rank.add_argument("--plot", type=Path, metavar="FILE", help="write a picture of score against parameters")
    rank.set_defaults(run=run_rank)


def run_rank(options: argparse.Namespace) -> None:
    """Rank and print the table."""
    from ghn_init.ranking import sample_space, train_best
    from ghn_init.training.spaces import Space

    if bool(options.models) == bool(options.space):
        raise CommandError("give timm models, or --space FAMILY")
    if options.search and not options.space:
        raise CommandError("--search needs --space FAMILY")
    budget = {"max_parameters": options.max_parameters, "max_flops": options.max_flops}
    if options.search:
        ranking, models = _searched(options, budget)
    else:
        models = options.models
        if options.space:
            space = Space(dict.fromkeys(options.space, 1.0), options.seed)
            models = sample_space(space, options.samples, **budget)
        ranking = _ranked(options, models)
    tell(ranking)
    if options.json:
        ranking.to_json(options.json)
    if options.plot:
        ranking.plot(options.plot)
    if options.train_best:
        trained = train_best(
            *(ranking, models, options.data, options.data),
            **{"top": options.train_best, "steps": options.train_steps, "seed": options.seed},
        )
        for found in trained:
            print(f"{found.name}: {found.accuracy:.1%} after {len(found.losses)} updates")


def _ranked(options: argparse.Namespace, models: Any) -> Ranking:
    from ghn_init.ranking import rank

    trained = None
    if options.trained:
        try:
            trained = dict(json.loads(options.trained.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise CommandError(f"--trained {options.trained}: {error}") from error
    return rank(
        models, options.data, options.ghn, workers=options.workers, trained=trained, **_asked(options)
    )


def _searched(
    options: argparse.Namespace, budget: dict[str, Any]
) -> tuple[Ranking, Mapping[str, Architecture]]:
    from ghn_init.ranking import search

    if options.trained:
        raise CommandError("--trained does not go with --search: the candidates are not known before")
    if options.workers != 1:
        raise CommandError("--workers does not go with --search: each architecture follows from those before")
    return search(
        *(options.space, options.data, options.ghn),
        **{"method": options.search, "evaluations": options.samples, "minutes": options.minutes},
        **{**budget, **_asked(options)},
    )


def _asked(options: argparse.Namespace) -> dict[str, Any]:
    return {
        **{"images": options.images, "steps": options.steps, "proxies": options.proxy, "seed": options.seed},
        **{"measure_latency": options.latency, "resume": options.resume},
        **{"start": options.start, "smooth": options.smooth},
        **({"train_data": options.data} if options.steps else {}),
    }
