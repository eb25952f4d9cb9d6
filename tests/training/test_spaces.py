"""Spaces of random architectures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ghn_init import ConfigError
from ghn_init.graph.primitives import PRIMITIVES
from ghn_init.tracing.trace import trace
from ghn_init.training.config import MIXED
from ghn_init.training.families import FAMILIES, Family, register_family
from ghn_init.training.spaces import HELD_OUT_NUMBER, Space, held_out


def test_a_stream_depends_on_its_seed_and_index_alone():
    space = Space(MIXED, seed=3)
    forward = [space[i].fingerprint for i in range(20)]
    backward = [Space(MIXED, seed=3)[i].fingerprint for i in reversed(range(20))]
    assert forward == backward[::-1]
    assert len(set(forward)) == 20
    assert forward != [Space(MIXED, seed=4)[i].fingerprint for i in range(20)]


def test_iterating_a_space_goes_on_and_agrees_with_indexing():
    space = Space({"cells": 1.0})
    stream = iter(space)
    assert [next(stream).fingerprint for _ in range(30)] == [space[i].fingerprint for i in range(30)]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_held_out_set_is_frozen_and_never_drawn(family: str):
    kept = held_out(family, HELD_OUT_NUMBER)
    fingerprints = {architecture.fingerprint for architecture in kept}
    assert len(fingerprints) == HELD_OUT_NUMBER
    assert [a.fingerprint for a in held_out(family, 5)] == [a.fingerprint for a in kept[:5]]
    space = Space({family: 1.0}, seed=0)
    assert fingerprints.isdisjoint(space[i].fingerprint for i in range(1500))


@pytest.mark.parametrize("family", FAMILIES)
def test_architectures_build_the_same_twice_and_classify_small_images(family: str):
    for architecture in held_out(family, 2):
        model, again = architecture.build(), architecture.build()
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        assert shapes == {name: tuple(p.shape) for name, p in again.named_parameters()}
        assert model.eval()(torch.randn(2, 3, 32, 32)).shape == (2, 10)


def test_the_space_covers_every_primitive():
    seen: set[str] = set()
    for family in ("cells", "resnet", "mobile", "vit"):
        for architecture in held_out(family, 12):
            seen.update(trace(architecture.build(), torch.zeros(1, 3, 32, 32)).type_counts)
            if seen == set(PRIMITIVES):
                return
    pytest.fail(f"not covered: {sorted(set(PRIMITIVES) - seen)}")


def test_unknown_families_and_too_many_held_out_networks_are_refused():
    with pytest.raises(ConfigError, match="unknown families"):
        Space({"transformers": 1.0})
    with pytest.raises(ConfigError, match="no family has a positive weight"):
        Space({"cells": 0.0})
    with pytest.raises(ConfigError, match="the held-out set has 100"):
        held_out("cells", 101)


@pytest.fixture
def no_family_stays():
    known = list(FAMILIES)
    yield
    for name in set(FAMILIES) - set(known):
        del FAMILIES[name]


@pytest.mark.usefixtures("no_family_stays")
def test_a_registered_family_is_drawn_held_out_and_leaves_the_others_alone():
    before = [Space({"resnet": 1.0}, seed=3)[i] for i in range(3)]
    register_family(
        "wide",
        Family(
            sample=lambda rng: {"width": rng.randint(1, 999)},
            build=lambda args, classes, side: nn.Sequential(
                nn.Flatten(), nn.Linear(3 * side**2, args["width"]), nn.Linear(args["width"], classes)
            ),
        ),
    )
    assert [Space({"resnet": 1.0}, seed=3)[i] for i in range(3)] == before
    drawn = Space({"wide": 1.0}, seed=0)[0]
    assert drawn.build(7, 8)(torch.zeros(2, 3, 8, 8)).shape == (2, 7)
    assert drawn.fingerprint not in {each.fingerprint for each in held_out("wide", 100)}
    with pytest.raises(ConfigError, match="there already"):
        register_family("wide", FAMILIES["resnet"])


def test_the_splits_lie_outside_the_distribution_of_training():
    def most(family: str, key: str) -> int:
        return max(each.args[key] for each in held_out(family, 40))

    assert min(each.args["channels"] for each in held_out("cells-wide", 40)) > most("cells", "channels")
    assert min(each.args["cells"] for each in held_out("cells-deep", 40)) > most("cells", "cells")
    steps = [len(each.args["normal"]) for each in held_out("cells", 40)]
    assert min(len(each.args["normal"]) for each in held_out("cells-dense", 40)) > max(steps)
    assert {each.args["norm"] for each in held_out("cells-bn-free", 40)} == {"ln", "none"}
