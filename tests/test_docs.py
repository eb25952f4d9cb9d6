"""The documentation runs: every Python block of the README and the pages, in order, page by page."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?P<mark><!-- not run: (?P<why>.+?) -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```", re.M | re.S
)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and text of the blocks to run; one under ``<!-- not run: reason -->`` is only compiled."""
    found = []
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        if match["language"] != "python":
            continue
        line = text.count("\n", 0, match.start("code")) + 1
        compile(match["code"], f"{page.name}:{line}", "exec")
        if not match["why"]:
            found.append((line, match["code"]))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GHN_INIT_DEFAULT", "bundled")
    script = "\n".join(
        # each block keeps its line numbers, so that a failure points into the page
        f"exec(compile({chr(10) * (line - 1) + code!r}, {str(page)!r}, 'exec'))"
        for line, code in blocks(page)
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_blocks_are_found_and_marks_need_a_reason():
    assert any(blocks(page) for page in PAGES)
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- not run") == sum(1 for match in FENCE.finditer(text) if match["why"]), (
            page.name
        )


def test_relative_links_of_the_readme_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", text) + re.findall(r'src="(?!https?:)([^"]+)"', text)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_pages_and_navigation_agree():
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\w+\.md)$", text, re.M))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}
