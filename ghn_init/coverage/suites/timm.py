"""Every architecture of timm, built as ``timm.create_model(name)`` builds it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from ghn_init.coverage.case import Case

LIBRARIES = ("timm",)
TARGETS = {"": 99.5}


def cases() -> Iterator[Case]:
    """All names of ``timm.list_models()``; the family is the module of timm that defines the model."""
    import timm
    from timm.models import model_entrypoint

    for name in timm.list_models():
        family = model_entrypoint(name).__module__.rpartition(".")[2]
        yield Case(name, family, partial(timm.create_model, name))
