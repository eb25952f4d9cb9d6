"""The evidence about rankings: its taus and regrets are right on examples made by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def evidence():
    path = ROOT / "benchmarks" / "agreement.py"
    spec = importlib.util.spec_from_file_location("agreement", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_tau_of_examples_by_hand(evidence):
    once = np.ones((1, 4))
    truth = np.array([0.1, 0.2, 0.3, 0.4])
    assert evidence.taus(np.array([1.0, 2, 3, 4]), truth, once)[0] == pytest.approx(1)
    assert evidence.taus(np.array([4.0, 3, 2, 1]), truth, once)[0] == pytest.approx(-1)
    assert evidence.taus(np.array([2.0, 1, 3, 4]), truth, once)[0] == pytest.approx(4 / 6)  # one of 6 swapped
    assert np.isnan(evidence.taus(np.ones(4), truth, once)[0])


def test_tau_with_ties_and_in_resamples_is_that_of_scipy(evidence):
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    score, truth = rng.integers(0, 6, 20).astype(float), rng.integers(0, 9, 20).astype(float)
    score[3] = -np.inf
    weights = evidence.resamples(20, 10)
    found = evidence.taus(score, truth, weights)
    for row, tau in zip(weights, found, strict=True):
        drawn = np.repeat(np.arange(20), row.astype(int))
        assert tau == pytest.approx(stats.kendalltau(evidence.ranks(score)[drawn], truth[drawn]).statistic)


def test_regret_is_in_points_and_ties_are_broken_against_the_score(evidence):
    truth = np.array([0.9, 0.8, 0.7, 0.6])
    once = np.ones((1, 4))
    assert evidence.regrets(np.array([1.0, 2, 3, 4]), truth, once, top=2)[0] == pytest.approx(20)
    assert evidence.regrets(np.array([5.0, 2, 3, 4]), truth, once, top=2)[0] == pytest.approx(0)
    assert evidence.regrets(np.ones(4), truth, once, top=1)[0] == pytest.approx(30)
    without_best = np.array([[0.0, 2, 1, 1]])
    assert evidence.regrets(np.array([9.0, 1, 2, 3]), truth, without_best, top=1)[0] == pytest.approx(20)


def test_tau_of_pairs_that_count(evidence):
    truth, score = np.array([0.1, 0.2, 0.3, 0.4]), np.array([2.0, 1, 4, 3])
    same = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], bool)
    once = np.ones((1, 4))
    assert evidence.taus(score, truth, once, same)[0] == pytest.approx(-1)
    assert evidence.taus(score, truth, once, ~same)[0] == pytest.approx(1)
