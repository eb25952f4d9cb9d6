"""Attention is one ``msa`` node, whichever code computes it: one model has one graph with every backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers as tf
from timm.layers import set_fused_attn
from torch import Tensor, nn

import ghn_init
from ghn_init.graph import ArchGraph

Q, K, V = Tensor, Tensor, Tensor
Attend = Callable[[Q, K, V], Tensor]
SCALE = 0.5


def sameness(graph: ArchGraph) -> Any:
    """Everything of a graph but the names of its operations."""
    return [(n.primitive, n.params, n.shape) for n in graph.nodes], graph.edges, graph.outputs


@torch.library.custom_op("ghn_init_flash::forward", mutates_args=())
def flash(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return torch.empty_like(q)


@flash.register_fake
def _flash_shape(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    return torch.empty_like(q)


@torch.library.custom_op("ghn_init_xformers::efficient", mutates_args=())
def efficient(query: Tensor, key: Tensor, value: Tensor, attn_bias: Tensor | None) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), torch.empty(0)


def flexible(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def soft_cap(score: Tensor, *place: Tensor) -> Tensor:
        return 20 * torch.tanh(score / 20)

    mask = create_block_mask(lambda b, h, i, j: i >= j, None, None, 10, 10, device="cpu")
    return flex_attention(q, k, v, score_mod=soft_cap, block_mask=mask)


def in_float(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax((q @ k.mT) * SCALE, dim=-1, dtype=torch.float32).to(q.dtype) @ v


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = torch.matmul(q / 2, k.transpose(-2, -1)) + torch.full((10, 10), -1e9).triu(1)
    return torch.matmul(F.dropout(F.softmax(scores.float(), -1).type_as(q), 0.1), v)


def flat(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    scores = torch.baddbmm(torch.zeros(8, 10, 10), q, k.transpose(1, 2), beta=0, alpha=SCALE)
    return torch.bmm(scores.softmax(-1), v).unflatten(0, (2, 4))


def summed(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.einsum("bhqd,bhkd->bhqk", q * SCALE, k).softmax(-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, v)


def cosine(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    return (scores * 10).softmax(-1) @ v


def subtracted(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT
    return torch.softmax(scores - scores.amax(-1, keepdim=True), -1) @ v


BACKENDS: dict[str, Attend] = {
    "fused": F.scaled_dot_product_attention,
    "flexible": flexible,
    "of a library": lambda q, k, v: flash(q, k, v, True),
    "of another library": lambda q, k, v: efficient(q, k, v, None)[0],
    "in float32": in_float,
    "masked": masked,
    "baddbmm": flat,
    "einsum": summed,
    "cosine": cosine,
    "less its maximum": subtracted,
    "differential": lambda q, k, v: in_float(q, k, v) - 0.2 * in_float(k, q, v),
}


class Attention(nn.Module):
    """Heads of queries, keys and values, and a projection behind them."""

    def __init__(self, attend: Attend) -> None:
        super().__init__()
        self.attend = attend
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        q = self.q(x).unflatten(-1, (4, 4)).transpose(1, 2)
        k, v = (layer(y).unflatten(-1, (4, 4)).transpose(1, 2) for layer in (self.k, self.v))
        return self.out(self.attend(q, k, v).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_is_msa_whichever_code_computes_it(backend: str) -> None:
    inputs = torch.zeros(2, 10, 16), torch.zeros(2, 10, 16)
    graph = ghn_init.trace(Attention(BACKENDS[backend]), inputs)
    expected = ghn_init.trace(Attention(F.scaled_dot_product_attention), inputs)
    assert sameness(graph) == sameness(expected)
    (attention,) = (i for i, node in enumerate(graph.nodes) if node.primitive == "msa")
    feeding = {graph.nodes[i].params[0].name for i in graph.predecessors()[attention]}
    assert feeding == {"q.bias", "k.bias", "v.bias"}
    assert graph.unreached == {}


def test_products_without_a_softmax_are_no_attention() -> None:
    linear = ghn_init.trace(
        Attention(lambda q, k, v: F.elu(q) @ (F.elu(k).mT @ v)),
        (torch.zeros(2, 10, 16), torch.zeros(2, 10, 16)),
    )
    assert linear.type_counts == {"input": 1, "conv": 4, "bias": 4}
    assert set(linear.predecessors()[linear.slots["out.weight"]]) == {
        linear.slots[f"{n}.bias"] for n in "qkv"
    }


TIMM = [
    *(
        "vit_tiny_patch16_224",
        "cait_xxs24_224",
        "swinv2_tiny_window8_256",
        "vit_dlittle_patch16_reg1_gap_256",
    ),
    *(
        "beit_base_patch16_224",
        "pvt_v2_b0",
        "mvitv2_tiny",
        "crossvit_tiny_240",
        "twins_svt_small",
        "davit_tiny",
    ),
    *("eva02_tiny_patch14_224", "samvit_base_patch16", "edgenext_xx_small", "mobilevit_xxs", "coat_tiny"),
    *("volo_d1_224", "hiera_tiny_224", "fastvit_sa12", "gcvit_xxtiny", "caformer_s18", "tiny_vit_5m_224"),
    *(
        "vit_relpos_small_patch16_224",
        "mobilenetv4_hybrid_medium",
        "xcit_nano_12_p16_224",
        "maxvit_rmlp_pico_rw_256",
    ),
]


def without_memory(name: str) -> nn.Module:
    try:
        with torch.device("meta"):
            return timm.create_model(name)
    except RuntimeError:  # an older timm reads values while it builds
        return timm.create_model(name)


@pytest.mark.parametrize("name", [TIMM[0], TIMM[3], *(pytest.param(n, marks=pytest.mark.slow) for n in TIMM)])
def test_timm_models_have_one_graph_with_and_without_fused_attention(name: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"this timm has no {name}")
    graphs = []
    try:
        for fused in (True, False):
            set_fused_attn(fused)
            graphs.append(ghn_init.trace(without_memory(name).eval()))
    finally:
        set_fused_attn(True)
    assert sameness(graphs[0]) == sameness(graphs[1])


SMALL = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
    **{"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
}
PICTURES = {**SMALL, "image_size": 32, "patch_size": 8}
GROUPED = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
PAIRS = {
    **{"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 99},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 1},
}
WORDS = {"vocab_size": 99, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SOUND = {**SMALL, "conv_dim": [16, 16], "conv_stride": [5, 2], "conv_kernel": [10, 3]}
SOUND |= {"num_conv_pos_embedding_groups": 4, "num_feat_extract_layers": 2}
TRANSFORMERS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "llama": (GROUPED, ("sdpa", "flex_attention")),
    "bert": (SMALL, ("sdpa", "flex_attention")),
    "t5": ({**WORDS, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_heads": 4}, ("sdpa",)),
    "roberta": (SMALL, ("sdpa", "flex_attention")),
    "gpt2": ({**WORDS, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, ("sdpa",)),
    "vit": (PICTURES, ("sdpa", "flex_attention")),
    "gemma2": (GROUPED, ("flex_attention",)),
    "qwen3": (GROUPED, ("sdpa", "flex_attention")),
    "mixtral": ({**GROUPED, "num_local_experts": 4}, ("sdpa", "flex_attention")),
    "opt": (
        {**WORDS, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64},
        ("sdpa", "flex_attention"),
    ),
    "bart": (PAIRS, ("sdpa", "flex_attention")),
    "whisper": ({**PAIRS, "max_source_positions": 50}, ("sdpa", "flex_attention")),
    "clip": ({"text_config": SMALL, "vision_config": PICTURES}, ("sdpa", "flex_attention")),
    "dinov2": ({**PICTURES, "mlp_ratio": 2}, ("sdpa", "flex_attention")),
    "gpt_neox": (SMALL, ("sdpa", "flex_attention")),
    "distilbert": ({**WORDS, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}, ("sdpa",)),
    "beit": ({**PICTURES, "use_relative_position_bias": True}, ("sdpa",)),
    "phi": (SMALL, ("sdpa", "flex_attention")),
    "mistral": (GROUPED, ("sdpa", "flex_attention")),
    "olmo2": (GROUPED, ("sdpa", "flex_attention")),
    "starcoder2": (GROUPED, ("sdpa", "flex_attention")),
    "electra": ({**SMALL, "embedding_size": 32}, ("sdpa", "flex_attention")),
    "deit": (PICTURES, ("sdpa", "flex_attention")),
    "hubert": (SOUND, ("sdpa",)),
}
QUICK = ("llama", "bert", "t5")


@pytest.mark.parametrize(
    "kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in TRANSFORMERS]
)
def test_transformers_models_have_one_graph_with_every_attention(kind: str) -> None:
    settings, others = TRANSFORMERS[kind]

    def graph_with(attention: str) -> ArchGraph:
        with torch.device("meta"):
            config = tf.AutoConfig.for_model(kind, **settings)
            return ghn_init.trace(tf.AutoModel.from_config(config, attn_implementation=attention).eval())

    eager = graph_with("eager")
    assert eager.type_counts["msa"] >= 2
    for attention in others:
        try:
            graph = graph_with(attention)
        except ValueError as error:
            if "does not support an attention implementation" not in str(error):
                raise
            pytest.skip(f"this transformers has no {attention} in {kind}")
        assert sameness(graph) == sameness(eager), attention
