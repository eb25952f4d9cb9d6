"""Keep a pretrained backbone as it is, and predict only the new head that its checkpoint lacks.

    python examples/new_head.py
    python examples/new_head.py --backbone google/vit-base-patch16-224-in21k

Without --backbone a small ViT is made and saved first, to stand for a pretrained one.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from transformers import AutoModel, AutoModelForImageClassification, ViTConfig

import ghn_init


def stand_in(folder: str) -> str:
    config = ViTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32,
        patch_size=8,
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def main(backbone: str | None, ghn: str, classes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = backbone or stand_in(folder)
        before = AutoModel.from_pretrained(source).state_dict()
        # with as many classes as the GHN was trained on, the head is predicted; the checkpoint's weights win
        model = AutoModelForImageClassification.from_pretrained(source, num_labels=classes, ghn_init=ghn)

    report = ghn_init.report_of(model)
    print(f"predicted: {', '.join(sorted(report.predicted))}")
    inner = model.base_model.state_dict()
    same = all(torch.equal(inner[name], value) for name, value in before.items() if name in inner)
    print(f"backbone: {'bit-equal to the checkpoint' if same else 'CHANGED'}")
    if not same:
        raise SystemExit(1)

    # of any other class count the head keeps the library's own init, unless it is asked for
    names = [name for name in dict(model.named_parameters()) if name.startswith("classifier.")]
    ghn_init.apply(model, ghn, only=names, head="predict")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", help="Hub id or folder of a transformers image model")
    parser.add_argument("--ghn", default="bundled", help="Hub id, folder, file, or 'bundled'")
    parser.add_argument("--classes", type=int, default=10)
    main(**vars(parser.parse_args()))
