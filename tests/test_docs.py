"""The documentation runs: every Python block of the README and the pages, in order, page by page."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from doc_blocks import FENCE, ROOT, blocks, run

import ghn_init.errors

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run_and_print_what_the_page_says(page: Path, tmp_path: Path):
    for block, printed in run(page, tmp_path):
        if block.printed is not None:
            assert printed == block.printed, f"{page.name}:{block.line}; python tests/doc_blocks.py {page}"


def test_blocks_are_found_and_marks_belong_to_one():
    assert any(block.runs for page in PAGES for block in blocks(page))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        marks = len(re.findall(r"^<!-- (?:not run|needs): ", text, re.M))
        assert marks == sum(1 for match in FENCE.finditer(text) if match["mark"]), page.name
        printed = len(re.findall(r"^<!-- printed -->", text, re.M))
        assert printed == sum(1 for match in FENCE.finditer(text) if match["printed"] is not None), page.name
        assert len(re.findall(r"^```python", text, re.M)) == len(blocks(page)), page.name


def test_relative_links_of_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_pages_and_navigation_agree():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\w+\.md)$", text, re.M))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}


ROOMS = (
    "ghn_init",
    *(f"ghn_init.{room}" for room in ("ghn", "graph", "hooks", "ranking", "tracing", "training")),
)


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_is_in_the_reference(room: str):
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = {line.rpartition(".")[2] for line in re.findall(r"^::: (\S+)", text, re.M)}
    module = importlib.import_module(room)
    errors = set(vars(ghn_init.errors))
    assert set(module.__all__) - listed - errors - {"__version__"} == set()
