"""Diffusion: U-Nets, transformers, autoencoders and their controls."""

from __future__ import annotations

from typing import Any

from ghn_init.coverage.suites.others_case import Build, case, floats, mask, tokens

_STEPS = tokens(1000, 2)
_IMAGE = floats(2, 3, 32, 32)
_LATENT = floats(2, 4, 16, 16)
_TEXT = floats(2, 7, 32)
_UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
_FLAT: dict[str, Any] = {
    **_UNET,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
_DEEP: dict[str, Any] = {
    **_UNET,
    "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
    "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
}
_CONDITIONED: dict[str, Any] = {"sample": _LATENT, "timestep": _STEPS, "encoder_hidden_states": _TEXT}
_CONTROL: dict[str, Any] = {
    **{key: value for key, value in _FLAT.items() if key not in ("sample_size", "up_block_types")},
    "conditioning_embedding_out_channels": (16, 32),
}
_HEADS: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1}
_LEARNER: dict[str, Any] = {"dim": 32, "dim_mults": (1, 2), "flash_attn": False}

CASES = [
    case("diffusers:UNet1DModel", extra_in_channels=64, inputs=(floats(2, 2, 4096), _STEPS)),
    case("diffusers:UNet2DModel", block_out_channels=(32, 64, 64, 64), inputs=(_IMAGE, _STEPS)),
    case("diffusers:UNet2DConditionModel", **_FLAT, inputs=_CONDITIONED),
    case(
        "diffusers:UNet2DConditionModel",
        name="UNet2DConditionModel-XL",
        **_FLAT,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
        use_linear_projection=True,
        inputs={
            **_CONDITIONED,
            "added_cond_kwargs": {"text_embeds": floats(2, 32), "time_ids": floats(2, 6)},
        },
    ),
    case(
        "diffusers:UNet3DConditionModel", **_DEEP, inputs={**_CONDITIONED, "sample": floats(2, 4, 2, 16, 16)}
    ),
    case(
        "diffusers:ControlNetModel",
        **_CONTROL,
        inputs={**_CONDITIONED, "controlnet_cond": floats(2, 3, 32, 32)},
    ),
    case(
        "diffusers:UNetMotionModel",
        block_out_channels=(32, 64),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("CrossAttnDownBlockMotion", "DownBlockMotion"),
        cross_attention_dim=32,
        up_block_types=("UpBlockMotion", "CrossAttnUpBlockMotion"),
        num_attention_heads=2,
        motion_num_attention_heads=2,
        inputs={
            "sample": floats(1, 4, 2, 16, 16),
            "timestep": tokens(1000, 1),
            "encoder_hidden_states": _TEXT,
        },
    ),
    case(
        "diffusers:UNetSpatioTemporalConditionModel",
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        num_attention_heads=(2, 2),
        cross_attention_dim=32,
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=24,
        inputs={
            "sample": floats(1, 2, 8, 16, 16),
            "timestep": tokens(1000, 1),
            "encoder_hidden_states": floats(1, 1, 32),
            "added_time_ids": floats(1, 3),
        },
    ),
    case(
        "diffusers:UVit2DModel",
        hidden_size=32,
        cond_embed_dim=32,
        micro_cond_encode_dim=8,
        micro_cond_embed_dim=40,
        encoder_hidden_size=32,
        vocab_size=64,
        codebook_size=48,
        block_out_channels=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        block_num_heads=2,
        sample_size=8,
        inputs={
            "input_ids": tokens(48, 2, 8, 8),
            "encoder_hidden_states": _TEXT,
            "pooled_text_emb": floats(2, 32),
            "micro_conds": floats(2, 5),
        },
    ),
    case(
        "diffusers:DiTTransformer2DModel",
        **_HEADS,
        sample_size=16,
        in_channels=4,
        inputs={"hidden_states": _LATENT, "timestep": _STEPS, "class_labels": tokens(1000, 2)},
    ),
    case(
        "diffusers:Transformer2DModel",
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=32,
        cross_attention_dim=32,
        inputs={"hidden_states": floats(2, 32, 8, 8), "encoder_hidden_states": _TEXT},
    ),
    case(
        "diffusers:TransformerTemporalModel",
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=32,
        inputs={"hidden_states": floats(4, 32, 8, 8), "num_frames": 2},
    ),
    case(
        "diffusers:PixArtTransformer2DModel",
        **_HEADS,
        sample_size=16,
        caption_channels=32,
        cross_attention_dim=32,
        inputs={
            "hidden_states": _LATENT,
            "encoder_hidden_states": _TEXT,
            "timestep": _STEPS,
            "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
        },
    ),
    case(
        "diffusers:SD3Transformer2DModel",
        **_HEADS,
        sample_size=16,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        pos_embed_max_size=16,
        inputs={
            "hidden_states": floats(2, 16, 16, 16),
            "encoder_hidden_states": _TEXT,
            "pooled_projections": floats(2, 64),
            "timestep": _STEPS,
        },
    ),
    case(
        "diffusers:FluxTransformer2DModel",
        **_HEADS,
        num_single_layers=1,
        in_channels=16,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        inputs={
            "hidden_states": floats(2, 16, 16),
            "encoder_hidden_states": _TEXT,
            "pooled_projections": floats(2, 32),
            "timestep": floats(2),
            "img_ids": floats(16, 3),
            "txt_ids": floats(7, 3),
        },
    ),
    case(
        "diffusers:Flux2Transformer2DModel",
        **_HEADS,
        num_single_layers=1,
        in_channels=16,
        joint_attention_dim=32,
        axes_dims_rope=(4, 4, 4, 4),
        timestep_guidance_channels=16,
        inputs={
            "hidden_states": floats(2, 16, 16),
            "encoder_hidden_states": _TEXT,
            "timestep": floats(2),
            "img_ids": floats(2, 16, 4),
            "txt_ids": floats(2, 7, 4),
            "guidance": floats(2),
        },
    ),
    case(
        "diffusers:AuraFlowTransformer2DModel",
        sample_size=16,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        num_attention_heads=2,
        attention_head_dim=16,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pos_embed_max_size=64,
        inputs={"hidden_states": _LATENT, "encoder_hidden_states": _TEXT, "timestep": _STEPS},
    ),
    case(
        "diffusers:SanaTransformer2DModel",
        **_HEADS,
        num_cross_attention_heads=2,
        cross_attention_head_dim=16,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=8,
        inputs={"hidden_states": floats(2, 32, 8, 8), "encoder_hidden_states": _TEXT, "timestep": _STEPS},
    ),
    case(
        "diffusers:PriorTransformer",
        **_HEADS,
        embedding_dim=32,
        num_embeddings=7,
        inputs={
            "hidden_states": floats(2, 32),
            "timestep": _STEPS,
            "proj_embedding": floats(2, 32),
            "encoder_hidden_states": _TEXT,
            "attention_mask": mask(2, 7),
        },
    ),
    case("diffusers:AutoencoderKL", norm_num_groups=8, block_out_channels=(32,)),
    case("diffusers:AutoencoderKLTemporalDecoder", inputs={"sample": floats(4, 3, 32, 32), "num_frames": 2}),
    case("diffusers:AutoencoderKLWan"),
    case("diffusers:AutoencoderKLCogVideoX"),
    case("diffusers:AutoencoderKLHunyuanVideo"),
    case("diffusers:AutoencoderDC"),
    case("diffusers:AutoencoderTiny"),
    case("diffusers:AutoencoderOobleck"),
    case("diffusers:VQModel"),
    case("diffusers:ConsistencyDecoderVAE"),
    case("denoising_diffusion_pytorch:Unet", **_LEARNER, inputs=(_IMAGE, _STEPS)),
    case(
        "denoising_diffusion_pytorch:Unet1D",
        dim=32,
        dim_mults=(1, 2),
        channels=8,
        inputs=(floats(2, 8, 64), _STEPS),
    ),
    case(
        "denoising_diffusion_pytorch:GaussianDiffusion",
        Build("denoising_diffusion_pytorch:Unet", **_LEARNER),
        image_size=32,
        timesteps=100,
        inputs=_IMAGE,
    ),
    case(
        "denoising_diffusion_pytorch.karras_unet:KarrasUnet",
        image_size=32,
        dim=32,
        dim_max=64,
        num_classes=10,
        num_downsamples=2,
        attn_dim_head=16,
        inputs={"x": floats(2, 4, 32, 32), "time": floats(2), "class_labels": tokens(10, 2)},
    ),
    case(
        "x_unet:XUnet",
        dim=32,
        channels=3,
        dim_mults=(1, 2),
        num_blocks_per_stage=(1, 1),
        num_self_attn_per_stage=(0, 1),
        nested_unet_depths=(1, 0),
        inputs=floats(2, 3, 32, 32),
    ),
]
