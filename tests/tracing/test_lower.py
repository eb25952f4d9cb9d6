"""Properties of lowered graphs: reuse of weights, what is left out, order, outputs, size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, fx, nn

from ghn_init.errors import TraceError
from ghn_init.graph import ArchGraph
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import record

EXPORTED = ("mobilenet_v3_small", "swin_t", "convnext_tiny", "vit_b_32")


def graph_of(model: nn.Module, *inputs: Tensor, convention: str = "clean") -> ArchGraph:
    return lower(record(model, inputs), convention)


def kinds(graph: ArchGraph) -> list[str]:
    return [node.primitive for node in graph.nodes]


def reached(count: int, edges: list[tuple[int, int]], starts: set[int]) -> set[int]:
    seen, waiting = set(), list(starts)
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            waiting.extend(t for s, t in edges if s == index)
    return seen


class Shared(nn.Module):
    """One layer, applied in sequence or in parallel."""

    def __init__(self, parallel: bool) -> None:
        super().__init__()
        self.parallel = parallel
        self.layer = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.parallel:
            a, b = self.layer(x), self.layer(y)
            return self.head((a + a.flip(0)) * 2 + (b + b.flip(0)))
        return self.head(self.layer(self.layer(x)))


def test_layer_repeated_in_sequence_owns_its_weight_once() -> None:
    graph = graph_of(Shared(False), torch.zeros(2, 8), torch.zeros(2, 8))
    assert kinds(graph) == ["input"] + ["conv", "bias"] * 5
    owners = [[slot.name for slot in node.params] for node in graph.nodes]
    assert owners[5:9] == [[], [], [], []]
    assert [node.shape for node in graph.nodes[5:9]] == [node.shape for node in graph.nodes[1:5]]
    assert graph.edges == [(i, i + 1) for i in range(10)]


def test_layer_applied_in_parallel_is_one_node() -> None:
    graph = graph_of(Shared(True), torch.zeros(2, 8), torch.zeros(2, 8))
    assert kinds(graph) == ["input"] + ["conv", "bias"] * 3
    assert len(graph.slots) == 6


def test_towers_with_shared_weights_collapse_onto_one() -> None:
    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = torchvision.models.resnet18(num_classes=4)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return (self.tower(a) - self.tower(b)).abs()

    with torch.device("meta"):
        towers, image = Towers(), torch.empty(1, 3, 64, 64)
    graph, single = graph_of(towers, image, image), graph_of(towers.tower, image)
    assert kinds(graph) == kinds(single)
    assert graph.edges == single.edges


def test_embedding_used_as_classifier_is_a_node_without_a_slot() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(30, 8)
            self.fc = nn.Linear(8, 8)
            self.head = nn.Linear(8, 30, bias=False)
            self.head.weight = self.words.weight

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.fc(self.words(ids)))

    graph = graph_of(Tied(), torch.ones(2, 4, dtype=torch.long))
    assert kinds(graph) == ["input", "pos_enc", "conv", "bias", "conv"]
    assert graph.nodes[-1].params == ()
    assert graph.nodes[-1].shape == (30, 8)
    assert graph.tied == {"head.weight": "words.weight"}
    assert set(graph.slots) == {"words.weight", "fc.weight", "fc.bias"}


def test_cross_attention_with_packed_weights_is_one_projection() -> None:
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.Linear(8, 16)
            self.query = nn.Linear(8, 16)
            self.mha = nn.MultiheadAttention(16, 4)

        def forward(self, x: Tensor) -> Tensor:
            memory, query = self.memory(x), self.query(x)
            return self.mha(query, memory, memory)[0]

    graph = graph_of(Cross(), torch.zeros(5, 2, 8))
    assert kinds(graph) == ["input"] + ["conv", "bias"] * 3 + ["msa", "conv", "bias"]
    packed = graph.slots["mha.in_proj_weight"]
    assert graph.predecessors()[packed] == [graph.slots["memory.bias"], graph.slots["query.bias"]]


class Scan(nn.Module):
    """A gated recurrence over positions, as state-space layers write it out."""

    def __init__(self) -> None:
        super().__init__()
        self.decay, self.value, self.read = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        decay, value = self.decay(x).sigmoid(), self.value(x)
        state, states = torch.zeros(x.shape[0], 8), []
        for position in range(x.shape[1]):
            state = decay[:, position] * state + value[:, position]
            states.append(state)
        return self.read(torch.stack(states, 1))


class Unrolled(nn.Module):
    """A recurrent cell called for each position."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.read = nn.LSTMCell(8, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(x.shape[0], 4), torch.zeros(x.shape[0], 4)
        for position in range(x.shape[1]):
            state = self.cell(x[:, position], state)
        return self.read(state[0])


