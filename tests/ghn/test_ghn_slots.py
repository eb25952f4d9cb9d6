"""Slots of every shape: decoded in it, or listed with the reason."""

from __future__ import annotations

import pytest
import torch

from ghn_init.ghn import GHN, GHNConfig
from ghn_init.graph import ArchGraph, Node, ParamSlot


@pytest.fixture(scope="module")
def ghn() -> GHN:
    torch.manual_seed(0)
    return GHN(GHNConfig(hid=16, layers=1, heads=4, num_classes=10, max_shape=(12, 12, 5, 5)))


def graph_of(primitive: str, shape: tuple[int, ...], op: str = "", role: str = "weight") -> ArchGraph:
    node = Node(primitive, (ParamSlot("slot", shape, role),), shape, op=op)  # type: ignore[arg-type]
    return ArchGraph((Node("input"), node, Node("ln")), [(0, 1), (1, 2)], outputs=(2,))


@pytest.mark.parametrize(
    ("primitive", "shape", "op"),
    [
        ("conv", (40, 30), "linear"),
        ("conv", (1, 30), "linear"),
        ("conv", (30, 1), "linear"),
        ("conv", (20, 6, 3), "conv1d"),
        ("conv", (1, 6, 4), "conv1d"),
        ("sep_conv", (24, 1, 9), "conv1d"),
        ("conv", (20, 6, 3, 5), "conv2d"),
        ("conv", (1, 6, 1, 1), "conv2d"),
        ("conv", (1, 2, 31, 31), "conv2d"),
        ("conv", (8, 6, 2, 2), "conv_transpose2d"),
        ("conv", (16, 6, 3, 3, 3), "conv3d"),
        ("conv", (16, 3, 2, 16, 16), "conv3d"),
        ("conv", (4, 4, 2, 2, 2, 2), "conv"),
        ("conv", (8, 40, 20), "bmm"),
        ("conv", (128, 7, 5), "grouped_mm"),
        ("pos_enc", (1, 17, 24), "add"),
        ("pos_enc", (1, 16, 24), "add"),
        ("pos_enc", (1, 50, 24), "add"),
        ("pos_enc", (1, 70, 24), "add"),
        ("pos_enc", (1, 8, 14, 14), "add"),
        ("pos_enc", (7, 24), "embedding"),
        ("ln", (40,), "layer_norm"),
        ("ln", (40, 1, 1), "layer_norm"),
        ("bn", (1, 40, 1, 1), "mul"),
        ("bias", (40,), "add"),
    ],
)
def test_a_tensor_of_any_usual_shape_is_decoded(ghn, primitive, shape, op):
    graph = graph_of(primitive, shape, op, "bias" if primitive == "bias" else "weight")
    tensor = ghn.predict(graph, head="predict")["slot"]
    assert tensor.shape == shape
    assert tensor.isfinite().all()
    assert ghn(graph, head="predict")["slot"].shape == shape


@pytest.mark.parametrize(
    ("primitive", "shape", "said"),
    [
        ("conv", (0, 3), "empty"),
        ("conv", (), "scalar"),
        ("pos_enc", (1, 1, 24), "token"),
        ("pos_enc", (30522, 24), "30522 rows"),
        ("ln", (8, 14, 14), "no decoder for a ln tensor"),
        ("bias", (4, 9, 9), "no decoder for a bias tensor"),
        ("cse", (4, 9), "no decoder for a cse tensor"),
    ],
)
def test_a_tensor_without_a_decoder_is_listed_with_the_reason(ghn, primitive, shape, said):
    graph = graph_of(primitive, shape)
    assert ghn.predict(graph) == {}
    assert said in ghn.plan(graph).kept["slot"]


def test_stacked_matrices_differ_from_each_other(ghn):
    stack = ghn.predict(graph_of("conv", (8, 12, 12), "bmm"))["slot"]
    similarity = torch.corrcoef(stack.flatten(1)).fill_diagonal_(0)
    assert similarity.abs().max() < 0.999


def test_a_tensor_wider_than_the_decoder_repeats_whole_blocks(ghn):
    weight = ghn.predict(graph_of("conv", (30, 26, 3, 3)))["slot"]
    assert torch.equal(weight[12:24], weight[:12])
    assert torch.equal(weight[24:], weight[:6])
    assert torch.equal(weight[:, 12:24], weight[:, :12])
    assert torch.equal(weight[:, 24:], weight[:, :2])


def test_scale_follows_the_fan_in_of_the_final_tensor():
    config = GHNConfig(hid=16, layers=1, heads=4, num_classes=10, max_shape=(12, 12, 5, 5))
    torch.manual_seed(0)
    scaled = GHN(config)
    raw = GHN(GHNConfig(**{**config.to_dict(), "weight_norm": False}))
    raw.load_state_dict(scaled.state_dict())
    for primitive, shape, squared in (
        ("conv", (40, 30), 2 / 30),
        ("conv", (40, 30, 3, 3), 2 / 270),
        ("sep_conv", (40, 1, 3, 3), 1 / 9),
        ("conv", (40, 30, 1, 5), 1 / 150),
        ("conv", (40, 30, 5, 1), 2 / 150),
    ):
        graph = graph_of(primitive, shape)
        factor = scaled.predict(graph)["slot"] / raw.predict(graph)["slot"]
        torch.testing.assert_close(factor, torch.full(shape, squared**0.5))
    for role, primitive, bounds in (("weight", "ln", (0.0, 2.0)), ("bias", "bias", (-1.0, 1.0))):
        values = scaled.predict(graph_of(primitive, (12,), role=role))["slot"]
        assert bounds[0] < values.min()
        assert values.max() < bounds[1]
