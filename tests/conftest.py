"""Shared test set-up: one thread by default, tests/ importable for helpers such as ``parity``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent))


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """The library logs nothing; its level is put back, for later tests read what it logs."""
    logger = logging.getLogger("ghn_init")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(level)
