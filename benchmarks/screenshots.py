"""Screenshots of the documentation, of a headless Chromium.

    python benchmarks/screenshots.py

Writes ``docs/images/report.png`` (a network with its blocks folded), ``report_dark.png`` (a block opened, one
parameter selected) and ``notebook.png`` (a report as a notebook shows it). It needs Chromium, its driver and
selenium.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import timm  # noqa: E402
import torch  # noqa: E402
from browser import browser, why_absent  # noqa: E402

import ghn_init  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SETTLED = 0.5
"""Seconds after which the page has stopped moving."""


def main() -> None:
    """Write all pictures."""
    if reason := why_absent():
        raise SystemExit(reason)
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=10)
    report = ghn_init.apply(model, "bundled", statistics=True)
    with tempfile.TemporaryDirectory() as folder, browser(1500, 800) as page:
        path = Path(folder) / "report.html"
        report.to_html(path)
        page.open(path)
        _shoot(page, "report.png")
        page.colour_scheme("dark")
        page.press("/")
        page.press("layer2.0.conv1.weight", "\n")
        _shoot(page, "report_dark.png")
        page.colour_scheme("light")
        cell = Path(folder) / "cell.html"
        style = "<style>body{font:14px sans-serif;margin:0;padding:16px;width:760px}</style>"
        cell.write_text(f"<!doctype html><meta charset=utf-8>{style}{report._repr_html_()}", encoding="utf-8")
        page.driver.get(cell.as_uri())
        page.find("body").screenshot(str(IMAGES / "notebook.png"))
    print(f"written: {IMAGES}")


def _shoot(page: object, name: str) -> None:
    time.sleep(SETTLED)
    page.driver.save_screenshot(str(IMAGES / name))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
