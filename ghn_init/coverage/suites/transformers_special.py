"""What default configurations of transformers lack, by model type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LEAST: dict[str, str] = {
    **dict.fromkeys(("mobilebert", "codegen", "zamba2", "falcon_h1"), "shallow"),
}
"""Model type → the smallest way to shrink it with which the model still runs, where that is not the first."""

_SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 24, 24]}

FIELDS: dict[str, dict[str, Any]] = {
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0, "ffn_config.hidden_size": 128},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    "glm4v_text": {"rope_parameters": _SECTIONS},
    "glm_image_text": {"rope_parameters": _SECTIONS},
    "glm4v_moe_text": {"head_dim": 128, "rope_parameters": _SECTIONS},
    "cohere_compass_text": {"rope_parameters": {"full_attention": None, "sliding_attention": _SECTIONS}},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
}
"""Model type → fields without which the model does not build or run."""

CONFIGS: dict[str, Callable[[], Any]] = {}
"""Model type → its configuration, where the defaults are none."""
