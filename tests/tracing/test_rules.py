"""What each kind of operation becomes in the graph, on small modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.graph import ArchGraph
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import record
from ghn_init.tracing.rules import register_rule
from ghn_init.tracing.rules.functions import base_function
from ghn_init.tracing.rules.registry import _RULES, find_rule

IMAGE = (2, 8, 16, 16)
TOKENS = (2, 10, 16)


def graph_of(model: nn.Module, *shapes: tuple[int, ...], convention: str = "clean") -> ArchGraph:
    return lower(record(model, tuple(torch.randn(shape) for shape in shapes)), convention)


def kinds(graph: ArchGraph) -> list[str]:
    return [node.primitive for node in graph.nodes]


def chain(graph: ArchGraph) -> list[tuple[str, tuple[str, ...]]]:
    """Types and parameters of a graph that is one chain."""
    assert graph.edges == [(i, i + 1) for i in range(len(graph) - 1)]
    return [(node.primitive, tuple(slot.name for slot in node.params)) for node in graph.nodes]


def before(graph: ArchGraph, name: str) -> set[str]:
    """First parameter, or type, of the nodes that feed the owner of a parameter."""
    feeding = graph.predecessors()[graph.slots[name]]
    return {
        graph.nodes[i].params[0].name if graph.nodes[i].params else graph.nodes[i].primitive for i in feeding
    }


class Run(nn.Module):
    """A module whose forward is a function of it and its inputs."""

    def __init__(self, function: Callable[..., Tensor], **members: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self, *inputs)


def parameter(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape))


@pytest.mark.parametrize(
    ("layer", "shape", "primitive", "slots"),
    [
        (nn.Conv2d(8, 4, 3, bias=False), IMAGE, "conv", ["weight"]),
        (nn.Conv2d(8, 8, 3, groups=8, bias=False), IMAGE, "sep_conv", ["weight"]),
        (nn.Conv2d(8, 8, 3, groups=2, dilation=2, bias=False), IMAGE, "dil_conv", ["weight"]),
        (nn.Conv2d(8, 8, 3, dilation=2, bias=False), IMAGE, "conv", ["weight"]),
        (nn.Conv1d(8, 4, 3, bias=False), (2, 8, 30), "conv", ["weight"]),
        (nn.Conv3d(8, 4, 3, bias=False), (2, 8, 5, 5, 5), "conv", ["weight"]),
        (nn.ConvTranspose2d(8, 4, 3, bias=False), IMAGE, "conv", ["weight"]),
        (nn.ConvTranspose1d(8, 8, 3, groups=4, bias=False), (2, 8, 9), "sep_conv", ["weight"]),
        (nn.Linear(16, 4, bias=False), TOKENS, "conv", ["weight"]),
        (nn.BatchNorm1d(8), (2, 8, 30), "bn", ["weight", "bias"]),
        (nn.BatchNorm2d(8), IMAGE, "bn", ["weight", "bias"]),
        (nn.BatchNorm3d(8), (2, 8, 3, 3, 3), "bn", ["weight", "bias"]),
        (nn.LayerNorm(16), TOKENS, "ln", ["weight", "bias"]),
        (nn.LayerNorm(16, bias=False), TOKENS, "ln", ["weight"]),
        (nn.LayerNorm(16, elementwise_affine=False), TOKENS, "ln", []),
        (nn.GroupNorm(2, 8), IMAGE, "ln", ["weight", "bias"]),
        (nn.InstanceNorm2d(8, affine=True), IMAGE, "ln", ["weight", "bias"]),
        (nn.RMSNorm(16), TOKENS, "ln", ["weight"]),
    ],
    ids=lambda value: str(value) if isinstance(value, nn.Module) else None,
)
def test_layer(layer: nn.Module, shape: tuple[int, ...], primitive: str, slots: list[str]) -> None:
    graph = graph_of(layer, shape)
    assert chain(graph) == [("input", ()), (primitive, tuple(slots))]
    owned = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert {slot.name: slot.shape for slot in graph.nodes[1].params} == owned
    assert graph.nodes[1].shape == (owned[slots[0]] if slots else None)


@pytest.mark.parametrize("layer", [nn.Linear(16, 4), nn.Conv2d(8, 4, 1), nn.ConvTranspose2d(8, 4, 2)])
def test_plain_bias_follows_its_weight(layer: nn.Module) -> None:
    graph = graph_of(layer, TOKENS if isinstance(layer, nn.Linear) else IMAGE)
    assert chain(graph) == [("input", ()), ("conv", ("weight",)), ("bias", ("bias",))]
    assert [slot.role for node in graph.nodes for slot in node.params] == ["weight", "bias"]


@pytest.mark.parametrize(
    ("product", "shape"),
    [
        (lambda m, x: x @ m.w, (16, 4)),
        (lambda m, x: torch.matmul(x, m.w.t()), (4, 16)),
        (lambda m, x: x.softmax(-1) @ m.w[:4].T, (6, 16)),
        (lambda m, x: torch.einsum("bld,de->ble", x, m.w), (16, 4)),
        (lambda m, x: torch.bmm(x, m.w.expand(2, 16, 4)), (1, 16, 4)),
        (lambda m, x: torch.tensordot(x, m.w, dims=1), (16, 4)),
        (lambda m, x: F.linear(x, m.w), (4, 16)),
    ],
)
def test_product_with_a_parameter_is_conv_and_takes_its_bias(
    product: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    model = Run(lambda m, x: product(m, x) + m.b, w=parameter(*shape), b=parameter(4))
    assert chain(graph_of(model, TOKENS)) == [("input", ()), ("conv", ("w",)), ("bias", ("b",))]


def test_addmm_is_conv_with_bias() -> None:
    model = Run(lambda m, x: torch.addmm(m.b, x, m.w), w=parameter(16, 4), b=parameter(4))
    assert chain(graph_of(model, (2, 16))) == [("input", ()), ("conv", ("w",)), ("bias", ("b",))]


def test_bilinear_reads_both_inputs() -> None:
    model = Run(
        lambda m, x: m.pair(m.left(x), m.right(x)),
        pair=nn.Bilinear(4, 4, 3),
        left=nn.Linear(16, 4, bias=False),
        right=nn.Linear(16, 4, bias=False),
    )
    graph = graph_of(model, TOKENS)
    assert before(graph, "pair.weight") == {"left.weight", "right.weight"}
    assert before(graph, "pair.bias") == {"pair.weight"}


HAND_WRITTEN_NORMS: dict[str, Callable[..., Tensor]] = {
    "rms": lambda m, x: m.w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)),
    "rms by division": lambda m, x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * m.w,
    "rms in float": lambda m, x: (
        (x.float() * (x.float() ** 2).mean(-1, True).add(1e-6) ** -0.5).to(x.dtype) * m.w
    ),
    "one plus weight": lambda m, x: (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)) * (1 + m.w),
    "normalize": lambda m, x: F.normalize(x, dim=-1) * 4.0 * m.w,
    "vector norm": lambda m, x: x / (x.norm(dim=-1, keepdim=True) * 0.25 + 1e-6) * m.w,
    "layer norm": lambda m, x: (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) * m.w + m.b,
    "variance": lambda m, x: (
        m.w * ((x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + 1e-6))
        + m.b
    ),
}


@pytest.mark.parametrize("name", HAND_WRITTEN_NORMS)
def test_norm_written_by_hand_is_ln(name: str) -> None:
    model = Run(HAND_WRITTEN_NORMS[name], w=parameter(16), b=parameter(16))
    graph = graph_of(model, TOKENS)
    used = ("w", "b") if name in ("layer norm", "variance") else ("w",)
    if name == "one plus weight":
        assert chain(graph) == [("input", ()), ("ln", ())]
        assert graph.nodes[1].shape == (16,)
        assert graph.unreached["w"].startswith("added to a constant before it scales")
    else:
        assert chain(graph) == [("input", ()), ("ln", used)]


@pytest.mark.parametrize("norm", [F.rms_norm, F.layer_norm])
def test_weight_behind_a_norm_called_without_one_is_its_weight(norm: Callable[..., Tensor]) -> None:
    def outside(m: nn.Module, x: Tensor) -> Tensor:
        return norm(x, (16,)) * m.w + m.b

    def plus_one(m: nn.Module, x: Tensor) -> Tensor:
        return norm(x, (16,), 1 + m.w)

    for convention in ("clean", "ghn3"):
        graph = graph_of(Run(outside, w=parameter(16), b=parameter(16)), TOKENS, convention=convention)
        assert chain(graph) == [("input", ()), ("ln", ("w", "b"))]
        assert graph.nodes[1].shape == (16,)
        graph = graph_of(Run(plus_one, w=parameter(16)), TOKENS, convention=convention)
        assert chain(graph) == [("input", ()), ("ln", ())]


def test_factors_of_a_weight_are_layers_in_a_row() -> None:
    members = {"a": parameter(4, 2), "b": parameter(2, 16)}
    linear = graph_of(Run(lambda m, x: F.linear(x, (m.a @ m.b) * 2.0), **members), TOKENS)
    assert chain(linear) == [("input", ()), ("conv", ("b",)), ("conv", ("a",))]
    members = {"a": parameter(16, 2), "b": parameter(2, 4)}
    for product in (lambda m, x: x @ (m.a @ m.b), lambda m, x: torch.einsum("bld,dr,re->ble", x, m.a, m.b)):
        graph = graph_of(Run(product, **members), TOKENS)
        assert chain(graph) == [("input", ()), ("conv", ("a",)), ("conv", ("b",))]


def test_a_vector_is_no_weight_of_a_layer() -> None:
    graph = graph_of(
        Run(lambda m, x: m.fc(x) @ m.v, fc=nn.Linear(16, 16, bias=False), v=parameter(16)), TOKENS
    )
    assert chain(graph) == [("input", ()), ("conv", ("fc.weight",))]
    assert graph.unreached == {"v": "a vector where a layer has its weight (matmul in the model itself)"}


def test_codebook_is_a_table_although_its_products_choose() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.encode(x)
        chosen = F.embedding((x @ m.codes.T).argmax(-1), m.codes)
        return m.decode(x + (chosen - x).detach())

    parts = {"encode": nn.Linear(16, 16), "decode": nn.Linear(16, 4), "codes": parameter(7, 16)}
    graph = graph_of(Run(forward, **parts), TOKENS)
    assert graph.nodes[graph.slots["codes"]].primitive == "pos_enc"
    assert graph.unreached == {}


def test_deformable_convolution_reads_its_offsets() -> None:
    from torchvision.ops import DeformConv2d

    parts = {"conv": DeformConv2d(8, 4, 3), "offset": nn.Conv2d(8, 18, 3)}
    graph = graph_of(Run(lambda m, x: m.conv(x, m.offset(x)), **parts), IMAGE)
    assert before(graph, "conv.weight") == {"input", "offset.bias"}
    assert before(graph, "conv.bias") == {"conv.weight"}


def test_global_response_normalisation_is_ln_with_both_slots() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.fc(x)
        spread = x.norm(p=2, dim=1, keepdim=True)
        return x + torch.addcmul(m.b, m.w, x * (spread / (spread.mean(-1, keepdim=True) + 1e-6)))

    graph = graph_of(Run(forward, fc=nn.Linear(16, 16), w=parameter(1, 1, 16), b=parameter(1, 1, 16)), TOKENS)
    assert kinds(graph) == ["input", "conv", "bias", "ln", "sum"]
    assert [slot.name for slot in graph.nodes[3].params] == ["w", "b"]


def test_weight_standardisation_is_part_of_the_weight() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        flat = m.w.reshape(1, 4, -1)
        weight = F.batch_norm(flat, None, None, weight=m.gain, training=True).reshape_as(m.w)
        return F.conv2d(x, weight)

    graph = graph_of(Run(forward, w=parameter(4, 8, 3, 3), gain=parameter(4)), IMAGE)
    assert chain(graph) == [("input", ()), ("conv", ("w",))]
    assert graph.unreached == {"gain": "part of how the weight w is computed"}


def test_pooling_has_the_shape_of_its_window() -> None:
    layers = [nn.MaxPool2d(2), nn.AvgPool2d((1, 3)), nn.AdaptiveMaxPool2d(3), nn.AdaptiveAvgPool2d(1)]
    graph = graph_of(nn.Sequential(*layers), IMAGE)
    assert [(node.primitive, node.shape) for node in graph.nodes[1:]] == [
        ("max_pool", (1, 1, 2, 2)),
        ("avg_pool", (1, 1, 1, 3)),
        ("max_pool", None),
        ("glob_avg", None),
    ]
    assert kinds(graph_of(Run(lambda _, x: x.mean((2, 3))), IMAGE)) == ["input", "glob_avg"]


def test_squeeze_of_a_gate_is_wire_and_the_gate_is_cse() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = m.conv(x)
        return m.head((x * torch.sigmoid(m.fc(x.mean((2, 3), keepdim=True)))).mean((2, 3)))

    model = Run(forward, conv=nn.Conv2d(8, 8, 1, bias=False), fc=nn.Conv2d(8, 8, 1), head=nn.Linear(8, 3))
    graph = graph_of(model, IMAGE)
    assert kinds(graph) == ["input", "conv", "conv", "bias", "cse", "glob_avg", "conv", "bias"]
    assert before(graph, "fc.weight") == {"conv.weight"}
    assert (1, 4) in graph.edges
    assert (3, 4) in graph.edges


def test_activation_that_multiplies_by_itself_is_wire() -> None:
    model = Run(lambda m, x: m.b(m.a(x) * torch.sigmoid(m.a(x))), a=nn.Linear(16, 16), b=nn.Linear(16, 4))
    assert kinds(graph_of(model, TOKENS)) == ["input", "conv", "bias", "conv", "bias"]


def test_gated_linear_unit_is_cse_of_its_two_branches() -> None:
    model = Run(
        lambda m, x: m.down(F.silu(m.gate(x)) * m.up(x)),
        gate=nn.Linear(16, 8, bias=False),
        up=nn.Linear(16, 8, bias=False),
        down=nn.Linear(8, 16, bias=False),
    )
    graph = graph_of(model, TOKENS)
    assert kinds(graph) == ["input", "conv", "conv", "cse", "conv"]
    assert graph.edges == [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]


def test_sum_and_concat_need_two_branches() -> None:
    one = Run(lambda m, x: torch.cat([m.a(x), F.relu(m.a(x))], -1) + 1.0, a=nn.Linear(16, 4, bias=False))
    assert kinds(graph_of(one, TOKENS)) == ["input", "conv"]
    two = Run(
        lambda m, x: torch.cat([m.a(x), m.b(x)], -1) + torch.cat([m.b(x), m.a(x)], -1),
        a=nn.Linear(16, 4, bias=False),
        b=nn.Linear(16, 4, bias=False),
    )
    assert kinds(graph_of(two, TOKENS)).count("concat") >= 1
    assert kinds(graph_of(Run(lambda m, x: x + m.a(x), a=nn.Linear(16, 16)), TOKENS))[-1] == "sum"


class Attention(nn.Module):
    def __init__(self, style: str) -> None:
        super().__init__()
        self.style = style
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16, bias=False) for _ in range(4))
        self.bias = parameter(4, 10, 10)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (4, 4)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.style == "fused":
            heads = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        elif self.style == "einsum":
            weights = (torch.einsum("bhqd,bhkd->bhqk", q, k) * 0.5 + self.bias).softmax(-1)
            heads = torch.einsum("bhqk,bhkd->bhqd", weights, v)
        else:
            scores = (q @ k.transpose(-2, -1)) / 2 + self.bias
            scores = scores.masked_fill(torch.ones(10, 10).triu(1).bool(), -1e9)
            heads = F.dropout(F.softmax(scores, dim=-1), 0.1) @ v
        return self.out(heads.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("style", ["fused", "einsum", "written out"])
def test_attention_is_one_graph_however_it_is_computed(style: str) -> None:
    graph = graph_of(Attention(style), TOKENS)
    assert kinds(graph) == ["input", "conv", "conv", "conv", "msa", "conv"]
    assert graph.edges == [(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4), (4, 5)]
    operation = "scaled_dot_product_attention" if style == "fused" else "add"
    assert graph.unreached["bias"].startswith(f"term of attention scores ({operation} in the model itself)")
    assert len(graph.unreached) == 1


@pytest.mark.parametrize("separate", [False, True])
def test_multi_head_attention(separate: bool) -> None:
    sizes = {"kdim": 12, "vdim": 12} if separate else {}
    model = Run(
        lambda m, x, y: m.mha(x, y, y)[0], mha=nn.MultiheadAttention(16, 4, batch_first=True, **sizes)
    )
    graph = graph_of(model, TOKENS, (2, 7, 12 if separate else 16))
    assert kinds(graph).count("msa") == 1
    assert before(graph, "mha.out_proj.weight") == {"msa"}
    owned = {slot for slot in graph.slots if slot.startswith("mha.")}
    assert owned == {name for name, _ in model.named_parameters()}


def test_softmax_of_class_scores_or_of_a_router_is_not_attention() -> None:
    scores = Run(lambda m, x: m.fc(x).softmax(-1), fc=nn.Linear(16, 5))
    assert kinds(graph_of(scores, TOKENS)) == ["input", "conv", "bias"]
    router = Run(
        lambda m, x: m.a(x) * m.route(x).softmax(-1)[..., :1],
        a=nn.Linear(16, 8, bias=False),
        route=nn.Linear(16, 2, bias=False),
    )
    assert kinds(graph_of(router, TOKENS)) == ["input", "conv", "conv", "cse"]


def test_position_embedding_added_to_activations_is_a_source() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        x = torch.cat([m.token.expand(2, 1, 16), m.fc(x)], 1) + m.place
        return m.head(x)

    members = {"token": parameter(1, 1, 16), "place": parameter(1, 11, 16)}
    graph = graph_of(Run(forward, fc=nn.Linear(16, 16), head=nn.Linear(16, 3), **members), TOKENS)
    assert kinds(graph) == ["input", "conv", "bias", "pos_enc", "sum", "conv", "bias"]
    assert before(graph, "place") == set()
    reason = "put beside activations (cat in the model itself), as a class or register token is"
    assert graph.unreached == {"token": reason}


def test_embeddings_and_their_bags() -> None:
    model = nn.Sequential(nn.EmbeddingBag(50, 8), nn.Linear(8, 4, bias=False))
    graph = lower(record(model, (torch.randint(0, 50, (2, 5)),)))
    assert chain(graph) == [("input", ()), ("pos_enc", ("0.weight",)), ("conv", ("1.weight",))]

    def forward(m: nn.Module, ids: Tensor) -> Tensor:
        return m.words(ids) + m.places(torch.arange(ids.shape[1]))

    words = lower(
        record(Run(forward, words=nn.Embedding(50, 8), places=nn.Embedding(9, 8)), (torch.ones(2, 5).long(),))
    )
    assert kinds(words) == ["input", "pos_enc", "pos_enc", "sum"]
    assert words.edges == [(0, 1), (1, 3), (2, 3)]


def test_masks_and_chosen_indices_carry_no_data() -> None:
    def forward(m: nn.Module, ids: Tensor) -> Tensor:
        x = m.words(ids)
        x = m.fc(x * (ids != 0).unsqueeze(-1).float())
        return x.gather(1, x.argmax(1, keepdim=True))

    model = Run(forward, words=nn.Embedding(50, 8), fc=nn.Linear(8, 8, bias=False))
    graph = lower(record(model, (torch.ones(2, 5).long(),)))
    assert chain(graph) == [("input", ()), ("pos_enc", ("words.weight",)), ("conv", ("fc.weight",))]


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layer_is_a_conv_for_each_weight(layer: type[nn.RNNBase]) -> None:
    model = Run(
        lambda m, x: m.rnn(x)[0], rnn=layer(16, 8, num_layers=2, bidirectional=True, batch_first=True)
    )
    graph = graph_of(model, TOKENS)
    assert graph.type_counts == {"conv": 8, "input": 1, "bias": 8}
    assert set(graph.slots) == {name for name, _ in model.named_parameters()}
    assert before(graph, "rnn.bias_ih_l0") == {"rnn.weight_ih_l0"}
    assert before(graph, "rnn.weight_hh_l0") == {"rnn.bias_ih_l0"}
    assert before(graph, "rnn.weight_ih_l1") == {"rnn.bias_hh_l0", "rnn.bias_hh_l0_reverse"}
    assert len(graph.outputs) == 2


def test_projection_of_an_lstm_comes_last() -> None:
    model = Run(lambda m, x: m.rnn(x)[0], rnn=nn.LSTM(16, 8, proj_size=4, batch_first=True))
    assert [slots for _, slots in chain(graph_of(model, TOKENS))][1:] == [
        ("rnn.weight_ih_l0",),
        ("rnn.bias_ih_l0",),
        ("rnn.weight_hh_l0",),
        ("rnn.bias_hh_l0",),
        ("rnn.weight_hr_l0",),
    ]


def test_experts_stacked_in_one_tensor_are_one_node_with_one_bias() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        weights = m.route(x).softmax(-1)
        outs = [F.linear(x, m.experts[e], m.shifts[e]) * weights[..., e : e + 1] for e in range(3)]
        return m.head(sum(outs))

    members = {"experts": parameter(3, 8, 16), "shifts": parameter(3, 8)}
    model = Run(forward, route=nn.Linear(16, 3, bias=False), head=nn.Linear(8, 2, bias=False), **members)
    graph = graph_of(model, TOKENS)
    assert kinds(graph) == ["input", "conv", "conv", "bias", "cse", "conv"]
    assert graph.nodes[2].shape == (3, 8, 16)


def test_bias_split_over_heads_is_a_bias() -> None:
    model = Run(
        lambda m, x: m.out((m.q(x).unflatten(-1, (4, 4)) + m.u).flatten(-2)),
        q=nn.Linear(16, 16, bias=False),
        u=parameter(4, 4),
        out=nn.Linear(16, 4, bias=False),
    )
    assert [slots for _, slots in chain(graph_of(model, TOKENS))] == [
        (),
        ("q.weight",),
        ("u",),
        ("out.weight",),
    ]


def test_learned_queries_are_a_source() -> None:
    def forward(m: nn.Module, x: Tensor) -> Tensor:
        query = m.q(m.norm(m.latents)).expand(2, 3, 16)
        return F.scaled_dot_product_attention(query, m.k(x), m.k(x))

    members = {"latents": parameter(3, 16)}
    graph = graph_of(
        Run(forward, norm=nn.LayerNorm(16), q=nn.Linear(16, 16), k=nn.Linear(16, 16), **members), TOKENS
    )
    assert graph.nodes[graph.slots["latents"]].primitive == "pos_enc"
    assert before(graph, "norm.weight") == {"latents"}
    assert graph.outputs == (kinds(graph).index("msa"),)


def test_parameter_without_a_rule_is_listed_with_the_operation() -> None:
    distances = Run(lambda m, x: torch.cdist(x, m.points), points=parameter(5, 16))
    graph = graph_of(nn.Sequential(nn.Linear(16, 16), distances), TOKENS)
    assert graph.unreached == {"1.points": "no rule for cdist in '1'"}
    assert graph_of(distances, TOKENS).unreached == {"points": "no rule for cdist in the model itself"}


def test_registered_rule_is_used_and_can_be_replaced() -> None:
    function = torch.cdist
    assert find_rule(function) is None
    layers = (
        nn.Linear(16, 16, bias=False),
        Run(lambda m, x: torch.cdist(x, m.points), points=parameter(5, 16)),
    )
    model = nn.Sequential(*layers)
    try:

        @register_rule(function)
        def distance(call):
            return call.emit("conv", call.arg(0, "x1"), weight=call.arg(1, "x2"))

        assert chain(graph_of(model, TOKENS))[-1] == ("conv", ("1.points",))
        register_rule(function)(lambda call: call.wire("prototypes keep their start"))
        graph = graph_of(model, TOKENS)
        assert chain(graph)[-1] == ("conv", ("0.weight",))
        assert graph.unreached == {"1.points": "prototypes keep their start"}
    finally:
        _RULES.pop(function, None)


def scaled(x: Tensor, weight: Tensor) -> Tensor:
    if torch.overrides.has_torch_function((x, weight)):
        return torch.overrides.handle_torch_function(scaled, (x, weight), x, weight)
    return x * weight


def test_rule_for_a_function_of_ones_own() -> None:
    register_rule(scaled)(lambda call: call.emit("ln", call.arg(0, "x"), weight=call.arg(1, "weight")))
    try:
        graph = graph_of(
            Run(lambda m, x: scaled(m.fc(x), m.w), fc=nn.Linear(16, 16), w=parameter(16)), TOKENS
        )
        assert chain(graph)[-1] == ("ln", ("w",))
    finally:
        _RULES.pop(scaled, None)


class Multiply(torch.autograd.Function):
    """A product computed outside of torch, as a kernel does it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise NotImplementedError


