"""Attention: ``msa``, whichever function computes it."""

from __future__ import annotations

import torch.nn.functional as F

from ghn_init.tracing.flow import Flow
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.elementwise import score_reason
from ghn_init.tracing.rules.functions import FUSED_ATTENTION
from ghn_init.tracing.rules.registry import register_arguments, register_rule


@register_rule(*FUSED_ATTENTION)
def fused_attention(call: Call) -> Flow:
    """``attention(query, key, value, ...)``; a mask or score bias may follow.

    Softmax attention written out becomes ``msa`` at the product of weights and values; see ``contract``.
    """
    mask = call.arg(3, "attn_mask", call.node.kwargs.get("attn_bias"))
    score_bias = call.flow(mask)
    if score_bias.is_param:
        call.builder.keep(score_bias.params, score_reason(call))
        mask = None
    return call.attention(call.arg(0, "query"), call.arg(1, "key"), call.arg(2, "value"), mask)


@register_arguments(("query", "key", "value"), ("q", "k", "v"))
def foreign_attention(call: Call) -> Flow:
    """Attention that another library registers as an operation (flash-attn, xformers)."""
    return call.attention(call.arg(0, "query"), call.arg(1, "key"), call.arg(2, "value"))


@register_rule(F.multi_head_attention_forward)
def multi_head_attention(call: Call) -> Flow:
    """Attention with its projections, where a front-end records it as one call."""
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    in_proj, *separate = (
        call.arg(position, name) for position, name in zip((5, 18, 19, 20), names, strict=True)
    )
    bias = call.arg(6, "in_proj_bias")
    data = [call.arg(position, name) for position, name in enumerate(("query", "key", "value"))]
    if in_proj is not None:
        projected = call.emit("conv", *data, weight=in_proj, bias=bias)
    else:
        parts = [call.emit("conv", x, weight=w) for x, w in zip(data, separate, strict=True)]
        sources = tuple(sorted({source for part in parts for source in part.sources}))
        projected = call.bias(Flow(sources=sources), call.flow(bias))
    node = call.builder.node("msa", projected.sources, None, call.op, call.module)
    out = call.flow(call.arg(11, "out_proj_weight"))
    return call.weighted("conv", (node,), out, call.flow(call.arg(12, "out_proj_bias")))
