"""Search of spaces, and training of the best: budgets kept, runs repeated and resumed, the recipe trains."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from ghn_init import ConfigError, DataError
from ghn_init.ranking import rank, search, train_best
from ghn_init.training.data import fashion_mnist

QUICK = {"images": 128, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("test").head(256)


@pytest.mark.parametrize("method", ["random", "evolution", "tpe"])
def test_a_search_stays_within_its_budget_and_repeats(images, method):
    pytest.importorskip("optuna")
    options = {"method": method, "evaluations": 5, "population": 3, "max_parameters": 3e5, **QUICK}
    ranking, found = search("mixer", images, "bundled", **options)
    assert len(ranking) == len(found) == 5
    assert all(entry.parameters and entry.parameters <= 3e5 for entry in ranking)
    again, _ = search("mixer", images, "bundled", **options)
    assert [(e.name, e.score) for e in ranking] == [(e.name, e.score) for e in again]


def test_a_search_without_a_budget_or_a_method_is_refused(images):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match="needs a budget"):
        search("mixer", images, "bundled", evaluations=None)
    with pytest.raises(ConfigError, match="unknown family"):
        search("giraffe", images, "bundled")
    with pytest.raises(ConfigError, match="unknown method"):
        search("mixer", images, "bundled", method="luck")


def test_a_search_goes_on_where_it_was_interrupted(images, tmp_path):
    pytest.importorskip("optuna")
    scored = []

    def stop_at_third(entry, architecture):
        scored.append(entry.name)
        if len(scored) == 3:
            raise KeyboardInterrupt

    options = {"evaluations": 5, "resume": tmp_path / "search.jsonl", **QUICK}
    with pytest.raises(KeyboardInterrupt):
        search("mixer", images, "bundled", on_scored=stop_at_third, **options)
    before = (tmp_path / "search.jsonl").read_text().splitlines()
    ranking, _ = search("mixer", images, "bundled", **options)
    after = (tmp_path / "search.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    assert len(before) == 4
    assert len(after) == 6
    fresh, _ = search("mixer", images, "bundled", evaluations=5, **QUICK)
    assert [(e.name, e.score, e.best) for e in ranking] == [(e.name, e.score, e.best) for e in fresh]
    with pytest.raises(ConfigError, match="other settings"):
        search("mixer", images, "bundled", method="random", **options)


def test_several_families_are_searched_and_shares_of_being_best_add_up(images):
    pytest.importorskip("optuna")
    ranking, found = search(["mixer", "mobile"], images, "bundled", evaluations=6, method="random", **QUICK)
    assert {architecture.family for architecture in found.values()} == {"mixer", "mobile"}
    assert sum(entry.best for entry in ranking) == pytest.approx(1)


def test_minutes_end_a_search(images):
    pytest.importorskip("optuna")
    ranking, _ = search("mixer", images, "bundled", evaluations=None, minutes=1e-4, **QUICK)
    assert len(ranking) == 1


def small(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=4, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * width, 10),
    )


def test_the_best_are_trained_in_full_by_the_recipe(images):
    models = {"narrow": small(2), "middle": small(8), "wide": small(16)}
    ranking = rank(models, images, "bundled", **QUICK)
    train = fashion_mnist("train").head(2000)
    best = models[ranking.best.name]
    before = [parameter.clone() for parameter in best.parameters()]
    trained = train_best(ranking, models, train, images, top=2, steps=60, progress=False)
    assert {found.name for found in trained} == set(ranking.names[:2])
    assert [found.accuracy for found in trained] == sorted((t.accuracy for t in trained), reverse=True)
    assert trained[0].accuracy > 0.6
    assert len(trained[0].losses) == 60
    assert all(map(torch.equal, best.parameters(), before))
    again = train_best(ranking, models, train, images, top=2, steps=60, progress=False)
    assert [found.losses for found in trained] == [found.losses for found in again]
    from_ghn = train_best(ranking, models, train, images, top=1, steps=1, ghn="bundled", progress=False)
    assert from_ghn[0].losses != trained[0].losses[:1]


def test_training_takes_batches_and_says_what_is_wrong(images):
    with torch.device("meta"):
        empty = small(8)
    models = {"empty": empty}
    ranking = rank(models, images, "bundled", **QUICK)
    batches = list(images.batches(64))
    with pytest.raises(ConfigError, match="no weights to start from"):
        train_best(ranking, models, batches, images, steps=3, progress=False)
    assert len(train_best(ranking, models, batches, images, steps=6, ghn="bundled", progress=False)) == 1
    once = itertools.islice(images.batches(64), 2)
    with pytest.raises(DataError, match="goes by only once"):
        train_best(ranking, models, once, images, steps=6, ghn="bundled", progress=False)
    with pytest.raises(ConfigError, match="no candidate called empty"):
        train_best(ranking, {"other": small(8)}, batches, images)
    with pytest.raises(ConfigError, match="at least 1"):
        train_best(ranking, models, batches, images, top=0)


def test_the_command_searches_and_trains_the_best(tmp_path):
    pytest.importorskip("optuna")
    words = ["rank", "--space", "mixer", "--search", "random", "--samples", "2", "--images", "64"]
    words += ["--max-parameters", "1e5"]
    more = ["--train-best", "1", "--train-steps", "2", "--json", str(tmp_path / "r.json")]
    done = subprocess.run(
        [sys.executable, "-m", "ghn_init", *words, *more], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert len(entries) == 2
    assert done.stdout.splitlines()[-1].startswith(f"{entries[0]['name']}: ")
