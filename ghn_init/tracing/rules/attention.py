"""Attention: ``msa``, whichever function computes it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from ghn_init.tracing.flow import Flow
from ghn_init.tracing.rules.call import Call
from ghn_init.tracing.rules.functions import torch_functions
from ghn_init.tracing.rules.registry import register_rule


def _flex_attention() -> list[Any]:
    try:
        from torch.nn.attention.flex_attention import flex_attention
    except ImportError:
        return []
    return [flex_attention]


@register_rule(
    *torch_functions("scaled_dot_product_attention", "_scaled_dot_product_attention_math"),
    *torch_functions("_scaled_dot_product_flash_attention", "_scaled_dot_product_flash_attention_for_cpu"),
    *torch_functions("_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention"),
    *_flex_attention(),
)
def fused_attention(call: Call) -> Flow:
    """``attention(query, key, value, ...)``; a mask or score bias may follow.

    Softmax attention written out becomes ``msa`` at the product of weights and values; see ``contract``.
    """
    mask = call.arg(3, "attn_mask", call.node.kwargs.get("attn_bias"))
    score_bias = call.flow(mask)
    if score_bias.is_param:
        call.builder.keep(score_bias.params, f"relative position bias of attention in {call.module!r}")
        mask = None
    return call.attention(call.arg(0, "query"), call.arg(1, "key"), call.arg(2, "value"), mask)


@register_rule(F.multi_head_attention_forward)
def multi_head_attention(call: Call) -> Flow:
    """Attention with its projections, where a front-end records it as one call."""
    names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
    in_proj, *separate = (call.arg(position, name) for position, name in zip((5, 18, 19, 20), names, strict=True))
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
