"""Models without a forward of their own."""

from __future__ import annotations

import pytest
import torch
from states import tiny_ghn
from torch import Tensor, nn

import ghn_init
from ghn_init.coverage.edges import Comparison, compare_edges
from ghn_init.errors import InputError, TraceError


class Rivals(nn.Module):
    """A generator beside its critic, layers in containers, and a tensor that nothing uses."""

    def __init__(self, *more: nn.Module) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12))
        self.critic = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 1))
        self.more = nn.ModuleList([nn.Conv2d(3, 4, 3), nn.ModuleDict({"a": nn.LayerNorm(4)}), *more])
        self.scale = nn.Parameter(torch.ones(3))


class Picky(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        raise RuntimeError("not today")


def test_each_part_is_traced_by_itself() -> None:
    model = Rivals()
    graph = ghn_init.trace(model)
    assert graph.unreached == {"scale": "not used by this forward"}
    assert set(graph.slots) == {name for name, _ in model.named_parameters()} - {"scale"}
    assert len(graph.outputs) == 4
    apart = graph.distances()[graph.slots["generator.2.bias"], graph.slots["critic.0.weight"]]
    assert apart == graph.distances()[graph.slots["critic.0.weight"], graph.slots["generator.2.bias"]] == 0
    assert compare_edges(model) == Comparison()


def test_parts_that_share_a_layer_have_one_node_for_it() -> None:
    model = Rivals()
    model.critic[0] = model.generator[0]
    graph = ghn_init.trace(model, {"critic": torch.zeros(2, 8)}, on_untraceable="keep")
    assert graph.tied == {"critic.0.weight": "generator.0.weight", "critic.0.bias": "generator.0.bias"}


def test_inputs_of_parts_can_be_given() -> None:
    model = nn.ModuleDict({"image": nn.Conv2d(3, 4, 3), "text": nn.Embedding(9, 4)})
    graph = ghn_init.trace(model, {"image": torch.zeros(1, 3, 5, 5)})
    assert set(graph.slots) == {"image.weight", "image.bias", "text.weight"}
    with pytest.raises(InputError, match=r"dict of the inputs of some of them \(image, text\)"):
        ghn_init.trace(model, torch.zeros(1, 3, 5, 5))


def test_a_part_that_fails_is_told_and_can_be_left_out_or_kept() -> None:
    model = Rivals(Picky(3, 3))
    with pytest.raises(TraceError, match=r"part 'more.2' .* leaf='more.2'.*not today"):
        ghn_init.trace(model)
    left = ghn_init.trace(model, leaf="more.2")
    assert left.unreached["more.2.weight"] == "inside leaf module 'more.2'"
    report = ghn_init.apply(model, tiny_ghn(), on_untraceable="keep")
    assert "not today" in report.kept["more.2.bias"]
    assert {"generator.0.weight", "more.0.weight"} <= report.predicted.keys()
