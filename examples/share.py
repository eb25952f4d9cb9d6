"""Push a GHN to the Hub, pull it by its commit, and see that both predict the same bits.

    huggingface-cli login && python examples/share.py --repo me/my-ghn
    python tests/hub/loopback.py -- python examples/share.py         # on a Hub of this machine, no account

The repository is made private.
"""

from __future__ import annotations

import argparse
import os

import timm
import torch

import ghn_init


def main(repo: str, ghn: str) -> None:
    mine = ghn_init.GHN.from_pretrained(ghn)
    commit = mine.push_to_hub(repo, private=True)
    print(f"pushed {repo} to {os.environ.get('HF_ENDPOINT', 'the Hub')}: commit {commit}")

    # a commit pins the weights; without revision= the newest are taken
    theirs = ghn_init.GHN.from_pretrained(repo, revision=commit)
    model = timm.create_model("resnet10t", num_classes=10, ghn_init=theirs)
    print(ghn_init.report_of(model).summary)

    again = timm.create_model("resnet10t", num_classes=10, ghn_init=mine)
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    print(f"pulled GHN: {'same predictions' if same else 'DIFFERENT predictions'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repo", default="me/my-ghn")
    parser.add_argument("--ghn", default="bundled", help="what to push: folder, file, Hub id, or 'bundled'")
    main(**vars(parser.parse_args()))
