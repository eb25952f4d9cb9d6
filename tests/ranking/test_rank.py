"""Ranking: real candidates on real images, failures listed, interruptions survived, modules left alone."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from states import Snapshot
from torch import nn

import ghn_init
from ghn_init import ConfigError, DataError, Ranking
from ghn_init.ranking import PropertyPredictor, rank, register_proxy, sample_space
from ghn_init.ranking.proxies import PROXIES
from ghn_init.training.data import fashion_mnist
from ghn_init.training.spaces import Space, held_out

QUICK = {"images": 128, "batch_size": 64, "progress": False}


def net(width: int = 16, classes: int = 10) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride=2, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


class Breaks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 10)

    def forward(self, x):
        return self.layer(x)


@pytest.fixture(scope="module")
def images():
    return fashion_mnist("test").head(256)


@pytest.fixture(scope="module")
def mixed(images) -> Ranking:
    candidates = {
        "given": net(16),
        "called": partial(net, 24),
        "drawn": held_out("resnet", 1)[0],
        "resnet10t": "resnet10t",
        "breaks": Breaks(),
        "no such model": "no_such_model",
        "no module": lambda: 3,
    }
    return rank(
        candidates,
        images,
        "bundled",
        proxies=["synflow", "naswot", "grad_norm"],
        measure_latency=True,
        **QUICK,
    )


def test_all_kinds_of_candidates_are_ranked_and_failures_have_reasons(mixed):
    assert set(mixed.names) == {"given", "called", "drawn", "resnet10t"}
    assert [entry.score for entry in mixed][:4] == sorted(
        (e.score for e in mixed if not e.error), reverse=True
    )
    assert set(mixed.failed) == {"breaks", "no such model", "no module"}
    assert "no_such_model" in mixed.failed["no such model"]
    assert "not a torch.nn.Module" in mixed.failed["no module"]
    assert "linear" in mixed.failed["breaks"]


def test_predicted_weights_tell_trained_families_from_chance(mixed):
    assert mixed["drawn"].score > 0.5
    assert mixed.best.name in ("drawn", "resnet10t")


def test_costs_are_those_of_the_networks(mixed):
    model = net(16)
    assert mixed["given"].parameters == sum(p.numel() for p in model.parameters())
    first, second, head = 2 * 16 * 16 * 27 * 16, 2 * 8 * 8 * 9 * 16 * 16, 2 * 16 * 10
    assert mixed["given"].flops == first + second + head
    assert mixed["given"].latency > 0
    assert mixed["given"].predicted == 1.0


def test_proxies_are_finite_and_tell_networks_apart(mixed):
    for name in ("synflow", "naswot", "grad_norm"):
        values = [mixed[entry].proxies[name] for entry in mixed.names]
        assert np.isfinite(values).all()
        assert len(set(values)) == len(values)


def test_intervals_hold_the_score_and_shares_add_up(mixed):
    for entry in (mixed[name] for name in mixed.names):
        assert entry.low <= entry.score <= entry.high
    assert sum(mixed[name].best for name in mixed.names) == pytest.approx(1)


def test_tables_and_files_show_the_same_ranking(mixed, tmp_path):
    text = str(mixed)
    assert [line.split()[1] for line in text.splitlines()[1:5]] == mixed.names
    assert "not ranked: no module" in text
    assert mixed._repr_html_().count("<tr>") == 5
    mixed.to_json(tmp_path / "ranking.json")
    assert str(Ranking.from_dict(json.loads((tmp_path / "ranking.json").read_text()))) == text


def test_a_data_frame_holds_every_candidate(mixed):
    pytest.importorskip("pandas")
    frame = mixed.to_pandas()
    assert list(frame.index) == [entry.name for entry in mixed]
    assert frame.loc["given", "parameters"] == mixed["given"].parameters
    assert "naswot" in frame.columns


def test_the_picture_is_drawn_for_every_cost(mixed, tmp_path):
    for cost in ("parameters", "flops", "latency"):
        mixed.plot(tmp_path / f"{cost}.png", cost=cost)
        assert (tmp_path / f"{cost}.png").stat().st_size > 10_000
    with pytest.raises(ConfigError, match="cost must be one of"):
        mixed.plot(cost="beauty")


def test_the_front_is_what_no_cheaper_one_beats(mixed):
    front = mixed.pareto("flops")
    assert front[-1].name == mixed.best.name
    assert [e.flops for e in front] == sorted(e.flops for e in front)
    assert [e.score for e in front] == sorted(e.score for e in front)


def test_given_modules_are_left_as_they_are_and_the_result_repeats(images):
    model = net(16).train()
    before, generator = Snapshot(model), torch.get_rng_state()
    first = rank({"a": model, "b": partial(net, 8)}, images, "bundled", **QUICK)
    assert not before.changed()
    assert model.training
    assert torch.equal(generator, torch.get_rng_state())
    again = rank({"b": partial(net, 8), "a": model}, images, "bundled", **QUICK)
    assert [(e.name, e.score, e.low, e.best) for e in first] == [
        (e.name, e.score, e.low, e.best) for e in again
    ]


def test_candidates_are_freed_one_at_a_time(images):
    alive: list[weakref.ref] = []
    most = []

    def build() -> nn.Module:
        gc.collect()
        most.append(sum(reference() is not None for reference in alive))
        model = net(8)
        alive.append(weakref.ref(model))
        return model

    rank(dict.fromkeys("abcd", build), images, "bundled", proxies=["naswot"], steps=1, **QUICK)
    assert most == [0, 0, 0, 0]


def test_candidates_on_the_meta_device_score_as_real_ones(images):
    with torch.device("meta"):
        empty = net(16)
    ranking = rank({"real": net(16), "meta": empty}, images, "bundled", **QUICK)
    assert ranking["real"].score == ranking["meta"].score
    assert all(parameter.is_meta for parameter in empty.parameters())


def test_cheap_steps_change_the_score_and_train_on_other_images(images):
    train = fashion_mnist("train").head(640)
    plain = rank({"a": partial(net, 16)}, images, "bundled", **QUICK)
    after = rank({"a": partial(net, 16)}, images, "bundled", steps=10, train_data=train, **QUICK)
    assert after["a"].score > plain["a"].score
    halves = rank({"a": partial(net, 16)}, images, "bundled", steps=2, **QUICK)
    assert halves.images == 128
    with pytest.raises(DataError, match="more than one batch"):
        rank({"a": partial(net, 16)}, images.head(32), "bundled", steps=2, **QUICK)


def batches(count: int = 2, labels: int = 10):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        images = torch.randn(16, 3, 32, 32, generator=generator)
        yield images, torch.randint(0, labels, (16,), generator=generator)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "holds no labelled example"),
        ((torch.zeros(3, 3, 8, 8), torch.zeros(2).long()), "3 inputs but 2 labels"),
        ([(torch.zeros(3, 3, 8, 8), torch.zeros(3))], "class indices"),
        ([(torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, -1]))], "start at 0"),
        ([torch.zeros(3, 3, 8, 8)], "a batch must be"),
        (
            [(torch.zeros(3, 3, 8, 8), torch.tensor([0, 1, 12]))],
            "labels go up to 12, and bundled predicts 10",
        ),
        ([(torch.zeros(3, 32, 32, 3), torch.arange(3))], r"\(3, 32, 32, 3\) have their channels last"),
        ((torch.zeros(3, 3, 8, 8, dtype=torch.uint8), torch.arange(3)), "are torch.uint8: scale them"),
        (
            [(torch.zeros(3, 3, 8, 8), torch.arange(3)), (torch.zeros(3, 3, 9, 9), torch.arange(3))],
            r"\(3, 8, 8\) and \(3, 9, 9\)",
        ),
        ("imagenet", "unknown data set 'imagenet'"),
        (3, "not a int"),
    ],
)
def test_wrong_data_fails_at_once_with_the_numbers(data, said):
    built = []
    with pytest.raises(DataError, match=said):
        rank({"a": lambda: built.append(1) or net()}, data, "bundled", **QUICK)
    assert not built


def test_data_that_no_candidate_takes_fails_with_the_numbers():
    grey = (torch.randn(64, 1, 28, 28), torch.arange(64) % 10)
    with pytest.raises(DataError, match=r"no candidate takes the data, of shape \(1, 28, 28\)"):
        rank([net(8) for _ in range(5)], grey, "bundled", **QUICK)
    with pytest.raises(DataError, match=r"of shape \(3, S, S\), and the data's are \(1, 28, 28\)"):
        rank(held_out("resnet", 2), grey, "bundled", **QUICK)
    with pytest.raises(DataError, match=r"shape \(3, 32, 32\), and data of shape \(1, 28, 28\)"):
        rank([net(8)], grey, "bundled", steps=1, train_data=fashion_mnist("test").head(64), **QUICK)


def test_broken_candidates_first_do_not_hide_that_the_data_is_right(images):
    ranking = rank([*(Breaks() for _ in range(4)), net(8)], images, "bundled", **QUICK)
    assert len(ranking.failed) == 4
    assert ranking.names == ["Sequential-4"]


def test_a_model_with_too_few_classes_is_listed(images):
    ranking = rank({"few": net(8, classes=4), "ten": net(8)}, images, "bundled", **QUICK)
    assert "4 classes and the labels go up to 9" in ranking.failed["few"]
    assert ranking.names == ["ten"]


@pytest.mark.parametrize(
    ("models", "options", "said"),
    [
        ({}, {}, "no candidates"),
        (["resnet10t", "resnet10t"], {}, "two candidates are called resnet10t"),
        (net(), {}, "several models"),
        ({"a": 3}, {}, "not a int"),
        ({"a": net()}, {"proxies": ["luck"]}, "no proxy is called 'luck'"),
        ({"a": net()}, {"steps": -1}, "steps must be at least 0"),
    ],
)
def test_wrong_arguments_are_named(models, options, said):
    with pytest.raises(ConfigError, match=said):
        rank(models, list(batches()), "bundled", **{**QUICK, **options})


def test_loaders_and_mappings_are_data_too(images):
    class Keyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(8)

        def forward(self, pixel_values):
            return {"logits": self.net(pixel_values)}

    pairs = list(batches())
    named = [{"pixel_values": images, "labels": labels} for images, labels in pairs]
    by_tuple = rank({"a": net(8)}, pairs, "bundled", **QUICK)
    torch.manual_seed(0)
    by_name = rank({"a": Keyword()}, named, "bundled", **QUICK)
    assert by_tuple.images == by_name.images == 32
    assert by_name.names == ["a"]


def test_an_interrupted_ranking_goes_on_where_it_stopped(images, tmp_path):
    built: list[str] = []

    def make(name: str, stop: bool = False):
        def build() -> nn.Module:
            if stop:
                raise KeyboardInterrupt
            built.append(name)
            return net(8)

        return build

    record = tmp_path / "ranking.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rank({"a": make("a"), "b": make("b", stop=True)}, images, "bundled", resume=record, **QUICK)
    with record.open("a") as file:
        file.write('{"entry": {"na')  # cut off while writing
    ranking = rank({"a": make("a"), "b": make("b")}, images, "bundled", resume=record, **QUICK)
    assert built == ["a", "b"]
    assert set(ranking.names) == {"a", "b"}
    done = rank({"a": make("a"), "b": make("b")}, images, "bundled", resume=record, **QUICK)
    assert built == ["a", "b"]
    assert str(done) == str(ranking)
    with pytest.raises(ConfigError, match="other settings"):
        rank({"a": make("a")}, images, "bundled", resume=record, steps=2, **QUICK)
    with pytest.raises(ConfigError, match=r"other settings \(data"):
        rank({"a": make("a")}, fashion_mnist("train").head(256), "bundled", resume=record, **QUICK)
    (tmp_path / "other").write_text("hello\n")
    with pytest.raises(ConfigError, match="not the record of a ranking"):
        rank({"a": make("a")}, images, "bundled", resume=tmp_path / "other", **QUICK)


def test_processes_give_the_same_ranking(images):
    models = {f"{family}-{i}": a for family in ("mixer", "resnet") for i, a in enumerate(held_out(family, 2))}
    alone = rank(models, images, "bundled", **QUICK)
    shared = rank(models, images, "bundled", workers=2, **QUICK)
    assert [(e.name, e.score) for e in alone] == [(e.name, e.score) for e in shared]
    with pytest.raises(ConfigError, match="sent to another process"):
        rank({"a": lambda: net(8), "b": lambda: net(8)}, images, "bundled", workers=2, **QUICK)


KILLED = """
import sys
from ghn_init.ranking import rank
from ghn_init.training.data import fashion_mnist
from ghn_init.training.spaces import held_out

