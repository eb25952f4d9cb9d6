"""Without the packages of an extra: the rest works, and what needs one of them says which extra brings it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from extra_cases import MESSAGE, NEEDS, WORKS, outcomes

ROOT = Path(__file__).resolve().parents[1]

PACKAGES = [
    *("timm", "torchvision", "transformers", "accelerate", "matplotlib", "optuna"),
    *("pandas", "sklearn", "lz4", "rich", "datasets", "PIL"),
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str] | None]:
    codes = WORKS | {name: code for each in NEEDS.values() for name, code in each.items()}
    return outcomes(codes, tmp_path_factory.mktemp("bare"), without=PACKAGES)


@pytest.mark.parametrize("name", WORKS)
def test_the_base_needs_no_extra(told, name: str):
    assert told[name] is None


@pytest.mark.parametrize(("extra", "name"), [(extra, name) for extra in NEEDS for name in NEEDS[extra]])
def test_what_needs_an_extra_names_it(told, extra: str, name: str):
    kind, message = told[name]
    assert kind == "MissingPackageError"
    assert (found := MESSAGE.search(message))
    assert found[1] == extra


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
