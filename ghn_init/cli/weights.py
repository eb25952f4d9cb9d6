"""``ghn-init apply``, ``ghn-init convert`` and ``ghn-init push``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ghn_init.cli.errors import CommandError
from ghn_init.cli.graphs import (
    REPORT_FILE,
    add_model_arguments,
    add_picture_argument,
    add_tracing_arguments,
    build_model,
    read_json,
    tracing_options,
)
from ghn_init.cli.models import SPEC_HELP, parse_inputs
from ghn_init.cli.output import tell, tell_written

WEIGHTS_FILE = "model.safetensors"


def add_commands(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add ``apply``, ``convert`` and ``push`` to the command line."""
    apply = commands.add_parser(
        "apply",
        parents=[common],
        help="predict a model's weights and write them to a file",
        description="Build a model, predict its weights with a GHN, write model.safetensors and report.json.",
        epilog=SPEC_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_arguments(apply)
    add_tracing_arguments(apply)
    _add_ghn_arguments(apply)
    apply.add_argument("--out", metavar="FOLDER", type=Path, help="where to write (default: MODEL-ghn)")
    apply.add_argument("--overwrite", action="store_true", help="replace files of an earlier run")
    add_picture_argument(apply)
    apply.set_defaults(run=run_apply)

    convert = commands.add_parser(
        "convert",
        parents=[common],
        help="turn an original GHN checkpoint into config.json + model.safetensors",
        description="Read an original GHN checkpoint, executing nothing in it, and write a safe folder.",
    )
    convert.add_argument("source", help="file, folder or Hub id, e.g. SamsungSAILMontreal/ghn3")
    convert.add_argument("folder", type=Path, help="folder to write")
    convert.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        help="JSON file with the original constructor's arguments, for a checkpoint file that holds none and "
        "needs them (GHN-1)",
    )
    _add_file_arguments(convert)
    convert.set_defaults(run=run_convert)

    push = commands.add_parser(
        "push",
        parents=[common],
        help="publish a GHN on the Hugging Face Hub",
        description="Publish a GHN as one commit. Log in first with `hf auth login`, or set HF_TOKEN.",
    )
    push.add_argument("source", help="folder, file or Hub id of the GHN")
    push.add_argument("repository", help="where to publish, e.g. me/my-ghn")
    push.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    push.add_argument("--message", default="Upload GHN", help="first line of the commit")
    push.add_argument("--overwrite", action="store_true", help="replace a GHN that is already there")
    _add_file_arguments(push)
    push.set_defaults(run=run_push)


def _add_ghn_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--ghn",
        metavar="GHN",
        help="folder, file or Hub id of the GHN, or 'bundled' (default: the default GHN)",
    )
    _add_file_arguments(parser)
    parser.add_argument(
        "--head",
        choices=["auto", "predict", "keep"],
        default="auto",
        help="the classifier: predict it, keep its own init, or decide by its class count (default)",
    )
    parser.add_argument(
        "--far",
        choices=["ignore", "warn", "keep"],
        default="ignore",
        help="a classifier far from the GHN's training: do not look (default), say so, or leave it as it is",
    )


def _add_file_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--filename", help="file of the folder or repository, e.g. ghn3tm8.pt")
    parser.add_argument("--revision", help="branch, tag or commit of the Hub repository")


def run_apply(options: argparse.Namespace) -> None:
    """Predict a model's weights and write them."""
    import ghn_init

    label = options.model.rstrip("/").removesuffix(".json").replace("/", "-").replace(":", "-")
    folder = options.out or Path(f"{label}-ghn")
    if (folder / WEIGHTS_FILE).exists() and not options.overwrite:
        raise CommandError(f"{folder / WEIGHTS_FILE} exists; use --overwrite or another --out")
    model = build_model(options, weights=True)
    report = ghn_init.apply(
        model,
        _ghn(options),
        example_inputs=parse_inputs(options.input),
        head=options.head,
        far=options.far,
        statistics=options.html is not None,
        **tracing_options(options),
    )
    _write_model(model, folder)
    record = {**report.to_dict(), "architecture": report.graph.to_dict()}
    (folder / REPORT_FILE).write_text(json.dumps(record, indent=1), encoding="utf-8")
    tell(report)
    if options.picture:
        report.graph.plot(options.picture)
    if options.html:
        report.to_html(options.html)
    tell_written(folder / WEIGHTS_FILE, folder / REPORT_FILE, options.picture, options.html)


def _ghn(options: argparse.Namespace) -> Any:
    if options.ghn is None:
        if options.filename or options.revision:
            raise CommandError("--filename and --revision belong to a GHN given with --ghn")
        return True
    if options.filename or options.revision:
        return _load(options.ghn, options)
    return options.ghn


def _load(source: str | Path, options: argparse.Namespace) -> Any:
    from ghn_init import GHN

    return GHN.from_pretrained(source, filename=options.filename, revision=options.revision)


def _write_model(model: Any, folder: Path) -> None:
    """``model.safetensors`` (each tied tensor once), and what a transformers model is loaded again with."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder, max_shard_size="1000GB")
        return
    from safetensors.torch import save_model

    save_model(model, str(folder / WEIGHTS_FILE))


def run_convert(options: argparse.Namespace) -> None:
    """Write any readable GHN as a safe folder."""
    if options.config is None:
        ghn = _load(options.source, options)
        folder = ghn.save_pretrained(options.folder)
    else:
        folder = _convert_file(options)
        ghn = _load(folder, options)
    count = sum(parameter.numel() for parameter in ghn.parameters())
    print(f"written: {folder} ({count:,} parameters, {ghn.config.encoder}, {ghn.config.num_classes} classes)")


def _convert_file(options: argparse.Namespace) -> Path:
    from ghn_init.hub.convert import convert_checkpoint

    if options.filename or options.revision:
        raise CommandError("--config belongs to a checkpoint file on this machine")
    config = read_json(options.config)
    if not isinstance(config, dict):
        raise CommandError(f"{options.config} holds no JSON object")
    return convert_checkpoint(options.source, options.folder, config=config)


def run_push(options: argparse.Namespace) -> None:
    """Publish a GHN."""
    ghn = _load(options.source, options)
    commit = ghn.push_to_hub(
        options.repository,
        private=options.private,
        commit_message=options.message,
        overwrite=options.overwrite,
    )
    print(f"published: {options.repository} at {commit}")
