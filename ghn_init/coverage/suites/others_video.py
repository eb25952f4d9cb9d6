"""Diffusion of video and sound: transformers."""

from __future__ import annotations

from typing import Any

from ghn_init.coverage.suites.others_case import case, floats, mask, tokens

_TEXT = floats(2, 7, 32)
_HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}

CASES = [
    case(
        "diffusers:HunyuanVideoTransformer3DModel",
        **_HEADS,
        in_channels=4,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=32,
        pooled_projection_dim=8,
        rope_axes_dim=(4, 4, 8),
        inputs={
            "hidden_states": floats(1, 4, 2, 8, 8),
            "timestep": tokens(1000, 1),
            "encoder_hidden_states": floats(1, 7, 32),
            "encoder_attention_mask": mask(1, 7),
            "pooled_projections": floats(1, 8),
            "guidance": floats(1),
        },
    ),
    case(
        "diffusers:WanTransformer3DModel",
        **_HEADS,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=32,
        ffn_dim=64,
        rope_max_seq_len=32,
        inputs={
            "hidden_states": floats(1, 4, 2, 8, 8),
            "timestep": tokens(1000, 1),
            "encoder_hidden_states": floats(1, 7, 32),
        },
    ),
    case(
        "diffusers:LTXVideoTransformer3DModel",
        **_HEADS,
        in_channels=8,
        cross_attention_dim=32,
        caption_channels=32,
        inputs={
            "hidden_states": floats(1, 32, 8),
            "encoder_hidden_states": floats(1, 7, 32),
            "timestep": tokens(1000, 1),
            "encoder_attention_mask": mask(1, 7),
            "num_frames": 2,
            "height": 4,
            "width": 4,
        },
    ),
    case(
        "diffusers:CogVideoXTransformer3DModel",
        **_HEADS,
        in_channels=4,
        out_channels=4,
        text_embed_dim=32,
        sample_width=8,
        sample_height=8,
        sample_frames=5,
        time_embed_dim=8,
        max_text_seq_length=7,
        inputs={
            "hidden_states": floats(1, 2, 4, 8, 8),
            "encoder_hidden_states": floats(1, 7, 32),
            "timestep": tokens(1000, 1),
        },
    ),
    case(
        "diffusers:MochiTransformer3DModel",
        **_HEADS,
        pooled_projection_dim=16,
        in_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        max_sequence_length=7,
        inputs={
            "hidden_states": floats(1, 4, 2, 8, 8),
            "encoder_hidden_states": floats(1, 7, 32),
            "timestep": tokens(1000, 1),
            "encoder_attention_mask": mask(1, 7),
        },
    ),
    case(
        "diffusers:QwenImageTransformer2DModel",
        **_HEADS,
        in_channels=16,
        out_channels=4,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 8),
        inputs={
            "hidden_states": floats(1, 16, 16),
            "encoder_hidden_states": floats(1, 7, 32),
            "encoder_hidden_states_mask": mask(1, 7),
            "timestep": floats(1),
            "img_shapes": [[(1, 4, 4)]],
        },
    ),
    case(
        "diffusers:StableAudioDiTModel",
        sample_size=16,
        in_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        out_channels=4,
        cross_attention_dim=32,
        time_proj_dim=8,
        global_states_input_dim=8,
        cross_attention_input_dim=32,
        inputs={
            "hidden_states": floats(2, 4, 16),
            "timestep": floats(2),
            "encoder_hidden_states": _TEXT,
            "global_hidden_states": floats(2, 1, 8),
            "rotary_embedding": (floats(17, 8), floats(17, 8)),
        },
    ),
]
