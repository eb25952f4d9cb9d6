"""What default configurations of transformers lack, by model type."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

LEAST: dict[str, str] = {
    **dict.fromkeys(
        (
            *("mobilebert", "codegen", "zamba2", "falcon_h1", "align", "d_fine", "deimv2", "deepseek_ocr2"),
            *("pp_ocrv6_medium_det", "pp_ocrv6_small_det", "dots3_note", "layoutlmv3", "sapiens2", "radio"),
            *("regnet", "textnet", "sam", "sam_hq", "rt_detr", "rt_detr_v2", "pp_doclayout_v3"),
            *("pp_doclayout_v4", "grounding-dino", "mm-grounding-dino", "vision-text-dual-encoder", "xcodec"),
            *(
                "siglip",
                "siglip2",
                "lw_detr",
                "efficientloftr",
                "blt",
                "efficientnet",
                "hgnet_v2",
                "fastspeech2_conformer_with_hifigan",
            ),
        ),
        "shallow",
    ),
}
"""Model type → the smallest way to shrink it with which the model still runs, where that is not the first."""

_SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 24, 24]}
_FOUR_SECTIONS = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [16, 16, 16, 16]}
_COMPASS = {"full_attention": None, "sliding_attention": _SECTIONS}
_QSA = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 256,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
_EXPERTS = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 64}


def _under(part: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {f"{part}.{name}": value for name, value in fields.items()}


def _strips() -> dict[str, Any]:
    """Kernel, stride and padding of long, middle and short strips in three directions."""
    found: dict[str, Any] = {"reduce_channel": [1, 1, 0], "return_channel": [1, 1, 0]}
    directions = {
        "vertical_long_to_small_conv": (1, 0),
        "horizontal_small_to_long_conv": (0, 1),
        "symmetric_conv_long": (1, 1),
    }
    for name, (down, across) in directions.items():
        for ratio, size in (("long", 7), ("mid", 5), ("short", 3)):
            kernel = (size if down else 1, size if across else 1)
            found[f"{name}_{ratio}ratio"] = [kernel, 1, (kernel[0] // 2, kernel[1] // 2)]
    return found


def _stages() -> dict[str, Any]:
    """A backbone for detection, whose stages halve both sides, with one block a stage."""
    sizes = [(16, 16, 1), (16, 32, 2), (32, 48, 2), (48, 64, 2)]
    return {
        "model_type": "pp_lcnet_v4",
        "block_configs": [[[3, before, after, stride, True]] for before, after, stride in sizes],
        "stem_channels": [3, 8, 16],
        "out_features": [f"stage{i}" for i in range(1, 5)],
    }


FIELDS: dict[str, dict[str, Any]] = {
    "aria": {"vision_config.image_size": 490, "vision_config.patch_size": 14},
    "aya_vision": {"vision_config.num_attention_heads": 9},
    "blip-2": {"image_token_index": 500},
    "blt": {"encoder_hash_byte_group_vocab": 512},
    "chameleon": {"image_token_id": 8},
    "cohere_compass": {"text_config.rope_parameters": _COMPASS},
    "cohere_compass_text": {"rope_parameters": _COMPASS},
    "depth_pro": {"intermediate_hook_ids": [1, 0]},
    "dbrx": {"attn_config.rope_theta": 10000.0, "attn_config.clip_qkv": 8.0, "ffn_config.hidden_size": 128},
    "deepseek_ocr2": {
        "vision_config.encoder_config.hidden_size": 896,
        "vision_config.encoder_config.num_attention_heads": 14,
        "vision_config.encoder_config.num_key_value_heads": 2,
        "text_config.mlp_layer_types": ["dense", "sparse"],
        "text_config.num_experts_per_tok": 2,
    },
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "diffusion_gemma": _under("text_config", _EXPERTS),
    "diffusion_gemma_text": _EXPERTS,
    "dots1": {
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
    },
    "edgetam": {"vision_config.backbone_config.architecture": "repvit_m1"},
    "edgetam_video": {"vision_config.backbone_config.architecture": "repvit_m1"},
    "edgetam_vision_model": {"backbone_config.architecture": "repvit_m1"},
    "emu3": {"image_token_id": 8},
    "encodec": {"codebook_dim": 8},
    "esm": {"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32},
    **{name: {"text_config.rope_parameters": _SECTIONS} for name in ("glm4v", "glm46v", "glmga")},
    "glm4v_moe": {"text_config.head_dim": 128, "text_config.rope_parameters": _SECTIONS},
    "glm4v_text": {"rope_parameters": _SECTIONS},
    "glm_image_text": {"rope_parameters": _SECTIONS},
    "glm4v_moe_text": {"head_dim": 128, "rope_parameters": _SECTIONS},
    "granite4_vision": {
        "vision_config.image_size": 384,
        "vision_config.patch_size": 16,
        "deepstack_layer_map": [(-2, 0)],
        "spatial_target_layers": [0, 0, 1, 1],
        "downsample_rate": "4/8",
        "image_grid_pinpoints": [[384, 768], [768, 384], [768, 768]],
    },
    "hunyuan_vl": {"text_config.rope_parameters": _FOUR_SECTIONS},
    "hunyuan_vl_text": {"rope_parameters": _FOUR_SECTIONS},
    "instructblip": {"image_token_index": 500},
    "instructblipvideo": {"video_token_index": 500},
    "janus": {"vision_config.projection_dim": 256},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lw_detr": {"projector_scale_factors": [1.0], "projector_in_channels": [256], "num_feature_levels": 1},
    "mllama": {"vision_config.vision_output_dim": 240, "text_config.cross_attention_layers": [1]},
    "moonshine_streaming": {"num_key_value_heads": 1},
    "qwen4_exp": _under("text_config", _QSA),
    "qwen4_exp_text": _QSA,
    "qwen3_omni_moe": {
        "talker_config.spatial_merge_size": 2,
        "talker_config.text_config.shared_expert_intermediate_size": 64,
    },
    "qwen3_omni_moe_thinker": {"text_config.head_dim": 128},
    "reformer": {"is_decoder": True},
    "step3p7": {"text_config.sliding_window": 8},
    "t5gemma2_encoder": {"text_config.dropout_rate": 0.0},
    "wav2vec2-bert": {"vocab_size": 32},
    "wav2vec2-conformer": {"vocab_size": 32},
    "voxtral": {"audio_token_id": 24},
    "uvdoc": {"backbone_config.out_features": [f"stage{i}" for i in range(1, 7)]},
}
"""Model type → fields without which the model does not build or run."""


def _made(model_type: str, **fields: Any) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return CONFIG_MAPPING[model_type](**fields)


_ASSISTANT = {
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": 0,
    "use_double_wide_mlp": False,
}
_WORDS = {"<image>": 8, "<|extra_200|>": 9}

CONFIGS: dict[str, Callable[[], Any]] = {
    name: partial(_made, name, **fields)
    for name, fields in {
        **{name: {"prediction_length": 8} for name in ("autoformer", "informer", "time_series_transformer")},
        "chameleon": {"vocabulary_map": {**_WORDS, **{f"IMGIMG{chr(65 + i)}Z": 10 + i for i in range(10)}}},
        "emu3": {
            "vocabulary_map": {**_WORDS, **{f"<|visual token {i:06}|>": 10 + i for i in range(10)}},
        },
        "gemma3n": {
            "text_config": {
                **{"hidden_size": 64, "intermediate_size": [128] * 4, "num_hidden_layers": 4},
                **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "laurel_rank": 8},
                **{"layer_types": ["sliding_attention", "full_attention"] * 2, "num_kv_shared_layers": 2},
                **{"vocab_size": 512, "vocab_size_per_layer_input": 256, "hidden_size_per_layer_input": 16},
                "activation_sparsity_pattern": [0.95, 0.95, 0.0, 0.0],
            },
            "vision_config": {"vocab_offset": 256},
            "audio_config": {"vocab_offset": 384, "conf_num_hidden_layers": 2},
            **{"image_token_id": 257, "audio_token_id": 385, "boi_token_id": 500, "eoi_token_id": 256},
            **{"boa_token_id": 501, "eoa_token_id": 384, "audio_soft_tokens_per_image": 25},
        },
        "gemma4_assistant": {"text_config": {**_ASSISTANT, "num_kv_shared_layers": 0}},
        "perception_lm": {
            "vision_config": {
                "model_type": "timm_wrapper",
                "architecture": "vit_pe_core_large_patch14_336",
                "model_args": {"embed_dim": 64, "img_size": [56, 56], "depth": 2, "num_heads": 4},
            }
        },
        "pp_ocrv6_medium_det": {
            **{"intraclass_block_config": _strips(), "backbone_config": _stages()},
            **{"scale_factor_list": [1, 2, 4, 8], "kernel_list": [3, 2, 2]},
        },
        "pp_ocrv6_small_det": {
            "layer_list_out_channels": [16, 32, 48, 64],
            "backbone_config": _stages(),
        },
        "timm_backbone": {"backbone": "resnet18"},
    }.items()
}
"""Model type → its configuration, where the defaults are none."""
