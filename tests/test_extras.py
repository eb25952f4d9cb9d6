"""Without the packages of an extra: the rest works, and what needs one of them says which extra brings it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WITHOUT = """
import importlib.machinery, json, logging, sys

missing = set(json.loads(sys.argv[1]))

class Others(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)

sys.meta_path = [Others if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
import torch
from torch import nn
import ghn_init
logging.disable(logging.CRITICAL)

def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))

x = torch.zeros(1, 3, 32, 32)
told = {}
for name, code in json.loads(sys.argv[2]).items():
    try:
        exec(code, {"torch": torch, "nn": nn, "ghn_init": ghn_init, "net": net, "x": x})
        told[name] = None
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print(json.dumps(told))
"""

WORKS = {
    "apply": "assert len(ghn_init.apply(net(), 'bundled', example_inputs=x, statistics=True).predicted) == 4",
    "page": "ghn_init.apply(net(), 'bundled', example_inputs=x).to_html('page.html')",
    "in a notebook": "assert ghn_init.apply(net(), 'bundled', example_inputs=x)._repr_html_()",
    "save and load": "ghn = ghn_init.GHN.from_pretrained('bundled'); ghn.save_pretrained('ghn'); "
    "ghn_init.GHN.from_pretrained('ghn')",
    "rank": "from ghn_init.training.data import fashion_mnist\n"
    "data = fashion_mnist('test', 'bundled').head(64)\n"
    "ranking = ghn_init.rank({'mine': net}, data, 'bundled', images=64)\n"
    "assert ranking.best.name == 'mine'; str(ranking); ranking._repr_html_()",
    "networkx": "ghn_init.trace(net(), x).to_networkx()",
    "cells": "from ghn_init.training import Space; Space({'cells': 1.0})[0].build()",
    "fractals": "from ghn_init.training.datasets import load_images; load_images('fractals:3', 'test')",
}

NEEDS = {
    "plot": {"draw a graph": "ghn_init.trace(net(), x).plot('graph.png')"},
    "timm": {
        "timm by name": "from ghn_init.cli.models import build; build('resnet18')",
        "torchvision by name": "from ghn_init.cli.models import build; build('torchvision:resnet18')",
        "demo": "from ghn_init.demo import run; run('resnet18', out=None)",
        "rank by name": "from ghn_init.ranking.candidates import candidates; "
        "candidates(['resnet18'])[0].build(10, (3, 32, 32))",
    },
    "transformers": {
        "transformers by name": "from ghn_init.cli.models import build; build('transformers:bert')",
    },
    "train": {
        "a family": "from ghn_init.training import Space; Space({'resnet': 1.0})[0].build()",
        "a folder": "from ghn_init.training.datasets import load_images; load_images('folder:here')",
        "torchvision's": "from ghn_init.training.datasets import load_images as f; f('torchvision:MNIST')",
        "real networks": "from ghn_init.training.real import *; build(SEEN_FAMILIES)",
    },
    "rank": {
        "search": "from ghn_init.ranking import search; search('cells', None, 'bundled', evaluations=1)",
        "data frame": "from ghn_init import Ranking; Ranking([], images=1, settings={}).to_pandas()",
        "properties": "from ghn_init.ranking import PropertyPredictor as P; "
        "P.fit([ghn_init.trace(net(), x)] * 20, range(20), ghn_init.GHN.from_pretrained('bundled'))",
        "digits": "from ghn_init.training.datasets import load_images; load_images('digits')",
    },
}

PACKAGES = [
    *("timm", "torchvision", "transformers", "accelerate", "matplotlib", "optuna"),
    *("pandas", "sklearn", "lz4", "rich", "datasets"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | None]:
    codes = WORKS | {name: code for each in NEEDS.values() for name, code in each.items()}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, json.dumps(PACKAGES), json.dumps(codes)],
        cwd=tmp_path_factory.mktemp("bare"),
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GHN_INIT_DATA": "bundled"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", WORKS)
def test_the_base_needs_no_extra(told, name: str):
    assert told[name] is None


@pytest.mark.parametrize(("extra", "name"), [(extra, name) for extra in NEEDS for name in NEEDS[extra]])
def test_what_needs_an_extra_names_it(told, extra: str, name: str):
    kind, message = told[name]
    assert kind == "MissingPackageError"
    assert re.search(rf"needs \w+, which is not installed: pip install 'ghn-init\[{extra}\]'$", message)


def test_every_named_extra_is_declared():
    declared = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
    named = {
        extra
        for path in (ROOT / "ghn_init").rglob("*.py")
        for extra in re.findall(r"ghn-init\[([\w,]+)\]|needed\(\"(\w+)\"", path.read_text())
        for extra in extra
        if extra
    }
    assert {each for extra in named for each in extra.split(",")} <= set(declared)
