"""predict, iter_groups and forward: determinism, symmetries, errors, heads."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import golden_arch_graph
from random_graphs import graphs, random_graph, renamed, reordered

from ghn_init.errors import ConfigError, PredictionError
from ghn_init.ghn import GHN, GHNConfig
from ghn_init.ghn.encoders import ENCODERS
from ghn_init.graph import ArchGraph, Node, ParamSlot


def small_ghn(encoder: str = "graphormer", **changes) -> GHN:
    torch.manual_seed(0)
    config = {"hid": 16, "layers": 2, "heads": 4, "num_classes": 10, "max_shape": (12, 12, 5, 5)}
    return GHN(GHNConfig(**{**config, "encoder": encoder, **changes}))


def assert_same_bits(first, second):
    assert list(first) == list(second)
    for name in first:
        assert torch.equal(first[name], second[name]), name


def assert_close(first, second, tolerance=1e-10):
    assert set(first) == set(second)
    for name in first:
        error = (first[name] - second[name]).norm()
        assert error <= tolerance * second[name].norm(), name


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=15, deadline=None)
@given(graph=graphs())
def test_every_slot_is_predicted_in_its_shape(encoder, graph):
    ghn = small_ghn(encoder)
    tensors = ghn.predict(graph)
    assert list(tensors) == list(graph.slots)
    assert ghn.plan(graph) == (graph.slots, {})
    for node in graph.nodes:
        for slot in node.params:
            assert tensors[slot.name].shape == slot.shape
            assert tensors[slot.name].isfinite().all()


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 99))
def test_a_repeat_and_other_names_give_the_same_bits(encoder, graph, seed):
    ghn = small_ghn(encoder)
    tensors = ghn.predict(graph)
    assert_same_bits(ghn.predict(graph), tensors)
    other = ghn.predict(renamed(graph, "new."))
    assert_same_bits({name.removeprefix("new."): value for name, value in other.items()}, tensors)


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(graph=graphs(), seed=st.integers(0, 99))
def test_another_topological_order_gives_the_same_values(encoder, graph, seed):
    ghn = small_ghn(encoder).double()
    assert_close(ghn.predict(reordered(graph, seed)), ghn.predict(graph))


@pytest.mark.parametrize("encoder", ENCODERS)
@settings(max_examples=10, deadline=None)
@given(several=st.lists(graphs(), min_size=1, max_size=4))
def test_forward_on_several_graphs_equals_predict_on_each(encoder, several):
    ghn = small_ghn(encoder).double()
    together = ghn(several)
    assert len(together) == len(several)
    for found, graph in zip(together, several, strict=True):
        assert_close(found, ghn.predict(graph))
        assert_close(ghn(graph), ghn.predict(graph))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_reach_every_parameter(encoder):
    ghn = small_ghn(encoder)
    tensors = ghn([random_graph(seed, 40) for seed in range(3)])
    sum(value.pow(2).sum() for found in tensors for value in found.values()).backward()
    for name, parameter in ghn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_groups_are_streamed_with_memory_of_their_own():
    ghn, graph = small_ghn(), golden_arch_graph("resnet18")
    parts = list(ghn.iter_groups(graph, head="predict"))
    assert len(parts) > 5
    joined = {name: value for part in parts for name, value in part.items()}
    assert sum(map(len, parts)) == len(joined)
    assert_same_bits({name: joined[name] for name in graph.slots}, ghn.predict(graph, head="predict"))
    pointers = {value.untyped_storage().data_ptr() for value in joined.values()}
    assert len(pointers) == len(joined)
    assert all(value.is_contiguous() and not value.requires_grad for value in joined.values())


def test_global_random_state_gradients_and_mode_are_left_alone():
    ghn, graph = small_ghn(), golden_arch_graph("vit_b_16")
    ghn.train()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.enable_grad():
        for part in ghn.iter_groups(graph, head="predict"):
            assert torch.is_grad_enabled()
            assert part
    assert torch.equal(torch.get_rng_state(), state)
    assert ghn.training


def test_the_seed_draws_the_class_token_row_and_nothing_else():
    ghn, graph = small_ghn(), golden_arch_graph("vit_b_16")
    first, second = ghn.predict(graph, seed=1), ghn.predict(graph, seed=2)
    name = "encoder.pos_embedding"
    assert not torch.equal(first[name][:, :1], second[name][:, :1])
    assert first[name][:, :1].std().item() == pytest.approx(0.02, rel=0.5)
    first[name], second[name] = first[name][:, 1:], second[name][:, 1:]
    assert_same_bits(first, second)


@pytest.mark.slow
@pytest.mark.parametrize("encoder", ENCODERS)
def test_bits_do_not_depend_on_the_number_of_threads(encoder):
    script = textwrap.dedent(
        """
        import hashlib, sys, torch
        sys.path[:0] = sys.argv[3:]
        from test_ghn_predict import small_ghn
        from parity import golden_arch_graph
        torch.set_num_threads(int(sys.argv[2]))
        ghn = small_ghn(sys.argv[1], hid=64, heads=8, max_shape=(64, 64, 16, 16), num_classes=1000)
        for network in ("resnet50", "swin_t"):
            tensors = ghn.predict(golden_arch_graph(network))
            digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in tensors.values()))
            print(network, digest.hexdigest())
        """
    )
    paths = [os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__)), os.getcwd()]
    digests = [
        subprocess.run(
            [sys.executable, "-c", script, encoder, threads, *paths],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for threads in ("1", "2")
    ]
    assert digests[0].count("\n") == 2
    assert digests[0] == digests[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("weight", "parameter"),
    [
        ("decoder.output.bias", "conv1.weight"),
        ("vectors.output.bias", "bn1"),
        ("norm.weight", r"(conv1|bn1)\.weight"),
    ],
)
def test_values_that_are_not_finite_are_an_error_that_names_the_parameter(weight, parameter, value):
    ghn = small_ghn()
    with torch.no_grad():
        ghn.get_parameter(weight)[0] = value
    with pytest.raises(PredictionError, match=rf"NaN or infinity for {parameter}"):
        ghn.predict(golden_arch_graph("resnet18"))


def test_autocast_of_the_caller_changes_no_bit():
    ghn, graph = small_ghn(), golden_arch_graph("resnet18")
    expected = ghn.predict(graph)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bits(ghn.predict(graph), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_ghn_in_half_precision_predicts_about_the_same(encoder, dtype):
    ghn, graph = small_ghn(encoder), golden_arch_graph("resnet18")
    expected = ghn.predict(graph)
    found = ghn.to(dtype).predict(graph)
    assert all(value.dtype == dtype for value in found.values())
    assert_close({name: value.float() for name, value in found.items()}, expected, tolerance=0.05)


def test_a_ghn_on_the_meta_device_is_refused():
    ghn = small_ghn().to("meta")
    with pytest.raises(PredictionError, match="on the meta device"):
        ghn.predict(random_graph(0, 5))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda ghn: pickle.loads(pickle.dumps(ghn))], ids=["deepcopy", "pickle"]
)
def test_a_copy_of_a_used_ghn_predicts_the_same(copied):
    ghn, graph = small_ghn(), random_graph(1, 20)
    expected = ghn.predict(graph)
    assert_same_bits(copied(ghn).predict(graph), expected)


def test_skipped_names_are_left_out_and_do_not_change_the_others():
    ghn, graph = small_ghn().double(), golden_arch_graph("resnet18")
    every = ghn.predict(graph)
    some = ghn.predict(graph, skip=["conv1.weight", "bn1.bias"])
    assert set(every) - set(some) == {"conv1.weight", "bn1.bias"}
    assert_close(some, {name: every[name] for name in some})
    assert ghn.plan(graph, skip=["bn1.bias"]).kept["bn1.bias"] == "left out by the caller"


def test_a_classifier_of_another_class_count_keeps_its_values_unless_asked_for():
    ghn, graph = small_ghn(num_classes=10), golden_arch_graph("resnet18")
    assert ghn.head_slots(graph) == ["fc.weight", "fc.bias"]
    plan = ghn.plan(graph)
    assert set(plan.kept) == {"fc.weight", "fc.bias"}
    assert "1000" in plan.kept["fc.weight"]
    assert set(ghn.predict(graph)) == set(plan.predicted) == set(graph.slots) - set(plan.kept)
    assert ghn.predict(graph, head="predict")["fc.weight"].shape == (1000, 512)
    same = small_ghn(num_classes=1000)
    assert not same.plan(graph).kept
    assert set(same.plan(graph, head="keep").kept) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize(
    ("network", "slots"),
    [
        ("squeezenet1_1", ["classifier.1.weight", "classifier.1.bias"]),
        ("swin_t", ["head.weight", "head.bias"]),
        ("vit_b_16", ["heads.head.weight", "heads.head.bias"]),
        ("mobilenet_v3_large", ["classifier.3.weight", "classifier.3.bias"]),
    ],
)
def test_classifiers_are_found_through_pooling(network, slots):
    assert small_ghn().head_slots(golden_arch_graph(network)) == slots


def test_classifiers_are_found_behind_a_long_chain_of_sums():
    """Each sum adds what came before it to a pooled copy: 2 ** 1500 ways lead back."""
    nodes, edges, last = (
        [Node("input"), Node("conv", (ParamSlot("head.weight", (10, 8)),), (10, 8))],
        [(0, 1)],
        1,
    )
    for _ in range(1500):
        pooled, total = len(nodes), len(nodes) + 1
        nodes += [Node("max_pool", (), (1, 1, 3, 3)), Node("sum")]
        edges += [(last, pooled), (last, total), (pooled, total)]
        last = total
    assert small_ghn().head_slots(ArchGraph(tuple(nodes), edges, (last,))) == ["head.weight"]


def test_an_unknown_choice_for_the_head_is_refused():
    with pytest.raises(ConfigError, match="head must be one of"):
        small_ghn().predict(random_graph(0, 5), head="drop")  # type: ignore[arg-type]


def test_a_graph_of_the_input_alone_has_nothing_to_predict():
    graph = ArchGraph((Node("input"),), [])
    for encoder in ENCODERS:
        assert small_ghn(encoder).predict(graph) == {}
        assert small_ghn(encoder)([graph, graph]) == [{}, {}]
