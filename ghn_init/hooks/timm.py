"""The hook of timm: ``timm.create_model(..., ghn_init=...)``.

The model is initialised right after its constructor and before any weights are loaded into it, so that
pretrained weights win and the GHN gives what a checkpoint lacks (a head of another class count). Models of
timm are built by ``build_model_with_cfg``, which is given the class; a model that is built otherwise is
initialised before weights are loaded, or at the end of ``create_model``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from functools import partial
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
    resolve = getattr(builder, "resolve_pretrained_cfg", None)
    if (build := getattr(builder, "build_model_with_cfg", None)) is not None and resolve is not None:
        _swaps.everywhere(build, _hooked_build(build, resolve))
    for module, name, hooked in (
        (builder, "load_pretrained", _hooked_load),
        (factory, "load_checkpoint", _hooked_load),
    ):
        if hasattr(module, name):
            _swaps.attribute(module, name, hooked(getattr(module, name)))
    return True


def _hooked_create_model(original: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    import inspect  # slow to import, and needed only where timm is

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


def _hooked_build(
    original: Callable[..., nn.Module], resolve: Callable[..., Any]
) -> Callable[..., nn.Module]:
    import inspect

    signature = inspect.signature(original)

    def build_model_with_cfg(*args: Any, **kwargs: Any) -> nn.Module:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        model_cls, names = given["model_cls"], ("pretrained_cfg", "pretrained_cfg_overlay")
        config = partial(resolve, given["variant"], **{name: given.get(name) for name in names})

        @functools.wraps(model_cls)
        def initialised(*args: Any, **kwargs: Any) -> nn.Module:
            model = model_cls(*args, **kwargs)
            model.pretrained_cfg = config().to_dict()  # as the builder does next: it tells the image size
            # Opened here for an entry point such as timm.models.resnet18, which does without create_model.
            with construction(library=LIBRARY) as opened:
                opened = opened or current()
                if opened is not None and opened.library == LIBRARY:
                    opened.initialise(model)
            return model

        given["model_cls"] = initialised
        return original(*bound.args, **bound.kwargs)

    return _swaps.guarded(original, build_model_with_cfg)


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
