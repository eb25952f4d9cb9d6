"""What a user types becomes a model: a timm, torchvision or transformers name, or ``package:factory``."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_init.cli.errors import CommandError
from ghn_init.errors import MissingPackageError
from ghn_init.extras import needed

if TYPE_CHECKING:
    import torch

SPEC_HELP = """\
A MODEL is one of
  resnet50, timm:resnet50         a timm model
  torchvision:resnet18            a torchvision model
  transformers:bert               a transformers model type, with its default configuration
  transformers:path/config.json   a transformers model from its configuration file
  package.module:factory          any function or class that returns a torch.nn.Module
Options of the model go with --set, e.g. --set num_classes=10 --set drop_rate=0.1"""


def build(
    spec: str, options: dict[str, Any] | None = None, *, auto_class: str = "AutoModel"
) -> torch.nn.Module:
    """Build the model that ``spec`` names, with its own initial weights.

    Args:
        spec: What the user typed; see :data:`SPEC_HELP`.
        options: Keyword arguments of the constructor, or fields of the transformers configuration.
        auto_class: For transformers: the class whose ``from_config`` builds the model.

    Raises:
        CommandError: The package is not installed, the name is unknown, or building fails.
    """
    import torch

    kind, name = spec.split(":", 1) if ":" in spec else ("timm", spec)
    frameworks: dict[str, Callable[..., Any]] = {
        "timm": _timm,
        "torchvision": _torchvision,
        "transformers": partial(_transformers, auto_class=auto_class),
    }
    try:
        if kind in frameworks:
            model = frameworks[kind](name, options or {})
        else:
            model = _factory(kind, name)(**(options or {}))
    except (CommandError, MissingPackageError):
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no message"
        raise CommandError(f"cannot build {spec}: {type(error).__name__}: {reason}") from error
    if not isinstance(model, torch.nn.Module):
        raise CommandError(f"{spec} gave a {type(model).__name__}, not a torch.nn.Module")
    return model


def build_without_weights(spec: str, options: dict[str, Any] | None = None, **kinds: str) -> torch.nn.Module:
    """As :func:`build`, but on the meta device where the model can be built there: no memory, no values."""
    import torch

    try:
        with torch.device("meta"):
            return build(spec, options, **kinds)
    except MissingPackageError:
        raise
    except CommandError:
        return build(spec, options, **kinds)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """``["num_classes=10", "act=relu"]`` → ``{"num_classes": 10, "act": "relu"}``.

    A value is read as a Python literal where it is one, else as text.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        key, separator, text = pair.partition("=")
        if not separator or not key:
            raise CommandError(f"--set {pair}: expected NAME=VALUE")
        try:
            options[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            options[key] = text
    return options


def parse_inputs(texts: Sequence[str]) -> tuple[torch.Tensor, ...] | None:
    """Example inputs from shapes: ``1,3,224,224`` (random floats) or ``int:1,16`` (token ids 0)."""
    import torch

    inputs = []
    for text in texts:
        kind, _, sizes = text.rpartition(":")
        try:
            shape = [int(size) for size in sizes.split(",")]
        except ValueError:
            shape = []
        if not shape or min(shape) < 1 or kind not in ("", "int", "float"):
            raise CommandError(f"--input {text}: expected sizes such as 1,3,224,224 or int:1,16")
        inputs.append(torch.zeros(shape, dtype=torch.long) if kind == "int" else torch.zeros(shape))
    return tuple(inputs) or None


def _load(module: str, extra: str, what: str) -> Any:
    with needed(extra, what):
        return import_module(module)


def _timm(name: str, options: dict[str, Any]) -> Any:
    timm = _load("timm", "timm", f"model timm:{name}")
    if not timm.is_model(name):
        raise CommandError(f"timm has no model {name!r}{_suggest(name, timm.list_models())}")
    return timm.create_model(name, **options)


def _torchvision(name: str, options: dict[str, Any]) -> Any:
    models = _load("torchvision.models", "timm", f"model torchvision:{name}")
    if name not in models.list_models():
        raise CommandError(f"torchvision has no model {name!r}{_suggest(name, models.list_models())}")
    return models.get_model(name, weights=None, **options)


def _transformers(name: str, options: dict[str, Any], auto_class: str) -> Any:
    transformers = _load("transformers", "transformers", f"model transformers:{name}")
    path = Path(name)
    if path.exists():
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, **options)
    elif path.suffix == ".json" or os.sep in name:
        raise CommandError(f"transformers: the configuration {name} does not exist")
    else:
        known = list(transformers.CONFIG_MAPPING.keys())
        if name not in known:
            raise CommandError(f"transformers has no model type {name!r}{_suggest(name, known)}")
        config = transformers.AutoConfig.for_model(name, **options)
    named = getattr(transformers, (config.architectures or [""])[0], None)
    if auto_class == "AutoModel" and named is not None:
        return named(config)
    return getattr(transformers, auto_class).from_config(config)


def _factory(module: str, name: str) -> Callable[..., Any]:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _suggest(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(name, known, n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""
