"""Initialise a timm model with a GHN, set its BatchNorm statistics, and fine-tune it on real images.

python examples/timm_finetune.py --model resnet18 --steps 50
"""

from __future__ import annotations

import argparse

import timm
import torch
import torch.nn.functional as F
from tqdm import tqdm

import ghn_init
from ghn_init.training.data import fashion_mnist


def accuracy(model: torch.nn.Module, data) -> float:
    model.eval()
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in data.batches(250))
    return hits / len(data)


def main(model: str, ghn: str, steps: int, images: int, rate: float) -> float:
    train = fashion_mnist("train").head(images)
    test = fashion_mnist("test").head(images)
    torch.manual_seed(0)
    net = timm.create_model(model, num_classes=10, ghn_init=ghn)
    # a GHN predicts parameters, not BatchNorm's running statistics: set them from a few batches
    ghn_init.calibrate_batchnorm(net, [x for x, _ in train.batches(64)][:8])
    print(f"{model}, before training: {accuracy(net, test):.1%}")

    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4, nesterov=True)
    batches = list(train.batches(64))
    net.train()
    for step in tqdm(range(steps), unit="step"):
        x, y = batches[step % len(batches)]
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    result = accuracy(net, test)
    print(f"{model}, after {steps} steps: {result:.1%}")
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--ghn", default="bundled", help="Hub id, folder, file, or 'bundled'")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=0.01)
    main(**vars(parser.parse_args()))
