"""Files shipped with the package: the bundled GHN, a subset of Fashion-MNIST, the page of a report."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).resolve().parent
BUNDLED_GHN = ASSETS / "bundled"
FASHION_MNIST_SUBSET = ASSETS / "fashion_mnist" / "subset.npz"
PAGE = ASSETS / "page"