def test_graph_of_a_recurrent_cell_does_not_grow_with_the_sequence() -> None:
    short, long = (graph_of(Unrolled(), torch.zeros(2, length, 8)) for length in (6, 60))
    assert kinds(short) == kinds(long)
    assert short.edges == long.edges
    assert set(short.slots) == {name for name, _ in Unrolled().named_parameters()}


def test_graph_of_a_scan_does_not_grow_with_the_sequence() -> None:
    short, long = (graph_of(Scan(), torch.zeros(2, length, 8)) for length in (6, 60))
    assert kinds(short) == kinds(long)
    assert short.edges == long.edges
    assert (short.type_counts["sum"], short.type_counts["cse"]) == (2, 1), "a first step and one more"


def test_everything_left_out_has_a_reason() -> None:
    class Partial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Linear(8, 8)
            self.unused = nn.Linear(8, 8)
            self.chooses = nn.Linear(8, 8)
            self.gain = nn.Parameter(torch.ones(8))
            self.shift = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            x = self.used(x) * self.gain + self.shift
            return x[:, self.chooses(x).argmax(-1)]

    model = Partial()
    graph = graph_of(model, torch.zeros(2, 8))
    assert kinds(graph) == ["input", "conv", "bias"]
    assert graph.unreached == {
        "unused.weight": "not used by this forward",
        "unused.bias": "not used by this forward",
        "chooses.weight": "its result only chooses among values (indices, masks)",
        "chooses.bias": "its result only chooses among values (indices, masks)",
        "gain": "scales activations (mul in the model itself), as a layer scale, gate or temperature does",
        "shift": "a single number added to activations (add in the model itself)",
    }
    assert set(graph.slots) | set(graph.unreached) == {name for name, _ in model.named_parameters()}


def test_outputs_are_the_nodes_that_reach_them_through_wire() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(8, 8, bias=False) for _ in range(3))

        def forward(self, x: Tensor) -> dict[str, Any]:
            a = self.a(x)
            return {"features": F.relu(a), "heads": (self.b(a), [self.c(a).softmax(-1)])}

    graph = graph_of(Two(), torch.zeros(2, 8))
    assert graph.outputs == tuple(graph.slots[f"{name}.weight"] for name in "abc")


def test_order_and_edges_do_not_depend_on_names() -> None:
    def renamed(name: str) -> str:
        return "z" + name[::-1]

    class Renamed(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            for name, child in model.named_children():
                setattr(self, renamed(name), child)
            self.names = [renamed(name) for name, _ in model.named_children()]

        def forward(self, x: Tensor) -> Tensor:
            for name in self.names[:-1]:
                x = getattr(self, name)(x)
            return getattr(self, self.names[-1])(x.flatten(1))

    with torch.device("meta"):
        model, image = torchvision.models.resnet18(), torch.empty(1, 3, 64, 64)
    graph, again, other = graph_of(model, image), graph_of(model, image), graph_of(Renamed(model), image)
    assert graph.to_dict() == again.to_dict()
    assert kinds(graph) == kinds(other)
    assert graph.edges == other.edges


def test_every_node_is_on_a_path_from_a_source_to_an_output() -> None:
    with torch.device("meta"):
        models = [torchvision.models.get_model(name) for name in ("swin_t", "shufflenet_v2_x0_5", "vit_b_32")]
    for model in models:
        graph = graph_of(model, torch.empty(1, 3, 224, 224, device="meta"))
        count = len(graph)
        backward = [(t, s) for s, t in graph.edges]
        assert reached(count, backward, set(graph.outputs)) == set(range(count))
        sources = {i for i, before in enumerate(graph.predecessors()) if not before}
        assert all(i == 0 or graph.nodes[i].primitive == "pos_enc" for i in sources)


def test_mode_of_the_model_does_not_matter_where_the_forward_is_the_same() -> None:
    with torch.device("meta"):
        model, image = torchvision.models.efficientnet_b0(), torch.empty(1, 3, 224, 224)
    train, evaluation = graph_of(model.train(), image), graph_of(model.eval(), image)
    assert kinds(train) == kinds(evaluation)
    assert train.edges == evaluation.edges


def test_average_of_class_maps_comes_before_the_classifier_only_if_it_is_pointwise() -> None:
    def head(kernel: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, kernel), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

    image = torch.zeros(1, 3, 16, 16)
    assert kinds(graph_of(head(1), image)) == ["input", "conv", "bias", "glob_avg", "conv", "bias"]
    assert graph_of(head(1), image).outputs == (5,)
    assert kinds(graph_of(head(3), image)) == ["input", "conv", "bias", "conv", "bias", "glob_avg"]


def test_ghn3_convention_hangs_layers_without_bias_off_the_input() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 2))
    clean, old = (graph_of(model, torch.zeros(2, 8), convention=name) for name in ("clean", "ghn3"))
    assert [node.params[0].name for node in clean.nodes[1:]] == [name for name, _ in model.named_parameters()]
    assert clean.edges == [(i, i + 1) for i in range(5)]
    hanging, last = old.slots["2.weight"], old.slots["4.weight"]
    assert old.predecessors()[hanging] == [0]
    assert old.predecessors()[last] == sorted([hanging, old.slots["0.bias"]])


