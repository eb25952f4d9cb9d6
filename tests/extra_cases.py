"""What works without any extra of the package, what each extra brings, and what says which extra it needs.

    python tests/extra_cases.py EXTRA

checks an environment in which the package is installed with that extra alone (``base`` for none);
``nox -s extras`` makes such environments from the wheel and runs this in each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HEAD = """
import logging
import torch
from torch import nn
import ghn_init
logging.disable(logging.CRITICAL)

def net():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7200, 10))

x = torch.zeros(1, 3, 32, 32)
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
"""Code that needs no extra."""

IMAGES = "import numpy, PIL.Image as I\nfrom pathlib import Path\nfor s in ('train', 'test'):\n"
IMAGES += "    for c in 'ab': Path('here', s, c).mkdir(parents=True); "
IMAGES += "I.fromarray(numpy.zeros((8, 8, 3), 'uint8')).save(f'here/{s}/{c}/1.png')\n"

NEEDS = {
    "plot": {"draw a graph": "ghn_init.trace(net(), x).plot('graph.png')"},
    "timm": {
        "timm by name": "from ghn_init.cli.models import build; build('resnet10t')",
        "torchvision by name": "from ghn_init.cli.models import build; build('torchvision:resnet18')",
        "demo": "from ghn_init.demo import run; run('resnet10t', out=None, steps=2, train_images=128,\n"
        "    test_images=64, ghn='bundled', data_root='bundled')",
        "rank by name": "from ghn_init.ranking.candidates import candidates; "
        "candidates(['resnet10t'])[0].build(10, (3, 32, 32))",
    },
    "transformers": {
        "transformers by name": "from ghn_init.cli.models import build; "
        "build('transformers:bert', {'num_hidden_layers': 1, 'hidden_size': 48})",
    },
    "train": {
        "a family": "from ghn_init.training import Space; Space({'resnet': 1.0})[0].build()",
        "real networks": "from ghn_init.training.real import build; build({'resnet10t': {}})",
        "a folder": "from ghn_init.training.datasets import load_images as f\n"
        + "try: import PIL\nexcept ImportError: pass\nelse:\n"
        + "".join(f"    {line}\n" for line in IMAGES.splitlines())
        + "f('folder:here')",
    },
    "rank": {
        "search": "from ghn_init.ranking import search; from ghn_init.training.data import fashion_mnist\n"
        "search('cells', fashion_mnist('test', 'bundled').head(64), 'bundled', evaluations=1, images=64)",
        "data frame": "from ghn_init import Ranking; from ghn_init.ranking import Ranked\n"
        "Ranking([Ranked('a', score=1.0)], images=1, settings={}).to_pandas()",
        "properties": "from ghn_init.ranking import PropertyPredictor as P\n"
        "P.fit([ghn_init.trace(net(), x)] * 20, range(20), ghn_init.GHN.from_pretrained('bundled'))",
        "digits": "from ghn_init.training.datasets import load_images; load_images('digits')",
    },
}
"""Extra → code that raises MissingPackageError without it."""

BRINGS = {
    "timm": [
        "import timm; assert ghn_init.report_of(timm.create_model('resnet10t', ghn_init='bundled'))",
    ],
    "transformers": [
        "from transformers import AutoModel, BertConfig\n"
        "c = BertConfig(hidden_size=48, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64)\n"
        "assert ghn_init.report_of(AutoModel.from_config(c, ghn_init='bundled'))",
    ],
    "lz4": [
        "import lz4.frame, pickle; from pathlib import Path\n"
        "Path('f.pt').write_bytes(lz4.frame.compress(pickle.dumps({'state_dict': {}})))\n"
        "try: ghn_init.GHN.from_pretrained('f.pt')\n"
        "except ghn_init.CheckpointError as error: assert 'no state dict' in str(error), error",
    ],
    "rich": ["import rich; rich.print(ghn_init.apply(net(), 'bundled', example_inputs=x))"],
}
"""Extra → further code that works with it."""