if __name__ == "__main__":
    models = dict(enumerate(held_out("mixer", 6)))
    rank(models, fashion_mnist("test").head(64), "bundled", images=64, workers=2, resume=sys.argv[1])
"""


def test_a_ranking_killed_outright_leaves_no_process_and_goes_on(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    record = tmp_path / "r.jsonl"
    words = [sys.executable, str(tmp_path / "killed.py"), str(record)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as process:
        while process.poll() is None and (not record.exists() or len(record.read_text().splitlines()) < 3):
            time.sleep(0.05)
        process.kill()
        assert process.stderr
        process.stderr.read()  # ends when no process that inherited the pipe is left
    before = record.read_text()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert record.read_text().startswith(before)
    assert len(record.read_text().splitlines()) >= 7


def test_a_registered_proxy_is_computed():
    @register_proxy("depth")
    def depth(model, inputs, labels):
        return float(sum(isinstance(module, nn.Conv2d) for module in model.modules()))

    try:
        ranking = rank({"a": net()}, list(batches()), "bundled", proxies=["depth"], **QUICK)
        assert ranking["a"].proxies == {"depth": 2.0}
    finally:
        del PROXIES["depth"]


def test_a_space_is_sampled_within_its_budget():
    space = Space({"cells": 1.0, "mixer": 1.0}, seed=3)
    drawn = sample_space(space, 6, max_parameters=60_000, max_flops=2e7)
    assert len(drawn) == 6
    assert drawn == sample_space(space, 6, max_parameters=60_000, max_flops=2e7)
    for architecture in drawn.values():
        assert sum(p.numel() for p in architecture.build().parameters()) <= 60_000
    with pytest.raises(ConfigError, match="0 of 2 architectures"):
        sample_space(space, 2, max_parameters=10, draws=20)


def test_a_property_is_predicted_from_graphs():
    pytest.importorskip("sklearn")
    ghn = ghn_init.GHN.from_pretrained(Path(ghn_init.__file__).parent / "assets" / "bundled")
    graphs, sizes = [], []
    for architecture in held_out("mixer", 60):
        model = architecture.build()
        graphs.append(ghn_init.trace(model, torch.zeros(1, 3, 32, 32)))
        sizes.append(float(np.log(sum(p.numel() for p in model.parameters()))))
    predictor = PropertyPredictor.fit(graphs[:50], sizes[:50], ghn, folds=5)
    assert np.corrcoef(predictor.held_out, predictor.values)[0, 1] > 0.8
    assert np.abs(predictor.predict(graphs[50:]) - sizes[50:]).mean() < 0.5
    with pytest.raises(ConfigError, match="at least 20"):
        PropertyPredictor.fit(graphs[:6], sizes[:6], ghn)


def test_the_command_ranks_and_writes(tmp_path):
    words = [
        "rank",
        "--space",
        "mixer",
        "--samples",
        "2",
        "--images",
        "64",
        "--json",
        str(tmp_path / "r.json"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "ghn_init", *words, "--plot", str(tmp_path / "r.png")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "r.json").read_text())["entries"]
    assert [line.split()[1] for line in done.stdout.splitlines()[1:]] == [entry["name"] for entry in entries]
    assert (tmp_path / "r.png").exists()
