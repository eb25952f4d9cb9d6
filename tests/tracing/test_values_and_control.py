"""Forwards that loop, branch or differentiate on values that nobody computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import ghn_init
from ghn_init.coverage.suites.plain_entries import Forward
from ghn_init.errors import TraceError

X = torch.empty(2, 8)


def layers(function: Callable[..., Any], **more: Any) -> nn.Module:
    return Forward(function, a=nn.Linear(8, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 3), **more)


def while_positive(m: Any, x: Tensor) -> Tensor:
    while (x.norm() > 1e-3).item():
        x = m.a(x) + m.b(x)
    return m.c(x)


def while_number(m: Any, x: Tensor) -> Tensor:
    while x.norm().item() < 10:
        x = m.a(x) + m.b(x)
    return m.c(x)


def until_done(m: Any, x: Tensor) -> Tensor:
    while True:
        x = m.a(x) + m.b(x)
        if x.max() > 1:
            return m.c(x)


@pytest.mark.parametrize("forward", [while_positive, while_number, until_done])
def test_a_loop_that_ends_by_a_value_runs_a_few_times(forward: Callable[..., Any]) -> None:
    graph = ghn_init.trace(layers(forward), X)
    assert not graph.unreached
    assert 1 <= sum(node.primitive == "sum" for node in graph.nodes) <= 5


def test_more_questions_than_a_loop_is_allowed_are_answered_where_they_end() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        for step in range(600):
            if x[0, 0] > step:
                x = x + 1
        return m.c(m.b(m.a(x)))

    assert not ghn_init.trace(layers(forward), X).unreached


def test_a_loop_without_an_end_is_an_error_that_says_where() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        while x.norm().item() is not None:
            x = m.a(x)
        return x

    with pytest.raises(TraceError, match=r"asked more than \d+ times at .*test_values_and_control") as told:
        ghn_init.trace(layers(forward), X)
    assert 'on_untraceable="keep"' in str(told.value)


def test_both_branches_of_a_conditional_operator_are_read() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.c(torch.cond(x.sum() > 0, lambda x: m.a(x), lambda x: m.b(x), (x,)))

    graph = ghn_init.trace(layers(forward), X)
    assert not graph.unreached
    distances = graph.distances()
    for layer in ("a", "b"):
        assert distances[graph.slots[f"{layer}.bias"], graph.slots["c.weight"]] == 1
    assert distances[graph.slots["a.weight"], graph.slots["b.weight"]] <= 0


def test_a_known_condition_chooses_one_branch() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.c(torch.cond(torch.tensor(x.shape[0] > 1), lambda x: m.a(x), lambda x: m.b(x), (x,)))

    assert ghn_init.trace(layers(forward), X).unreached.keys() == {"b.weight", "b.bias"}


def test_scans_and_maps_are_read() -> None:
    scan = pytest.importorskip("torch._higher_order_ops.scan").scan
    mapped = pytest.importorskip("torch._higher_order_ops.map").map

    def forward(m: Any, x: Tensor) -> Tensor:
        def step(state: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
            state = (m.a(row) + m.b(state)).tanh()
            return state, state.clone()

        state, rows = scan(step, torch.zeros(2, 8), x)
        return mapped(lambda row: m.c(row), rows).mean(0) + state[:, :3]

    assert not ghn_init.trace(layers(forward), torch.empty(5, 2, 8)).unreached


def test_a_derivative_inside_is_one_step() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        x = x.requires_grad_(True)
        (slope,) = torch.autograd.grad(m.b(m.a(x).tanh()).sum(), x, create_graph=True)
        return m.c(slope)

    graph = ghn_init.trace(layers(forward), X)
    assert graph.distances()[graph.slots["b.bias"], graph.slots["c.weight"]] == 1


def test_the_bias_beside_a_generated_weight_is_predicted() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.c(F.linear(x, m.make(x.mean(0)).view(8, 8), m.b.bias) + m.a(x))

    graph = ghn_init.trace(layers(forward, make=nn.Linear(8, 64)), X)
    assert graph.nodes[graph.slots["b.bias"]].primitive == "bias"
    assert graph.unreached.keys() == {"b.weight"}


def test_a_generator_is_read_to_its_end() -> None:
    def forward(m: Any, x: Tensor) -> Any:
        for layer in (m.a, m.b, m.c):
            x = layer(x)
            yield x

    graph = ghn_init.trace(layers(forward), X)
    assert len(graph.outputs) == 3


def test_a_sparse_matrix_that_nobody_computed_has_values_in_all_places() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        scores = m.a(x).t() @ m.b(x)
        sparse = (scores * (scores > 0)).to_sparse_coo()
        return m.c(x.new_zeros(8, 8).index_put((sparse.indices()[0], sparse.indices()[1]), sparse.values()))

    assert not ghn_init.trace(layers(forward), X).unreached


class Wrapped(torch.autograd.Function):
    """Puts two scaled values into one tensor, as libraries of low precision do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return pytest.importorskip("torch.testing._internal.two_tensor").TwoTensor(x * 2, x / 2)


def test_tensors_inside_a_tensor_are_followed() -> None:
    graph = ghn_init.trace(layers(lambda m, x: m.c(Wrapped.apply(m.b(m.a(x))))), X)
    assert not graph.unreached
    assert graph.distances()[graph.slots["b.bias"], graph.slots["c.weight"]] == 1


def test_linear_layers_made_float8_are_seen_through() -> None:
    convert = pytest.importorskip("torchao.float8").convert_to_float8_training
    model = convert(nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16)))
    assert [node.primitive for node in ghn_init.trace(model).nodes] == ["input", *["conv", "bias"] * 2]


def test_inputs_follow_from_a_pattern_before_the_first_layer() -> None:
    rearrange = pytest.importorskip("einops.layers.torch").Rearrange
    cut = rearrange("b c (h p) (w q) -> b (h w) (p q c)", p=16, q=16)
    patches = nn.Sequential(cut, nn.LayerNorm(768), nn.Linear(768, 8), nn.Conv1d(16, 4, 1))
    assert not ghn_init.trace(patches).unreached
