"""The hook of timm: ``timm.create_model(..., ghn_init=...)``.

The model is initialised right after its constructor and before any weights are loaded into it, so that
pretrained weights win and the GHN gives what a checkpoint lacks (a head of another class count). Inside
timm that moment is ``_init_model_traits`` of the builder; where a version of timm has none, it is the
moment before weights are loaded, or the end of ``create_model``.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ghn_init.hooks.construction import Construction, construction, current
from ghn_init.hooks.imports import Hook
from ghn_init.hooks.swaps import Swaps

if TYPE_CHECKING:
    from torch import nn

LIBRARY = "timm"

_swaps = Swaps()


def _install(timm: ModuleType) -> bool:
    factory = sys.modules.get("timm.models._factory")
    builder = sys.modules.get("timm.models._builder")
    create_model = getattr(timm, "create_model", None)
    if factory is None or builder is None or create_model is None:
        return False
    _swaps.everywhere(create_model, _hooked_create_model(create_model))
    for module, name, hooked in (
        (builder, "_init_model_traits", _hooked_model_traits),
        (builder, "load_pretrained", _hooked_load),
        (factory, "load_checkpoint", _hooked_load),
    ):
        if hasattr(module, name):
            _swaps.attribute(module, name, hooked(getattr(module, name)))
    return True


def _hooked_create_model(original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    signature = inspect.signature(original)

    def create_model(*args: Any, ghn_init: Any = None, **kwargs: Any) -> nn.Module:
        given = signature.bind(*args, **kwargs).arguments
        pretrained = bool(given.get("pretrained", False))
        with construction(ghn_init, library=LIBRARY) as opened:
            model = original(*args, **kwargs)
            if opened is not None:
                _finish(opened, model, pretrained)
            elif (outer := current()) is not None and (pretrained or given.get("checkpoint_path")):
                outer.keep(list(model.parameters()))
        return model

    return _swaps.guarded(original, create_model)


def _finish(opened: Construction, model: nn.Module, pretrained: bool) -> None:
    if opened.wanted and pretrained and not opened.keeps_any and not opened.covers(model):
        opened.refuse(
            f"{type(model).__name__} loads its pretrained weights itself, so nothing tells which parameters "
            "they gave; build it with pretrained=False and ghn_init, then load the weights"
        )
        return
    opened.finish(model)


def _hooked_model_traits(original: Callable[..., Any]) -> Callable[..., Any]:
    def init_model_traits(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(model, *args, **kwargs)
        # Opened here for an entry point such as timm.models.resnet18, which does without create_model.
        with construction(library=LIBRARY) as opened:
            opened = opened or current()
            if opened is not None and opened.library == LIBRARY:
                opened.initialise(model)
        return result

    return _swaps.guarded(original, init_model_traits)


def _hooked_load(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def load(model: nn.Module, *args: Any, **kwargs: Any) -> Any:
        opened = current()
        if opened is None or opened.library != LIBRARY:
            return original(model, *args, **kwargs)
        if not opened.covers(model):
            opened.initialise(model)
        result = original(model, *args, **kwargs)
        opened.keep(list(model.parameters()))
        return result

    return load


HOOK = Hook(name="timm", module="timm", install=_install, remove=_swaps.undo)
