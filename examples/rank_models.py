"""Which of these models should I train? Score them with predicted weights, before any is trained.

python examples/rank_models.py --models resnet10t resnet18 mobilenetv2_050 vit_tiny_patch16_224
"""

from __future__ import annotations

import argparse

from torch import nn

import ghn_init
from ghn_init.training.data import fashion_mnist


def my_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def main(models: list[str], ghn: str, images: int) -> None:
    candidates = {"my_net": my_net, **{name: name for name in models}}  # functions, timm names, modules
    ranking = ghn_init.rank(candidates, fashion_mnist("test"), ghn, images=images, proxies=["synflow"])
    print(ranking)
    for name, why in ranking.failed.items():
        print(f"failed: {name}: {why}")
    print(f"first: {ranking.best.name}")
    print("best for their cost:", ", ".join(entry.name for entry in ranking.pareto("flops")))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["resnet10t", "mobilenetv2_050", "convnext_atto"])
    parser.add_argument("--ghn", default="bundled", help="Hub id, folder, file, or 'bundled'")
    parser.add_argument("--images", type=int, default=512)
    main(**vars(parser.parse_args()))