multiply = Multiply.apply


@pytest.mark.parametrize("apply", [lambda x, w: Multiply.apply(x, w), multiply], ids=["class", "alias"])
def test_rule_for_an_autograd_function(apply: Callable[..., Tensor]) -> None:
    model = Run(lambda m, x: m.fc(apply(x, m.w)), w=parameter(16, 8), fc=nn.Linear(8, 4, bias=False))
    forward = Multiply.__dict__["forward"]
    register_rule(Multiply.apply)(lambda call: call.emit("conv", call.arg(0, "x"), weight=call.arg(1, "w")))
    try:
        graph = graph_of(model, (10, 16))
    finally:
        _RULES.pop(Multiply, None)
    assert chain(graph) == [("input", ()), ("conv", ("w",)), ("conv", ("fc.weight",))]
    assert graph.nodes[1].op == "Multiply"
    assert Multiply.__dict__["forward"] is forward, "the class is as it was"
    assert model(torch.ones(10, 16)).shape == (10, 4)


@torch.library.custom_op("ghn_init_rules::mix", mutates_args=())
def mix(x: Tensor, w: Tensor) -> Tensor:
    return x @ w


@pytest.mark.parametrize("key", [mix, "ghn_init_rules::mix", torch.ops.ghn_init_rules.mix])
def test_rule_for_a_custom_operation(key: Any) -> None:
    """By the function, by its name, or as torch.ops has it; its shapes need not be told."""
    model = Run(lambda m, x: mix(x, m.w), w=parameter(16, 8))
    reason = "no rule for mix in the model itself"
    assert graph_of(model, (10, 16)).unreached == {"w": reason}
    register_rule(key)(lambda call: call.emit("conv", call.arg(0, "x"), weight=call.arg(1, "w")))
    try:
        assert chain(graph_of(model, (10, 16))) == [("input", ()), ("conv", ("w",))]
    finally:
        _RULES.pop(base_function(key), None)


@pytest.mark.parametrize("wrong", [(), ("conv2d",), (None,)])
def test_register_rule_takes_functions(wrong: tuple[object, ...]) -> None:
    with pytest.raises(TypeError, match="one or more functions"):
        register_rule(*wrong)  # type: ignore[arg-type]
