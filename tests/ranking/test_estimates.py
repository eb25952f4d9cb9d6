"""Scores estimated from other candidates: exact on small examples, and asked for through ``rank``."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import ghn_init
from ghn_init import ConfigError
from ghn_init.ranking import PropertyPredictor, Ranking, rank
from ghn_init.ranking.estimates import FEWEST, expected, smoothed
from ghn_init.ranking.regression import STRENGTHS, leave_one_out
from ghn_init.training.data import fashion_mnist
from ghn_init.training.spaces import held_out

QUICK = {"images": 64, "batch_size": 32, "progress": False, "start": "own", "steps": 2}


def made(noise: float, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features ``(N, 6)``, a truth between 0 and 1 smooth in them ``(N,)``, noisy accuracies ``(N, 1)``."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(count, 6))
    truth = 1 / (1 + np.exp(-features @ rng.normal(size=6) / 2))
    return features, truth, np.clip(truth + noise * rng.normal(size=count), 0, 1)[:, None]


def test_closed_form_leaves_each_one_out_as_a_refit_does():
    linear = pytest.importorskip("sklearn.linear_model")
    features, _, values = made(0.3, 25)
    x = (features - features.mean(0)) / features.std(0)
    by_strength = []
    for strength in STRENGTHS:
        found = np.empty(len(x))
        for i in range(len(x)):
            others = np.arange(len(x)) != i
            model = linear.Ridge(strength)
            # the closed form keeps the centre of all rows: an unpenalised column of ones in place of it
            ones = np.column_stack([x, np.full(len(x), 1e4)])
            model.fit_intercept = False
            found[i] = model.fit(ones[others], values[others, 0]).predict(ones[i : i + 1])[0]
        by_strength.append((np.square(found - values[:, 0]).mean(), found))
    best = min(by_strength, key=lambda pair: pair[0])[1]
    assert leave_one_out(features, values)[:, 0] == pytest.approx(best, abs=1e-5)


def test_smoothing_takes_noise_away_and_treats_resamples_alike():
    features, truth, noisy = made(0.4)
    found = smoothed(np.column_stack([noisy, noisy, 0.5 * noisy]), features)
    assert np.corrcoef(found[:, 0], truth)[0, 1] > np.corrcoef(noisy[:, 0], truth)[0, 1] + 0.05
    assert found[:, 1] == pytest.approx(found[:, 0])
    assert found[:, 2] == pytest.approx(0.5 * found[:, 0])


def test_what_trained_ones_lead_to_expect_of_the_others():
    pytest.importorskip("sklearn")
    features, truth, noisy = made(0.1)
    known = {i: float(truth[i]) for i in range(0, 60, 2)}
    found = expected(np.repeat(noisy, 4, 1), features, np.full(60, 1e6), known, seed=0)
    assert found[::2] == pytest.approx(np.repeat(truth[::2, None], 4, 1))
    assert np.corrcoef(found[1::2, 0], truth[1::2])[0, 1] > 0.9
    assert (found[1::2, 1:].std(1) > 0).all()
    assert ((found > 0) & (found < 1)).all()


def net(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    )


@pytest.fixture(scope="module")
def widths():
    return {f"net {width}": partial(net, width) for width in range(2, 2 + FEWEST)}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    return tmp_path_factory.mktemp("record") / "r.jsonl"


@pytest.fixture(scope="module")
def plain(widths, record) -> Ranking:
    return rank(widths, fashion_mnist("test").head(128), "bundled", resume=record, **QUICK)


def test_own_weights_are_scored_after_steps(plain):
    assert len(plain.names) == FEWEST
    assert all(entry.predicted == 0 for entry in plain)
    assert all(entry.score == entry.accuracy for entry in plain)


def test_scores_are_smoothed_from_the_same_record(plain, widths, record):
    before = record.read_text()
    images = fashion_mnist("test").head(128)
    found = rank(widths, images, "bundled", smooth=True, resume=record, **QUICK)
    assert record.read_text() == before
    assert {e.name: e.accuracy for e in found} == {e.name: e.score for e in plain}
    scores, accuracies = (np.array([getattr(e, key) for e in found]) for key in ("score", "accuracy"))
    assert scores.std() < accuracies.std()
    assert sum(entry.best for entry in found) == pytest.approx(1)
    assert "correct %" in str(found).splitlines()[0]
    assert "correct %" not in str(plain).splitlines()[0]
    turned = rank(dict(reversed(widths.items())), images, "bundled", smooth=True, resume=record, **QUICK)
    assert [e.name for e in turned] == [e.name for e in found]
    assert str(Ranking.from_dict(json.loads(found.to_json()))) == str(found)


def test_trained_candidates_are_as_they_are_and_the_others_in_between(plain, widths, record):
    pytest.importorskip("sklearn")
    images = fashion_mnist("test").head(128)
    more = {**widths, "net 30": partial(net, 30)}
    trained = {name: 0.5 + 0.01 * int(name.split()[1]) for name in widths}
    found = rank(more, images, "bundled", trained=trained, resume=record, **QUICK)
    assert {e.name: e.score for e in found if e.name in trained} == pytest.approx(trained)
    assert 0.5 < found["net 30"].score < 0.95
    assert found["net 30"].low < found["net 30"].high
    assert found.settings["estimate"] == "trained"


def test_both_starts_are_averaged(widths, plain):
    some = {name: widths[name] for name in list(widths)[:3]}
    images = fashion_mnist("test").head(128)
    by_start = {
        s: rank(some, images, "bundled", **{**QUICK, "start": s}) for s in ("predicted", "own", "both")
    }
    for name in some:
        predicted, own, both = (by_start[start][name] for start in ("predicted", "own", "both"))
        assert own.score == plain[name].score
        assert both.score == pytest.approx((predicted.score + own.score) / 2)
        assert both.low <= both.score <= both.high
        assert both.predicted == predicted.predicted > 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smooth": True, "models": {"a": "resnet10t"}}, "smoothing needs at least 20 candidates, and there"),
        ({"smooth": True, "trained": {}}, "give one"),
        ({"trained": {"net 2": 0.5}}, "accuracies of 1 candidates; a regression needs at least 20"),
        ({"trained": {"net 99": 0.5}}, "'net 99', which is no candidate"),
        ({"trained": {f"net {i}": 80 for i in range(2, 22)}}, "must be between 0 and 1; one is 80"),
        ({"start": "own", "steps": 0}, "give steps="),
        ({"start": "luck"}, "start must be one of predicted, own, both"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_built(widths, options, said):
    built: list[int] = []
    models = {name: lambda: built.append(1) or net(2) for name in widths}
    with pytest.raises(ConfigError, match=said):
        rank(
            **{
                "models": models,
                "data": fashion_mnist("test").head(128),
                "ghn": "bundled",
                **QUICK,
                **options,
            }
        )
    assert not built


def test_a_model_on_the_meta_device_has_no_own_weights_to_start_from():
    with torch.device("meta"):
        empty = net(4)
    found = rank({"empty": empty, "real": net(4)}, fashion_mnist("test").head(128), "bundled", **QUICK)
    assert "no weights of its own" in found.failed["empty"]
    assert found.names == ["real"]


def test_a_share_is_predicted_on_its_scale_with_measurements_beside():
    pytest.importorskip("sklearn")
    ghn = ghn_init.GHN.from_pretrained(Path(ghn_init.__file__).parent / "assets" / "bundled")
    graphs = [ghn_init.trace(a.build(), torch.zeros(1, 3, 32, 32)) for a in held_out("mixer", 24)]
    hidden = np.random.default_rng(0).normal(size=24)
    shares = 1 / (1 + np.exp(-3 * hidden))
    options = {"scale": "logit", "folds": 5}
    without = PropertyPredictor.fit(graphs, shares.tolist(), ghn, **options)
    beside = PropertyPredictor.fit(graphs, shares.tolist(), ghn, beside=hidden, **options)
    assert ((without.held_out > 0) & (without.held_out < 1)).all()
    assert np.corrcoef(beside.held_out, shares)[0, 1] > 0.7 > np.corrcoef(without.held_out, shares)[0, 1]
    assert np.abs(beside.predict(graphs[:3], hidden[:3]) - shares[:3]).max() < 0.3
    for wrong, said in (
        (lambda: beside.predict(graphs[:3]), "the same columns of beside"),
        (lambda: beside.predict(graphs[:3], hidden), "24 rows for 3 graphs"),
        (lambda: PropertyPredictor.fit(graphs, [2.0] * 24, ghn, **options), "between 0 and 1; one is 2.0"),
        (lambda: PropertyPredictor.fit(graphs, shares.tolist(), ghn, scale="odd"), "scale must be one of"),  # type: ignore[arg-type]
    ):
        with pytest.raises(ConfigError, match=said):
            wrong()


def test_the_command_names_a_wrong_file_of_trained_accuracies(tmp_path):
    (tmp_path / "t.json").write_text("[1")
    words = ["rank", "resnet10t", "--trained", str(tmp_path / "t.json")]
    done = subprocess.run(
        [sys.executable, "-m", "ghn_init", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "t.json" in done.stderr
    assert "Traceback" not in done.stderr
