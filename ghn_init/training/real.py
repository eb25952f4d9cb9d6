"""timm models on which a GHN is evaluated: full width, never drawn in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from ghn_init.extras import needed

SEEN_FAMILIES: dict[str, dict[str, Any]] = {
    "resnet10t": {},
    "resnet18": {},
    "resnet26": {},
    "resnet34": {},
    "legacy_seresnet18": {},
    "mobilenetv2_050": {},
    "mobilenetv3_small_050": {},
    "mobilenetv3_small_100": {},
    "lcnet_050": {},
    "tinynet_e": {},
    "efficientnet_lite0": {},
    "regnetx_002": {},
    "regnety_002": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 4},
}
"""timm name → arguments beside the class count; smaller relatives are in the training space."""

UNSEEN_FAMILIES: dict[str, dict[str, Any]] = {
    "repvgg_a0": {},
    "densenet121": {},
    "dla34": {},
    "ese_vovnet19b_dw": {},
    "ghostnet_050": {},
}
"""The same for models of families that the training space does not have."""


def build(models: Mapping[str, Mapping[str, Any]], num_classes: int = 10) -> dict[str, nn.Module]:
    """Name → freshly initialised timm model that takes ``(B, 3, 32, 32)``."""
    with needed("train", "evaluation on networks of timm"):
        import timm

    return {name: timm.create_model(name, num_classes=num_classes, **args) for name, args in models.items()}
