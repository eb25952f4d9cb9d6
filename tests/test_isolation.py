"""Random generators of the process: as before after a prediction, unless other threads may draw from them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from states import tiny_ghn
from torch import nn

import ghn_init
from ghn_init.isolation import own_generators

GHN = tiny_ghn()


class Drawing(nn.Module):
    """A model whose forward draws random numbers in ways that no recorder sees."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        nn.Linear(2, 2)
        torch.manual_seed(7)
        return self.layer(x) * (random.random() + np.random.rand())


def generators() -> tuple:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@contextmanager
def beside(daemon: bool) -> Iterator[None]:
    """Another thread lives during the block."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait, daemon=daemon)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def in_a_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join()


def draw() -> list[float]:
    return [torch.rand(()).item(), random.random(), np.random.rand()]


def test_a_forward_that_draws_leaves_the_generators_alone():
    model, before = Drawing(), generators()
    ghn_init.apply(model, GHN, example_inputs=torch.zeros(2, 4), head="predict")
    assert generators() == before


def test_background_threads_of_a_notebook_or_a_progress_bar_change_nothing():
    model, before = Drawing(), generators()
    with beside(daemon=True):
        ghn_init.apply(model, GHN, example_inputs=torch.zeros(2, 4), head="predict")
    assert generators() == before


def test_a_block_has_generators_of_its_own_even_on_an_error():
    before = generators()
    drawn = []

    def fail(seed: int) -> None:
        with own_generators(seed):
            drawn.append(draw())
            raise ZeroDivisionError

    for seed in (3, 3, 4):
        with pytest.raises(ZeroDivisionError):
            fail(seed)
        assert generators() == before
    assert drawn[0] == drawn[1] != drawn[2]


def test_beside_a_thread_that_may_draw_nothing_is_set_back():
    before = generators()
    with beside(daemon=False), own_generators(3):
        assert generators() == before
        draw()
    assert generators() != before


def test_in_a_thread_the_main_one_may_draw():
    before = generators()

    def work() -> None:
        with own_generators(3):
            draw()

    in_a_thread(work)
    assert generators() != before
