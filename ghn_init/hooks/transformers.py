"""The hook of transformers: constructors, ``from_config`` and ``from_pretrained`` of every model class.

What is patched: ``__init__`` of `PreTrainedModel` and of each subclass (those defined later too), to know
when the outermost constructor has returned; ``_from_config`` and ``from_pretrained`` of `PreTrainedModel`;
``from_pretrained`` of the Auto classes, which would otherwise deep-copy a GHN given to them. A model that is
loaded is initialised after loading, and only in the parameters that the checkpoint did not give.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ghn_init.hooks.construction import construction, current, requested
from ghn_init.hooks.imports import Hook
from ghn_init.hooks.swaps import Swaps

if TYPE_CHECKING:
    from torch import nn

LIBRARY = "transformers"

_swaps = Swaps()
_auto_swaps = Swaps()
_hooked_inits: weakref.WeakSet[Callable[..., None]] = weakref.WeakSet()
_added_inits: weakref.WeakSet[Callable[..., None]] = weakref.WeakSet()


def _install_models(modeling_utils: ModuleType) -> bool:
    base = getattr(modeling_utils, "PreTrainedModel", None)
    if base is None or not all(
        name in vars(base) for name in ("__init__", "_from_config", "from_pretrained")
    ):
        return False
    _swaps.attribute(base, "__init_subclass__", _hooked_init_subclass(base))
    _swaps.attribute(base, "_from_config", _hooked_from_config(vars(base)["_from_config"]))
    _swaps.attribute(base, "from_pretrained", _hooked_from_pretrained(vars(base)["from_pretrained"]))
    for cls in _family(base):
        _hook_init(cls)
    return True


def _remove_models() -> None:
    _swaps.undo()
    for cls in _family(sys.modules[MODEL_HOOK.module].PreTrainedModel):
        init = vars(cls).get("__init__")
        if init in _added_inits:
            del cls.__init__  # type: ignore[misc]
        elif init in _hooked_inits:
            cls.__init__ = init.__wrapped__  # type: ignore[union-attr]


def _install_auto(modeling_auto: ModuleType) -> bool:
    base = getattr(modeling_auto, "_BaseAutoModelClass", None)
    if base is None:
        return False
    for cls in _family(base):
        if isinstance(vars(cls).get("from_pretrained"), classmethod):
            _auto_swaps.attribute(cls, "from_pretrained", _hooked_auto(vars(cls)["from_pretrained"]))
    return True


def _family(cls: type) -> Iterator[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)


def _hook_init(cls: type) -> None:
    """Replace the ``__init__`` that ``cls`` defines, or takes from a mixin that is no `PreTrainedModel`."""
    original: Any = cls.__init__
    if original in _hooked_inits:
        return

    def construct(self: Any, *args: Any, ghn_init: Any = None, **kwargs: Any) -> None:
        with construction(ghn_init, library=LIBRARY) as opened:
            original(self, *args, **kwargs)
            if opened is not None:
                opened.finish(self)

    init = _swaps.guarded(original, construct)
    _hooked_inits.add(init)
    if "__init__" not in vars(cls):
        _added_inits.add(init)
    cls.__init__ = init  # type: ignore[misc]


def _hooked_init_subclass(base: Any) -> classmethod:
    original = vars(base).get("__init_subclass__")

    def init_subclass(cls: type, **kwargs: Any) -> None:
        if original is None:
            super(base, cls).__init_subclass__(**kwargs)
        else:
            original.__func__(cls, **kwargs)
        if _swaps.live:
            _hook_init(cls)

    return classmethod(
        init_subclass if original is None else functools.wraps(original.__func__)(init_subclass)
    )


def _hooked_from_config(original: classmethod) -> classmethod:
    build = original.__func__

    def from_config(cls: type, *args: Any, ghn_init: Any = None, **kwargs: Any) -> nn.Module:
        with construction(ghn_init, library=LIBRARY) as opened:
            model = build(cls, *args, **kwargs)
            if opened is not None:
                opened.finish(model)
        return model

    return classmethod(_swaps.guarded(build, from_config))


def _hooked_from_pretrained(original: classmethod) -> classmethod:
    load = original.__func__

    def from_pretrained(cls: type, *args: Any, ghn_init: Any = None, **kwargs: Any) -> Any:
        with construction(ghn_init, library=LIBRARY) as opened:
            if opened is not None and not opened.wanted:
                result = load(cls, *args, **kwargs)
                opened.finish(result[0] if isinstance(result, tuple) else result)
                return result
            wants_info = kwargs.pop("output_loading_info", False)
            model, info = load(cls, *args, output_loading_info=True, **kwargs)
            missing = _missing(model, info)
            if opened is not None:
                if not missing:
                    import logging

                    text = "the checkpoint gives every parameter of %s: none is predicted"
                    logging.getLogger("ghn_init").info(text, cls.__name__)
                opened.finish(model, only=missing)
            elif (outer := current()) is not None:
                named = model.named_parameters(remove_duplicate=False)
                outer.keep([parameter for name, parameter in named if name not in missing])
        return (model, info) if wants_info else model

    return classmethod(_swaps.guarded(load, from_pretrained))


def _missing(model: nn.Module, info: dict[str, Any]) -> set[str]:
    """Names of the parameters that the checkpoint gave under none of their names, or in another shape."""
    # A mismatched key is a name, or a tuple of the name and two shapes.
    mismatched = {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    absent = mismatched | set(info["missing_keys"])
    named = dict(model.named_parameters(remove_duplicate=False))
    given = {id(parameter) for name, parameter in named.items() if name not in absent}
    return {name for name, parameter in named.items() if id(parameter) not in given}


def _hooked_auto(original: classmethod) -> classmethod:
    load = original.__func__

    def from_pretrained(cls: type, *args: Any, ghn_init: Any = None, **kwargs: Any) -> Any:
        if ghn_init is None:
            return load(cls, *args, **kwargs)
        with requested(ghn_init, explicit=True):
            return load(cls, *args, **kwargs)

    return classmethod(_auto_swaps.guarded(load, from_pretrained))


MODEL_HOOK = Hook(
    name="transformers models",
    module="transformers.modeling_utils",
    install=_install_models,
    remove=_remove_models,
)
AUTO_HOOK = Hook(
    name="transformers Auto classes",
    module="transformers.models.auto.modeling_auto",
    install=_install_auto,
    remove=_auto_swaps.undo,
)
