"""Segmentation, medical imaging, restoration, compression and quality of images."""

from __future__ import annotations

from typing import Any

from torch import nn

from ghn_init.coverage.suites.others_case import Build, case, floats

_SMP = ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus",
        "UPerNet", "Segformer")  # fmt: skip
_VOLUME = floats(1, 1, 32, 32, 32)
_NETS = "monai.networks.nets:"
_DEEP: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
_DIFFUSION: dict[str, Any] = {
    "spatial_dims": 2,
    "in_channels": 1,
    "channels": (32, 32),
    "attention_levels": (False, True),
    "num_res_blocks": 1,
    "num_head_channels": 16,
}
_NN = "dynamic_network_architectures.architectures."
_PLANS: dict[str, Any] = {
    "input_channels": 1,
    "n_stages": 3,
    "features_per_stage": (16, 32, 64),
    "conv_op": nn.Conv3d,
    "kernel_sizes": 3,
    "strides": (1, 2, 2),
    "num_classes": 2,
    "conv_bias": True,
}

CASES = [
    *(
        case(
            f"segmentation_models_pytorch:{name}",
            encoder_name="resnet18",
            encoder_weights=None,
            classes=3,
            inputs=floats(2, 3, 128, 128),
        )
        for name in _SMP
    ),
    case(
        "segmentation_models_pytorch:DPT",
        encoder_name="tu-vit_tiny_patch16_224",
        encoder_weights=None,
        encoder_depth=4,
        encoder_output_indices=[2, 5, 8, 11],
        inputs=floats(1, 3, 224, 224),
    ),
    case(
        "segmentation_models_pytorch:Unet",
        encoder_name="mit_b0",
        encoder_weights=None,
        name="Unet-mit",
        inputs=floats(2, 3, 64, 64),
    ),
    case(
        "segmentation_models_pytorch:Unet",
        encoder_name="tu-convnext_atto",
        encoder_weights=None,
        encoder_depth=4,
        decoder_channels=(64, 32, 16, 8),
        name="Unet-timm",
        inputs=floats(2, 3, 64, 64),
    ),
    case(_NETS + "UNet", **_DEEP, channels=(8, 16, 32), strides=(2, 2), num_res_units=2),
    case(_NETS + "BasicUNet", **_DEEP),
    case(_NETS + "BasicUNetPlusPlus", **_DEEP, features=(8, 8, 16, 32, 64, 8)),
    case(_NETS + "AttentionUnet", **_DEEP, channels=(8, 16, 32), strides=(2, 2), inputs=_VOLUME),
    case(
        _NETS + "DynUNet",
        **_DEEP,
        kernel_size=[3, 3, 3],
        strides=[1, 2, 2],
        upsample_kernel_size=[2, 2],
        inputs=_VOLUME,
    ),
    case(
        _NETS + "UNETR",
        in_channels=1,
        out_channels=2,
        img_size=(32, 32, 32),
        hidden_size=48,
        mlp_dim=64,
        num_heads=4,
        inputs=_VOLUME,
    ),
    case(
        _NETS + "SwinUNETR", in_channels=1, out_channels=2, feature_size=12, inputs=floats(1, 1, 64, 64, 64)
    ),
    case(_NETS + "SegResNet", inputs=_VOLUME),
    case(_NETS + "SegResNetDS", inputs=_VOLUME),
    case(_NETS + "VNet", inputs=_VOLUME),
    case(_NETS + "DenseNet121", spatial_dims=3, in_channels=1, out_channels=2, inputs=_VOLUME),
    case(_NETS + "EfficientNetBN", "efficientnet-b0", pretrained=False),
    case(_NETS + "SEResNet50", spatial_dims=2, in_channels=3, num_classes=4),
    case(
        _NETS + "ViT",
        in_channels=1,
        img_size=(32, 32, 32),
        patch_size=(8, 8, 8),
        hidden_size=48,
        mlp_dim=64,
        num_layers=2,
        num_heads=4,
        classification=True,
        inputs=_VOLUME,
    ),
    case(_NETS + "AutoEncoder", **_DEEP, channels=(4, 8), strides=(2, 2), inputs=_VOLUME),
    case(
        _NETS + "VarAutoEncoder",
        spatial_dims=2,
        in_shape=(1, 32, 32),
        out_channels=1,
        latent_size=8,
        channels=(4, 8),
        strides=(2, 2),
        inputs=floats(2, 1, 32, 32),
    ),
    case(_NETS + "HighResNet", **_DEEP, inputs=_VOLUME),
    case(
        _NETS + "FlexibleUNet",
        in_channels=3,
        out_channels=2,
        backbone="efficientnet-b0",
        inputs=floats(2, 3, 64, 64),
    ),
    case(_NETS + "MedNeXt", spatial_dims=3, init_filters=8, in_channels=1, out_channels=2, inputs=_VOLUME),
    case(
        _NETS + "DiffusionModelUNet",
        **_DIFFUSION,
        out_channels=1,
        inputs={"x": floats(2, 1, 16, 16), "timesteps": floats(2)},
    ),
    case(
        _NETS + "AutoencoderKL",
        spatial_dims=2,
        channels=(32, 32),
        attention_levels=(False, True),
        latent_channels=4,
        num_res_blocks=(1, 1),
        inputs=floats(2, 1, 32, 32),
    ),
    case(
        _NETS + "VQVAE",
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(16, 16),
        num_res_layers=1,
        num_res_channels=(16, 16),
        downsample_parameters=((2, 4, 1, 1),) * 2,
        upsample_parameters=((2, 4, 1, 1, 0),) * 2,
        num_embeddings=16,
        embedding_dim=8,
        inputs=floats(2, 1, 32, 32),
    ),
    case(
        _NETS + "VoxelMorphUNet",
        spatial_dims=3,
        in_channels=2,
        unet_out_channels=32,
        channels=(16, 32, 32, 32, 32, 32),
        final_conv_channels=(16, 16),
        inputs=floats(1, 2, 32, 32, 32),
    ),
    case(
        _NN + "unet:PlainConvUNet", **_PLANS, n_conv_per_stage=2, n_conv_per_stage_decoder=2, inputs=_VOLUME
    ),
    case("compressai.models:ScaleHyperprior", 16, 24, inputs=floats(2, 3, 64, 64)),
    case("compressai.models:JointAutoregressiveHierarchicalPriors", 16, 24, inputs=floats(2, 3, 64, 64)),
    case("compressai.models:Cheng2020Attention", N=16, inputs=floats(2, 3, 64, 64)),
    case("compressai.models:Elic2022Official", inputs=floats(1, 3, 64, 64)),
    case(
        "lpips:LPIPS",
        net="alex",
        pretrained=False,
        pnet_rand=True,
        inputs=(floats(2, 3, 64, 64), floats(2, 3, 64, 64)),
    ),
    case("spandrel.architectures.ESRGAN:ESRGAN", num_filters=16, num_blocks=2, inputs=floats(1, 3, 16, 16)),
    case(
        "spandrel.architectures.SwinIR:SwinIR",
        img_size=16,
        depths=[2],
        num_heads=[2],
        embed_dim=16,
        window_size=8,
        inputs=floats(1, 3, 16, 16),
    ),
    case(
        "spandrel.architectures.HAT:HAT",
        img_size=16,
        depths=(2,),
        num_heads=(2,),
        embed_dim=60,
        window_size=8,
        inputs=floats(1, 3, 16, 16),
    ),
    case("spandrel.architectures.NAFNet:NAFNet", inputs=floats(1, 3, 32, 32)),
    case(
        "spandrel.architectures.SCUNet:SCUNet",
        dim=64,
        config=[1, 1, 1, 1, 1, 1, 1],
        inputs=floats(1, 3, 64, 64),
    ),
    case(
        "super_image:EdsrModel",
        Build("super_image:EdsrConfig", scale=2, n_feats=16, n_resblocks=2),
        inputs=floats(1, 3, 16, 16),
    ),
]