def test_unknown_convention_is_named() -> None:
    with pytest.raises(TraceError, match="unknown graph convention 'ghn9'; expected one of clean, ghn3"):
        graph_of(nn.Linear(8, 8), torch.zeros(2, 8), convention="ghn9")


@pytest.mark.parametrize("name", ["resnet18", *(pytest.param(n, marks=pytest.mark.slow) for n in EXPORTED)])
def test_export_lowers_to_the_same_graph(name: str) -> None:
    """``torch.export`` names operations by ATen; its graph is lowered by the same rules."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name).eval()
    image = torch.empty(1, 3, 224, 224, device="meta")
    ours, theirs = graph_of(model, image), lower(exported(model, image))
    assert [(n.primitive, n.params, n.shape) for n in ours.nodes] == [
        (n.primitive, n.params, n.shape) for n in theirs.nodes
    ]
    assert ours.edges == theirs.edges


def exported(model: nn.Module, *inputs: Tensor) -> Any:
    """A recording made of the core ATen operations of ``torch.export``."""
    program = torch.export.export(model, inputs, strict=False).run_decompositions()
    signature = program.graph_signature
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in program.graph.nodes:
        name = signature.inputs_to_parameters.get(node.name) or signature.inputs_to_buffers.get(node.name)
        name = name or signature.inputs_to_lifted_tensor_constants.get(node.name)
        if node.op == "placeholder" and name:
            copies[node] = graph.create_node("get_attr", name)
        elif node.op == "output":
            graph.output(copies[node.args[0][-1]])
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        value = node.meta.get("val")
        if node in copies:
            copies[node].meta = (
                {"shape": tuple(value.shape), "dtype": value.dtype} if isinstance(value, Tensor) else {}
            )
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    return SimpleNamespace(graph=graph, parameters=shapes, tied={}, name="")


def block(graph: fx.Graph, x: fx.Node, name: str, shapes: dict[str, tuple[int, ...]]) -> fx.Node:
    """A residual block of ten operations: layer, gate with a mean, attention, sum."""

    def call(function: Any, *args: Any, shape: tuple[int, ...] = (2, 8, 16)) -> fx.Node:
        node = graph.call_function(function, args)
        node.meta.update(shape=shape, dtype=torch.float32, module=name)
        return node

    shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (16, 16), (16,)
    weight, bias = (graph.create_node("get_attr", f"{name}.{role}") for role in ("weight", "bias"))
    y = call(F.relu, call(F.linear, x, weight, bias))
    squeezed = call(torch.mean, y, 1, True, shape=(2, 1, 16))
    y = call(torch.mul, y, call(torch.sigmoid, squeezed, shape=(2, 1, 16)))
    scores = call(torch.softmax, call(torch.matmul, y, call(torch.transpose, y, 1, 2)), -1)
    return call(torch.add, x, call(torch.matmul, scores, y))


def test_ten_thousand_nodes_are_lowered() -> None:
    blocks = 2500
    graph, shapes = fx.Graph(), {}
    x = graph.placeholder("x")
    x.meta.update(shape=(2, 8, 16), dtype=torch.float32)
    for index in range(blocks):
        x = block(graph, x, f"layer{index}", shapes)
    graph.output(x)
    lowered = lower(SimpleNamespace(graph=graph, parameters=shapes, tied={}))
    assert len(lowered) == 4 * blocks + 1
    assert lowered.type_counts["msa"] == blocks
    assert len(lowered.edges) == 5 * blocks
    assert lowered.unreached == {}


class Spiking(nn.Module):
    """Neurons that fire above a threshold; their spikes are scaled by a number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.factor = nn.Linear(4, 4), nn.Linear(4, 2), nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.second((self.first(x) > 1).float() * self.factor)


def test_spikes_carry_what_they_are_made_of() -> None:
    graph = lower(record(Spiking(), (torch.zeros(2, 4),)))
    assert list(graph.unreached) == ["factor"]
    assert graph.distances()[graph.slots["first.bias"], graph.slots["second.weight"]] == 1