COMMANDS = {
    "base": [
        "--version",
        "--help",
        "trace torch.nn:Linear --set in_features=8 --set out_features=4 --input 1,8",
    ],
    "timm": ["demo --steps 2 --train-images 128 --test-images 64 --data bundled --out demo"],
    "train": [
        "train quick run --steps 2 --data bundled",
        "evaluate bundled --data bundled --images 64 --nets 4",
    ],
    "transformers": ["trace transformers:bert --set num_hidden_layers=1"],
    "plot": ["trace torch.nn:Linear --set in_features=8 --set out_features=4 --input 1,8 --picture g.png"],
}
"""Extra → command lines of ghn-init that work with it."""

PACKAGES = {
    **{"plot": ["matplotlib"], "timm": ["timm", "torchvision"], "transformers": ["transformers"]},
    **{"train": ["timm", "torchvision"], "rank": ["optuna", "pandas", "sklearn"]},
}
"""Extra → what of it code imports."""

OTHERS = {
    "train": {"timm", "train"},
    "all": {"timm", "transformers", "train", "plot", "rank", "lz4", "rich"},
}
"""Extra → the extras whose packages it brings, where that is not itself alone."""

MESSAGE = re.compile(r"needs \w+, which is not installed: pip install 'ghn-init\[(\w+)\]'$")


RUNNER = """
import contextlib, importlib.machinery, io, json, sys

missing = set(json.loads(sys.argv[1]))

class Others(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else super().find_spec(name, path, target)

if missing:
    sys.meta_path = [Others if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
told = {}
for name, code in json.loads(sys.argv[3]).items():
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(sys.argv[2] + code, {})
        told[name] = None
    except Exception as error:
        told[name] = [type(error).__name__, str(error)]
print(json.dumps(told))
"""


def outcomes(codes: dict[str, str], folder: Path, without: Collection[str] = ()) -> dict[str, Any]:
    """Run code in a process of its own, as if some packages were not installed.

    Args:
        codes: Name → code.
        folder: Where the process works.
        without: Packages.

    Returns:
        Name → None, or what was raised: its type and message.
    """
    done = python(folder, "-c", RUNNER, json.dumps(list(without)), HEAD, json.dumps(codes))
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, without the Hub."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "GHN_INIT_DATA": "bundled", "GHN_INIT_DEFAULT": "bundled"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def check(extra: str, folder: Path) -> None:
    """Check an environment with one extra.

    Raises:
        AssertionError: Something does not work, works that should not, or asks for the wrong extra.
    """
    held = OTHERS.get(extra, {extra})
    brings = {f"{each} {i}": code for each in held for i, code in enumerate(BRINGS.get(each, []))}
    found = outcomes(
        WORKS | brings | {n: code for codes in NEEDS.values() for n, code in codes.items()}, folder
    )
    for other, codes in NEEDS.items():
        for name in codes:
            told = found.pop(name)
            if other in held or all(find_spec(package) for package in PACKAGES[other]):
                assert told is None, (name, told)
            else:
                assert told is not None, f"{name} works without {other}"
                asked = MESSAGE.search(told[1])
                assert asked, told
                assert asked[1] == other, told
                print(f"{name}: asks for {other}")
    for name, told in found.items():
        assert told is None, (name, told)
    for each in sorted(held | {"base"}):
        for command in COMMANDS.get(each, []):
            done = python(folder, "-m", "ghn_init", *command.split())
            assert done.returncode == 0, f"ghn-init {command}\n{done.stderr[-2000:]}"
            print(f"ghn-init {command}: works")
    print(f"{extra}: {len(found)} others work")


if __name__ == "__main__":
    import ghn_init

    assert Path(ghn_init.__file__).parts[-3] == "site-packages", "the checkout was imported, not the wheel"
    with tempfile.TemporaryDirectory() as place:
        check(sys.argv[1], Path(place))
