"""Draw the pictures of graphs in the documentation.

python docs/_pictures.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torchvision

import ghn_init

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))


def small_network():
    """The network that the page on concepts follows."""
    from doc_blocks import blocks

    space = {"__name__": "__main__"}
    exec(blocks(DOCS / "concepts.md")[0].code, space)
    return space["model"], space["inputs"]


if __name__ == "__main__":
    model, inputs = small_network()
    ghn_init.trace(model, inputs).plot(DOCS / "images" / "concepts.png", title="The small network", columns=9)
    resnet = torchvision.models.resnet18(num_classes=10)
    ghn_init.trace(resnet).plot(DOCS / "images" / "resnet18.png", title="ResNet-18")
