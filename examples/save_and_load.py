"""Build a GHN of your own, save it as a safe folder, load it, and initialise a model with it.

    python examples/save_and_load.py --out my-ghn

The GHN here is not trained, so its predictions are no better than noise; see docs/training.md to train one.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

import ghn_init


def small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def main(out: str) -> None:
    torch.manual_seed(0)
    config = ghn_init.GHNConfig(hid=32, layers=2, heads=4, num_classes=10, max_shape=(32, 32, 7, 7))
    ghn = ghn_init.GHN(config)
    print(f"written: {ghn.save_pretrained(out)}")

    again = ghn_init.GHN.from_pretrained(out)
    model = small_net()
    example = torch.zeros(1, 3, 32, 32)  # needed for a model that names no input size
    report = ghn_init.apply(model, again, example_inputs=(example,))
    print(report)

    tensors = ghn_init.predict(small_net(), ghn, example_inputs=(example,))
    largest = max((tensors[name] - value).abs().max().item() for name, value in model.named_parameters())
    print(f"largest difference between the saved and the loaded GHN's predictions: {largest}")
    if largest:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="my-ghn")
    main(**vars(parser.parse_args()))
