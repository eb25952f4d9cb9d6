"""Initialise a transformers model with a GHN from its configuration, save it, and load it again.

python examples/transformers_from_config.py --out my-bert
"""

from __future__ import annotations

import argparse

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

import ghn_init


def main(out: str, ghn: str) -> None:
    config = AutoConfig.for_model(
        "bert",
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        vocab_size=1000,
        num_labels=3,
    )
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config, ghn_init=ghn)
    print(ghn_init.report_of(model))

    # the configuration stays clean: the folder is an ordinary transformers model
    model.save_pretrained(out)
    again = AutoModelForSequenceClassification.from_pretrained(out)
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    print(f"loaded again from {out}: {'same weights' if same else 'DIFFERENT weights'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="my-bert")
    parser.add_argument("--ghn", default="bundled", help="Hub id, folder, file, or 'bundled'")
    main(**vars(parser.parse_args()))
