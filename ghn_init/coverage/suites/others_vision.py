"""Recognition and detection in images and video, and matching of local features."""

from __future__ import annotations

from typing import Any

from ghn_init.coverage.suites.others_case import case, floats, tokens

_IMAGE = floats(2, 3, 64, 64)
_V = "vit_pytorch."
_VIT: dict[str, Any] = {
    "image_size": 64,
    "patch_size": 16,
    "num_classes": 10,
    "dim": 32,
    "depth": 2,
    "heads": 2,
    "mlp_dim": 64,
}
_DISTINCT = ("deepvit:DeepViT", "vit_for_small_dataset:ViT", "parallel_vit:ViT", "simple_vit:SimpleViT",
             "simple_vit_with_register_tokens:SimpleViT", "simple_vit_with_qk_norm:SimpleViT",
             "simple_vit_with_value_residual:SimpleViT",
             "simple_flash_attn_vit:SimpleViT", "vit_with_patch_merger:ViT", "normalized_vit:nViT",
             "simple_uvit:SimpleUViT", "vit:ViT")  # fmt: skip
_YOLO = ("yolov8n.yaml", "yolov8n-seg.yaml", "yolov8n-pose.yaml", "yolov8n-cls.yaml", "yolo11n.yaml",
         "yolo12n.yaml", "yolov10n.yaml", "yolov9t.yaml", "yolov5n.yaml")  # fmt: skip
_TASKS: dict[str, Any] = {"seg": "SegmentationModel", "pose": "PoseModel", "cls": "ClassificationModel"}

