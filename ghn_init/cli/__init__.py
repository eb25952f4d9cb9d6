"""The command ``ghn-init``: thin commands over the public API."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from ghn_init import __version__
from ghn_init.cli import coverage, graphs, learning, ranking, weights
from ghn_init.cli.errors import CommandError
from ghn_init.cli.models import SPEC_HELP
from ghn_init.errors import GHNInitError

DESCRIPTION = """\
Initialise PyTorch models with weights predicted by a Graph HyperNetwork (GHN):
a network that reads another network's architecture and writes its weights."""

EXAMPLES = f"""\
{SPEC_HELP}

Examples
  ghn-init demo                                 see it work on real images (about a minute)
  ghn-init apply resnet50 --out resnet50-ghn    predict weights, write model.safetensors and report.json
  ghn-init trace vit_base_patch16_224 --picture vit.png
  ghn-init show resnet50-ghn
  ghn-init COMMAND --help                       more about one command

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted."""


def parser() -> argparse.ArgumentParser:
    """The parser of the command line, also read by the documentation."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "-v", "--verbose", action="count", default=0, help="say more; twice: everything, with tracebacks"
    )
    top = argparse.ArgumentParser(
        prog="ghn-init",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"ghn-init {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for room in (weights, graphs, learning, ranking, coverage):
        room.add_commands(commands, common)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Words of the command line; those of the process if not given.

    Returns:
        The exit code: 0, 1, 130, or 2 without a command. Other wrong usage leaves through ``SystemExit(2)``.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        parser().print_help()
        return 2
    options = parser().parse_args(words)
    _set_up_logging(options.verbose)
    try:
        options.run(options)
        sys.stdout.flush()
    except (CommandError, GHNInitError, ImportError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has left: nothing to tell
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115
            return 1
        if options.verbose > 1:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"ghn-init: error: {text}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ghn-init: interrupted", file=sys.stderr)
        return 130
    return 0


def _set_up_logging(verbose: int) -> None:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("ghn_init").setLevel(level)
