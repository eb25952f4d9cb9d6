"""Random models through the whole pipeline: applied or refused with an error of the library, never half done.

``benchmarks/fuzz_models.py`` runs many more, each drawn from a number.
"""

from __future__ import annotations

import random
import warnings

import pytest
import torch
from fuzz_checks import Property, check_model, demand
from fuzz_models import Description, Fuzzed, Naming, describe
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from states import tiny_ghn

import ghn_init

GHN = tiny_ghn()


@st.composite
def descriptions(draw: st.DrawFn) -> Description:
    """Models without names; see :func:`fuzz_models.describe`."""
    return describe(draw(st.randoms(use_true_random=False)))


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate,),
)
@given(description=descriptions(), names=st.integers(0, 2**16))
def test_any_model_is_applied_or_refused(description, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_model(description, GHN, Naming(names))


def test_the_strategy_draws_what_it_says():
    """Most models can be applied, and every kind of layer, wiring and outcome comes up."""
    drawn = [describe(random.Random(f"0/{index}")) for index in range(150)]
    kinds = {part.kind for each in drawn for part in each.parts}
    assert {"Linear", "Conv2d", "LayerNorm", "Embedding", "Block", "Parameter", "Attention"} <= kinds
    assert any(part.tied_to for each in drawn for part in each.parts)
    assert any(part.decoration for each in drawn for part in each.parts)
    assert {"cat", "add", "in place", "branch", "token"} <= {step.op for each in drawn for step in each.steps}
    assert len({each.passing for each in drawn}) == 4
    assert sum(len(each.steps) for each in drawn) > 6 * len(drawn)


@pytest.mark.parametrize("index", range(5))
def test_a_description_is_one_function_under_any_names(index):
    description = describe(random.Random(f"names/{index}"))
    models = [Fuzzed(description), Fuzzed(description, Naming(index))]
    first, second = (dict(model.identities()) for model in models)
    assert first.keys() == second.keys()
    for identity, name in first.items():
        mine, other = models[0].get_parameter(name), models[1].get_parameter(second[identity])
        assert torch.equal(mine, other)


def test_a_child_called_as_a_wrapper_calls_its_own_is_a_child():
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._orig_mod = torch.nn.Linear(4, 5)
            self.module = torch.nn.Linear(5, 6)

        def forward(self, x):
            return self.module(self._orig_mod(x).relu())

    report = ghn_init.apply(Model(), GHN, example_inputs=torch.zeros(2, 4), head="predict")
    assert sorted(report.predicted) == ["_orig_mod.bias", "_orig_mod.weight", "module.bias", "module.weight"]


def test_a_finding_is_reported():
    with pytest.raises(Property, match="two"):
        demand(1 == 2, "two")