CASES = [
    *(
        case(
            _V + path,
            **_VIT,
            name=path.replace(":", "."),
            inputs=_IMAGE,
        )
        for path in _DISTINCT
    ),
    case(_V + "cait:CaiT", **_VIT, cls_depth=1, layer_dropout=0.05, inputs=_IMAGE),
    case(_V + "xcit:XCiT", **_VIT, cls_depth=1, inputs=_IMAGE),
    case(
        _V + "max_vit:MaxViT", num_classes=10, dim=16, dim_head=8, depth=(1, 1), window_size=4, inputs=_IMAGE
    ),
    case(
        _V + "na_vit:NaViT", **_VIT, inputs=([[floats(3, 64, 64), floats(3, 32, 64)], [floats(3, 64, 32)]],)
    ),
    case(
        _V + "vivit:FactorizedTransformer",
        32,
        1,
        2,
        16,
        64,
        name="vivit.FactorizedTransformer",
        inputs=floats(2, 4, 8, 32),
    ),
    case("efficientnet_pytorch:EfficientNet.from_name", "efficientnet-b0", inputs=floats(2, 3, 224, 224)),
    case("pretrainedmodels:nasnetamobile", pretrained=None, inputs=floats(2, 3, 224, 224)),
    case("pretrainedmodels:dpn68", pretrained=None, inputs=floats(2, 3, 224, 224)),
    case("pretrainedmodels:se_resnext50_32x4d", pretrained=None),
    case("pretrainedmodels:inceptionresnetv2", pretrained=None, inputs=floats(2, 3, 299, 299)),
    case("pretrainedmodels:polynet", pretrained=None, inputs=floats(2, 3, 331, 331)),
    *(
        case("pytorchcv.model_provider:get_model", model, name=model, inputs=floats(2, 3, 224, 224))
        for model in (
            "airnet50_1x64d_r2",
            "bam_resnet18",
            "cbam_resnet18",
            "dla34",
            "hrnet_w18_small_v1",
            "igcv3_w1",
            "mnasnet_b1",
            "shufflenetv2_w1",
            "sknet50",
            "fdmobilenet_w1",
            "ghostnet",
            "simplepose_resnet18_coco",
            "centernet_resnet18_voc",
            "wrn20_10_1bit_cifar10",
            "diracnet18v2",
            "squeezeresnet_v1_1",
        )
    ),
    *(
        case(
            f"ultralytics.nn.tasks:{next((c for k, c in _TASKS.items() if k in name), 'DetectionModel')}",
            name,
            verbose=False,
            name=name.removesuffix(".yaml"),
            inputs=floats(1, 3, 64, 64),
        )
        for name in _YOLO
    ),
    case(
        "ultralytics.nn.tasks:RTDETRDetectionModel",
        "rtdetr-l.yaml",
        verbose=False,
        evaluate=True,
        inputs=floats(1, 3, 160, 160),
    ),
    case(
        "effdet:create_model",
        "tf_efficientdet_d0",
        pretrained_backbone=False,
        pretrained=False,
        inputs=floats(1, 3, 512, 512),
    ),
    *(
        case("open_clip:create_model", model, name=model, inputs=(floats(2, 3, *size), tokens(40, 2, length)))
        for model, size, length in (
            ("ViT-B-32", (224, 224), 77),
            ("RN50", (224, 224), 77),
            ("coca_ViT-B-32", (224, 224), 76),
            ("convnext_base", (224, 224), 77),
        )
    ),
    case("kornia.feature:HyNet", pretrained=False, inputs=floats(2, 1, 32, 32)),
    case(
        "kornia.feature:LoFTR",
        pretrained=None,
        evaluate=True,
        inputs=({"image0": floats(1, 1, 64, 64), "image1": floats(1, 1, 64, 64)},),
    ),
    case("kornia.feature:DISK", inputs=floats(1, 3, 64, 64)),
    case("pytorchvideo.models:create_resnet", inputs=floats(1, 3, 8, 224, 224)),
    case(
        "pytorchvideo.models.x3d:create_x3d",
        input_clip_length=4,
        input_crop_size=160,
        inputs=floats(1, 3, 4, 160, 160),
    ),
    case("pytorchvideo.models.r2plus1d:create_r2plus1d", inputs=floats(1, 3, 16, 224, 224)),
    case(
        "pytorchvideo.models:create_slowfast",
        inputs=([floats(1, 3, 8, 256, 256), floats(1, 3, 32, 256, 256)],),
    ),
    case(
        "pytorchvideo.models:create_multiscale_vision_transformers",
        spatial_size=32,
        temporal_size=4,
        depth=2,
        patch_embed_dim=32,
        num_heads=2,
        inputs=floats(1, 3, 4, 32, 32),
    ),
    case(
        "monai.networks.nets:MILModel",
        num_classes=2,
        pretrained=False,
        mil_mode="att_trans",
        inputs=floats(1, 3, 3, 64, 64),
    ),
    case("antialiased_cnns:resnet18", pretrained=False),
    case("torchxrayvision.models:DenseNet", num_classes=18, in_channels=1, inputs=floats(2, 1, 224, 224)),
    case("slot_attention:SlotAttention", num_slots=5, dim=32, inputs=floats(2, 16, 32)),
    case(
        "perceiver_pytorch:Perceiver",
        input_channels=3,
        input_axis=2,
        num_freq_bands=6,
        max_freq=10.0,
        depth=2,
        num_latents=16,
        latent_dim=32,
        cross_heads=1,
        latent_heads=2,
        num_classes=10,
        inputs=floats(2, 16, 16, 3),
    ),
    case(
        "mlp_mixer_pytorch:MLPMixer",
        image_size=64,
        channels=3,
        patch_size=16,
        dim=32,
        depth=2,
        num_classes=10,
    ),
    case(
        "lambda_networks:LambdaLayer",
        dim=32,
        dim_out=32,
        n=8,
        dim_k=16,
        heads=4,
        dim_u=1,
        inputs=floats(1, 32, 8, 8),
    ),
    case(
        "bottleneck_transformer_pytorch:BottleStack",
        dim=32,
        fmap_size=16,
        dim_out=64,
        proj_factor=4,
        heads=4,
        dim_head=16,
        inputs=floats(2, 32, 16, 16),
    ),
    case("siren_pytorch:SirenNet", dim_in=2, dim_hidden=32, dim_out=3, num_layers=3, inputs=floats(8, 2)),
    case("lightly.models.modules.heads:DINOProjectionHead", 32, 32, 16, 64, inputs=floats(4, 32)),
]
