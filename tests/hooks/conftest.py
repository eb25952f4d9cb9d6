"""A tiny GHN and small models for the tests of the constructor hooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import ghn_init


class NeverCopied(ghn_init.GHN):
    """A GHN that a hook must hand on as the very object it was given."""

    def __deepcopy__(self, memo: dict) -> NeverCopied:
        raise AssertionError("the GHN was deep-copied")


def tiny_ghn(seed: int) -> ghn_init.GHN:
    torch.manual_seed(seed)
    config = ghn_init.GHNConfig(hid=16, layers=1, heads=2, max_shape=(16, 16, 5, 5), num_classes=10)
    return NeverCopied(config).eval()


@pytest.fixture(scope="session")
def ghn() -> ghn_init.GHN:
    return tiny_ghn(0)


@pytest.fixture(scope="session")
def other_ghn() -> ghn_init.GHN:
    return tiny_ghn(1)


@pytest.fixture(scope="session")
def ghn_folder(ghn: ghn_init.GHN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-ghn")
    ghn.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def hooks_in_place() -> Iterator[None]:
    ghn_init.patch()
    yield
    ghn_init.patch()
