"""Small random members of timm's families: what users create, at a size that a GHN can be trained on.

Each family is a pair: ``sample(rng)`` draws JSON-able arguments, ``build(args, num_classes, image_size)``
makes the module. timm is imported on the first build only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from torch import nn

from ghn_init.errors import ConfigError
from ghn_init.extras import needed
from ghn_init.training.cell_space import CELL_SPLITS, build_cells, sample_cells
from ghn_init.training.cells import ACTIVATIONS

Arguments = Mapping[str, Any]
_of_timm = needed("train", "a family of timm's networks")


@dataclass(frozen=True)
class Family:
    """How to draw and how to build the networks of one family.

    Attributes:
        sample: Random source to JSON-able arguments.
        build: Arguments, number of classes, image side in pixels to a freshly initialised module that
            takes ``(B, 3, S, S)``.
    """

    sample: Callable[[Random], dict[str, Any]]
    build: Callable[[Arguments, int, int], nn.Module]


# ---------------------------------------------------------------- timm


def _widths(rng: Random, base: int, stages: int) -> list[int]:
    growth = rng.choice((1.5, 2.0, 2.0))
    return [round(base * growth**stage / 8) * 8 for stage in range(stages)]


def _sample_resnet(rng: Random) -> dict[str, Any]:
    bottleneck = rng.random() < 0.3
    return {
        "bottleneck": bottleneck,
        "layers": [rng.choice((1, 1, 2, 2, 3)) for _ in range(4)],
        "channels": _widths(rng, rng.choice((8, 16, 16) if bottleneck else (16, 16, 24, 32, 48)), 4),
        "stem_type": rng.choice(("", "", "deep")),
        "stem_width": rng.choice((16, 32, 64)),
        "avg_down": rng.random() < 0.25,
        "attn": rng.choice((None, None, None, "se")),
        "act": rng.choice(("relu", "relu", "relu", "silu")),
    }


@_of_timm
def _build_resnet(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    block: Any = Bottleneck if args["bottleneck"] else BasicBlock  # timm annotates the class as an instance
    return ResNet(
        block,
        tuple(args["layers"]),
        num_classes,
        channels=tuple(args["channels"]),
        stem_type=args["stem_type"],
        stem_width=args["stem_width"] // (2 if args["stem_type"] else 1),
        avg_down=args["avg_down"],
        act_layer=ACTIVATIONS[args["act"]],
        block_args={"attn_layer": args["attn"]} if args["attn"] else None,
    )


def _sample_convnext(rng: Random) -> dict[str, Any]:
    return {
        "depths": [rng.randint(1, 3) for _ in range(4)],
        "dims": _widths(rng, rng.choice((16, 24, 32, 40)), 4),
        "patch_size": rng.choice((2, 4, 4)),
        "conv_mlp": rng.random() < 0.5,
        "ls_init_value": rng.choice((None, 1e-6)),
        "use_grn": rng.random() < 0.2,
    }


@_of_timm
def _build_convnext(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(num_classes=num_classes, **args)


def _sample_vit(rng: Random) -> dict[str, Any]:
    heads = rng.choice((2, 3, 4, 6))
    return {
        "patch_size": rng.choice((4, 4, 8, 16)),
        "embed_dim": heads * rng.choice((16, 24, 32)),
        "depth": rng.choice((1, 2, 3, 4, 6)),
        "num_heads": heads,
        "mlp_ratio": rng.choice((2.0, 4.0, 4.0)),
        "global_pool": rng.choice(("token", "avg")),
    }


@_of_timm
def _build_vit(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    pooled = args["global_pool"] == "avg"
    return VisionTransformer(img_size=image_size, num_classes=num_classes, class_token=not pooled, **args)


def _sample_mixer(rng: Random) -> dict[str, Any]:
    return {
        "patch_size": rng.choice((4, 4, 8)),
        "num_blocks": rng.randint(1, 5),
        "embed_dim": 8 * rng.randint(4, 20),
        "mlp_ratio": [rng.choice((0.5, 1.0, 2.0)), rng.choice((2.0, 3.0, 4.0))],
    }


@_of_timm
def _build_mixer(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(
        num_classes=num_classes, img_size=image_size, **{**args, "mlp_ratio": tuple(args["mlp_ratio"])}
    )


def _sample_mobile(rng: Random) -> dict[str, Any]:
    width = rng.choice((8, 8, 16, 16, 24))
    stages = [[f"ds_r1_k3_s{rng.choice((1, 2))}_e1_c{width}"]]
    for c in _widths(rng, int(1.5 * width), rng.choice((3, 4, 5))):
        stride = rng.choice((1, 2, 2)) if len(stages) < 5 else 1
        gate = rng.choice(("", "", "_se0.25"))
        blocks = f"ir_r{rng.randint(1, 3)}_k{rng.choice((3, 3, 5))}_s{stride}_e{rng.choice((2, 3, 4, 6))}"
        stages.append([f"{blocks}_c{c}{gate}"])
    return {
        "stages": stages,
        "stem_size": rng.choice((8, 16, 24, 32)),
        "num_features": rng.choice((128, 256, 512, 1024, 1280)),
        "act": rng.choice(("relu", "relu6", "silu", "hard_swish")),
        "head_first": rng.random() < 0.4,
    }


@_of_timm
def _build_mobile(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.layers.create_act import get_act_layer
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet
    from timm.models.mobilenetv3 import MobileNetV3

    kind = MobileNetV3 if args["head_first"] else EfficientNet
    return kind(
        decode_arch_def(args["stages"]),
        num_classes,
        num_features=args["num_features"],
        stem_size=args["stem_size"],
        act_layer=get_act_layer(args["act"]),
    )


def _sample_regnet(rng: Random) -> dict[str, Any]:
    while True:
        depth, start = rng.randint(5, 14), rng.choice((16, 24, 32))
        slope, ratio = rng.uniform(6.0, 36.0), rng.uniform(1.8, 2.8)
        growth = [round(math.log1p(slope * block / start) / math.log(ratio)) for block in range(depth)]
        if sorted(set(growth)) == [0, 1, 2, 3]:  # timm's RegNet has exactly four stages
            break
    return {
        "depth": depth,
        "w0": start,
        "wa": slope,
        "wm": ratio,
        "group_size": rng.choice((8, 16)),
        "se_ratio": rng.choice((0.0, 0.25)),
        "stem_width": rng.choice((16, 32)),
    }


@_of_timm
def _build_regnet(args: Arguments, num_classes: int, image_size: int) -> nn.Module:
    from timm.models.regnet import RegNet, RegNetCfg

    return RegNet(RegNetCfg(**args), num_classes=num_classes)


FAMILIES: dict[str, Family] = {
    "cells": Family(sample_cells, build_cells),
    **{f"cells-{split}": Family(sample, build_cells) for split, sample in CELL_SPLITS.items()},
    "resnet": Family(_sample_resnet, _build_resnet),
    "convnext": Family(_sample_convnext, _build_convnext),
    "vit": Family(_sample_vit, _build_vit),
    "mixer": Family(_sample_mixer, _build_mixer),
    "mobile": Family(_sample_mobile, _build_mobile),
    "regnet": Family(_sample_regnet, _build_regnet),
}


def register_family(name: str, family: Family) -> None:
    """Make a family of networks known to :class:`~ghn_init.training.spaces.Space`, to training and to search.

    Networks of the other families stay the same draws of the same seeds.

    Args:
        name: What it is called in ``Space({name: weight})`` and ``TrainConfig(families={name: weight})``.
        family: How to draw and how to build its networks; it must have well over 100 different ones,
            of which 100 are held out from training.

    Raises:
        ConfigError: The name is taken.

    Example:
        >>> from torch import nn
        >>> register_family(
        ...     "linear",
        ...     Family(
        ...         sample=lambda rng: {"width": rng.randint(1, 999)},
        ...         build=lambda args, classes, side: nn.Sequential(
        ...             nn.Flatten(), nn.Linear(3 * side**2, args["width"]), nn.Linear(args["width"], classes)
        ...         ),
        ...     ),
        ... )
    """
    if name in FAMILIES:
        raise ConfigError(f"a family called {name!r} is there already; choose another name")
    FAMILIES[name] = family
