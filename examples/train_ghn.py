"""Train a tiny GHN on random small ResNets, and see what it predicts for ones that it never saw.

    python examples/train_ghn.py --steps 400 --out my-ghn     # about a minute on one core

docs/training.md tells what an update does and how the bundled GHN was trained.
"""

from __future__ import annotations

import argparse

import torch

from ghn_init.training import held_out
from ghn_init.training.config import TrainConfig
from ghn_init.training.data import fashion_mnist
from ghn_init.training.evaluate import zero_shot
from ghn_init.training.trainer import Trainer


def main(out: str, steps: int, networks: int, images: int) -> None:
    config = TrainConfig(
        ghn={"encoder": "gated_gnn", "hid": 16, "layers": 1, "num_classes": 10, "max_shape": [32, 32, 7, 7]},
        families={"resnet": 1.0},
        pool=16,
        pool_start=4,
        steps=steps,
        warmup=min(50, steps),
        lr=3e-3,
    )
    torch.manual_seed(0)
    # the same folder, given again as the trainer's second argument, would continue a run that was stopped
    ghn = Trainer(config, fashion_mnist("train")).run()

    unseen = {str(i): architecture for i, architecture in enumerate(held_out("resnet", networks))}
    found = zero_shot(ghn, unseen, fashion_mnist("test").head(images))
    print(f"before any training step, on networks never seen: {found}")
    print(f"written: {ghn.save_pretrained(out)}; use it as ghn_init={str(out)!r}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="my-ghn")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--networks", type=int, default=5)
    parser.add_argument("--images", type=int, default=500)
    main(**vars(parser.parse_args()))
