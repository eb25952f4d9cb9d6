"""A hook of one's own: registered, used, taken back; here for torchvision's `get_model`."""

from __future__ import annotations

import pytest
import torchvision
from hook_checks import same_bits, seeded

import ghn_init
from ghn_init.errors import HookError
from ghn_init.hooks import Hook, Swaps, construction, register_hook

ORIGINAL = torchvision.models.get_model


def hook_of(swaps: Swaps, name: str = "torchvision") -> Hook:
    def install(models) -> bool:
        original = models.get_model

        def get_model(*args, ghn_init=None, **kwargs):
            with construction(ghn_init, library="torchvision") as opened:
                model = original(*args, **kwargs)
                if opened is not None:
                    opened.finish(model)
            return model

        swaps.everywhere(original, swaps.guarded(original, get_model))
        return True

    return Hook(name, "torchvision.models", install, swaps.undo)


@pytest.fixture
def undo():
    taken_back = register_hook(hook_of(Swaps()))
    yield taken_back
    taken_back()
    assert torchvision.models.get_model is ORIGINAL


def build(**kwargs):
    return seeded(torchvision.models.get_model, "squeezenet1_1", num_classes=10, **kwargs)


def test_a_registered_hook_initialises_and_is_taken_back(undo, ghn):
    plain = build()
    model = build(ghn_init=ghn)
    assert ghn_init.report_of(model).predicted
    assert not same_bits(plain, model)
    with ghn_init.enabled(ghn):
        assert same_bits(model, build())
        assert same_bits(plain, build(ghn_init=False))
    undo()
    undo()
    assert torchvision.models.get_model is ORIGINAL
    with pytest.raises(TypeError):
        build(ghn_init=ghn)


def test_patch_and_unpatch_cover_a_registered_hook(undo, ghn):
    ghn_init.unpatch()
    try:
        assert torchvision.models.get_model is ORIGINAL
    finally:
        ghn_init.patch()
    assert ghn_init.report_of(build(ghn_init=ghn)).predicted


def test_a_module_has_one_hook(undo):
    with pytest.raises(HookError, match="already has the hook 'torchvision'"):
        register_hook(hook_of(Swaps(), "another"))
