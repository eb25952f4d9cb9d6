"""Every rule gives a parameter the type of the operation that takes it; a new rule needs a case."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from plain_zoo import Forward, weight
from torch import nn
from torchvision.ops import DeformConv2d

from ghn_init.coverage.sanity import graph_problems, recording_problems
from ghn_init.tracing.lower import lower
from ghn_init.tracing.recorder import record
from ghn_init.tracing.rules.registry import _BY_ARGUMENTS, _RULES, find_rule

IMAGE = torch.zeros(2, 8, 8, 8)
TOKENS = torch.zeros(2, 6, 8)
ROWS = torch.zeros(6, 8)
WORDS = torch.arange(12).view(2, 6)
STATES = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4)
KEPT = "kept"
aten = torch.ops.aten

Case = tuple[nn.Module, Any, dict[str, str]]
CASES: dict[str, list[Case]] = {}


def case(rule: str, function: Any, inputs: Any, expected: dict[str, str], **parts: Any) -> None:
    """A forward that calls an operation of the rule, and what its parameters must become."""
    module = function if isinstance(function, nn.Module) else Forward(function, **parts)
    CASES.setdefault(rule, []).append((module, inputs, expected))


CONV, NORM = {"weight": "conv", "bias": "bias"}, {"weight": "ln", "bias": "ln"}
W, B = weight(8, 8), weight(8)


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(q)


FLASH = torch.library.custom_op("ghn_init_types::flash", flash, mutates_args=())
FLASH.register_fake(flash)

case("convolution", nn.Conv2d(8, 4, 3), IMAGE, CONV)
case("convolution", nn.Conv1d(8, 4, 3), TOKENS.mT, CONV)
case("convolution", nn.Conv3d(2, 4, 3, dilation=2), torch.zeros(1, 2, 6, 6, 6), CONV)
case("convolution", nn.Conv2d(8, 8, 3, groups=8), IMAGE, {**CONV, "weight": "sep_conv"})
case("convolution", nn.Conv2d(8, 8, 3, groups=2, dilation=2), IMAGE, {**CONV, "weight": "dil_conv"})
case("transposed_convolution", nn.ConvTranspose2d(8, 4, 3), IMAGE, CONV)
case(
    "transposed_convolution", nn.ConvTranspose1d(8, 8, 3, groups=2), TOKENS.mT, {**CONV, "weight": "sep_conv"}
)
case(
    "transposed_convolution",
    nn.ConvTranspose2d(8, 8, 3, groups=2, dilation=2),
    IMAGE,
    {**CONV, "weight": "dil_conv"},
)
for _groups, _type in ((1, "conv"), (4, "sep_conv")):
    case(
        "aten_convolution",
        lambda m, x, g=_groups: aten.convolution(
            x, m.w[:, : 8 // g], m.b, [1, 1], [0, 0], [1, 1], False, [0, 0], g
        ),
        IMAGE,
        {"w": _type, "b": "bias"},
        w=weight(8, 8, 3, 3),
        b=B,
    )
case(
    "deformable_convolution",
    lambda m, x: m.c(x, m.o(x)),
    IMAGE,
    {"c.weight": "conv", "c.bias": "bias", "o.weight": "conv", "o.bias": "bias"},
    c=DeformConv2d(8, 4, 3),
    o=nn.Conv2d(8, 18, 3),
)
case("linear", nn.Linear(8, 4), TOKENS, CONV)
case(
    "bilinear", lambda m, x: m.p(x, x), TOKENS, {"p.weight": "conv", "p.bias": "bias"}, p=nn.Bilinear(8, 8, 3)
)
case("addmm", lambda m, x: torch.addmm(m.b, x, m.w), ROWS, {"w": "conv", "b": "bias"}, w=W, b=B)
case("matmul", lambda m, x: x @ m.w, TOKENS, {"w": "conv"}, w=W)
case("matmul", lambda m, x: x @ m.w, TOKENS, {"w": KEPT}, w=B)
case("grouped_matmul", lambda m, x: F.grouped_mm(x, m.w, offs=torch.tensor([3, 6], dtype=torch.int32)), ROWS,
     {"w": "conv"}, w=weight(2, 8, 4))  # fmt: skip
case("einsum", lambda m, x: torch.einsum("bld,de,ef->blf", x, m.w, m.v), TOKENS, {"w": "conv", "v": "conv"},
     w=W, v=weight(8, 3))  # fmt: skip
for _cell in (nn.LSTMCell, nn.GRUCell, nn.RNNCell):
    case(
        "cell", _cell(8, 4), torch.zeros(2, 8), {"weight_ih": "conv", "weight_hh": "conv", "bias_ih": "bias"}
    )
for _layer in (nn.LSTM, nn.GRU, nn.RNN):
    case(
        "recurrent",
        _layer(8, 4),
        TOKENS,
        {"weight_ih_l0": "conv", "weight_hh_l0": "conv", "bias_hh_l0": "bias"},
    )

for _norm, _shape in ((nn.BatchNorm1d, TOKENS.mT), (nn.BatchNorm2d, IMAGE), (nn.SyncBatchNorm, IMAGE)):
    case("batch_norm", _norm(8), _shape, {"weight": "bn", "bias": "bn"})
case(
    "native_batch_norm",
    lambda m, x: torch.native_batch_norm(x, m.w, m.b, None, None, True, 0.1, 1e-5)[0],
    IMAGE,
    {"w": "bn", "b": "bn"},
    w=B,
    b=weight(8),
)
for _module, _value in ((nn.LayerNorm(8), TOKENS), (nn.GroupNorm(2, 8), IMAGE)):
    case("layer_norm", _module, _value, NORM)
case("layer_norm", nn.RMSNorm(8), TOKENS, {"weight": "ln"})
case("layer_norm", lambda m, x: F.rms_norm(x, (8,)) * m.w, TOKENS, {"w": "ln"}, w=B)
case("layer_norm", lambda m, x: F.rms_norm(x, (8,), 1 + m.w), TOKENS, {"w": KEPT}, w=B)
case("native_group_norm", lambda m, x: aten.native_group_norm(x, m.w, m.b, 2, 8, 64, 2, 1e-5)[0], IMAGE,
     {"w": "ln", "b": "ln"}, w=B, b=weight(8))  # fmt: skip
case("instance_norm", nn.InstanceNorm2d(8, affine=True), IMAGE, NORM)
case("root", lambda m, x: x / x.pow(2).mean(-1, keepdim=True).sqrt() * m.w, TOKENS, {"w": "ln"}, w=B)
case("power", lambda m, x: x * x.pow(2).mean(-1, keepdim=True) ** -0.5 * m.w, TOKENS, {"w": "ln"}, w=B)
case("normalize", lambda m, x: F.normalize(x, dim=-1) * m.w, TOKENS, {"w": "ln"}, w=B)

TABLE = {"e.weight": "pos_enc"}
case("embedding", lambda m, i: m.e(i), WORDS, TABLE, e=nn.Embedding(12, 8))
case("embedding", lambda m, i: m.e(i), WORDS, TABLE, e=nn.EmbeddingBag(12, 8))
case("native_embedding", lambda m, i: torch.embedding(m.w, i), WORDS, {"w": "pos_enc"}, w=W)
case("index", lambda m, i: m.w[i % 8], WORDS, {"w": "pos_enc"}, w=W)

case("add", lambda m, x: m.f(x) + m.b, TOKENS, {"b": "bias"}, f=nn.Linear(8, 8, bias=False), b=B)
case("add", lambda m, x: m.f(x) + m.b, TOKENS, {"b": "pos_enc"}, f=nn.Linear(8, 8), b=weight(6, 8))
case("add", lambda m, x: m.f(x) + m.b, TOKENS, {"b": KEPT}, f=nn.Linear(8, 8), b=weight(1))
case("subtract", lambda m, x: m.f(x) - m.b, TOKENS, {"b": "bias"}, f=nn.Linear(8, 8, bias=False), b=B)
case("multiply", lambda m, x: m.f(x) * m.s, TOKENS, {"s": KEPT}, f=nn.Linear(8, 8), s=B)
case("divide", lambda m, x: m.f(x) / m.s, TOKENS, {"s": KEPT}, f=nn.Linear(8, 8), s=B)
case("addcmul", lambda m, x: torch.addcmul(m.b, m.s, m.f(x)), TOKENS, {"s": KEPT, "b": "bias"},
     f=nn.Linear(8, 8), s=B, b=weight(8))  # fmt: skip
case(
    "concatenate", lambda m, x: torch.cat([m.t.expand(2, 3, 8), x], 1), TOKENS, {"t": KEPT}, t=weight(1, 3, 8)
)
case("stack", lambda m, x: torch.stack([x, m.t.expand_as(x)]), TOKENS, {"t": KEPT}, t=weight(1, 1, 8))
case("bound", lambda m, x: torch.maximum(m.f(x), m.t), TOKENS, {"t": KEPT}, f=nn.Linear(8, 8), t=B)
case("slope", nn.PReLU(8), TOKENS.mT, {"weight": KEPT})
case("replaced", lambda m, x: torch.where(x > 0, m.t, m.f(x)), TOKENS, {"t": KEPT}, f=nn.Linear(8, 8), t=B)

case("fused_attention", lambda m, x: F.scaled_dot_product_attention(m.q.expand(2, 3, 8), x, x, m.b), TOKENS,
     {"q": "pos_enc", "b": KEPT}, q=weight(3, 8), b=weight(3, 6))  # fmt: skip
case("foreign_attention", lambda m, x: FLASH(m.q.expand(2, 6, 8), m.k(x), x), TOKENS,
     {"q": "pos_enc", "k.weight": "conv"}, q=weight(6, 8), k=nn.Linear(8, 8))  # fmt: skip

WITHOUT_PARAMETERS = {"max_pool", "avg_pool", "adaptive_max_pool", "mean"}
INSIDE = {"multi_head_attention"}  # the recorder records what it calls; test_rules.py has the projections


def name_of(rule: Any) -> str:
    return rule.__name__


BUILT_IN = sorted(
    {
        name_of(rule)
        for rule in (*_RULES.values(), *_BY_ARGUMENTS.values())
        if rule.__module__.startswith("ghn_init.")
    }
)


@pytest.mark.parametrize("rule", [rule for rule in BUILT_IN if rule not in WITHOUT_PARAMETERS | INSIDE])
def test_types_agree_with_the_operation(rule: str) -> None:
    assert CASES.get(rule), f"rule {rule} needs a case here"
    if rule == "grouped_matmul" and not hasattr(F, "grouped_mm"):
        pytest.skip("this torch has no grouped product")
    for model, inputs, expected in CASES[rule]:
        recording = record(model, inputs if isinstance(inputs, tuple) else (inputs,))
        used = {name_of(found) for node in recording.graph.nodes if (found := find_rule(node.target))}
        assert rule in used
        graph = lower(recording)
        types = {slot.name: node.primitive for node in graph.nodes for slot in node.params}
        assert {name: types.get(name, KEPT) for name in expected} == expected
        assert all(graph.unreached[name] for name, kind in expected.items() if kind == KEPT)
        assert graph_problems(graph) + recording_problems(graph, recording) == []
