"""The documentation's site: built strictly, fetches nothing from elsewhere, searched without a server too."""

from __future__ import annotations

import functools
import html.parser
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import browser

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = re.compile(r"^\s*(?:https?:)?//", re.I)
FETCHED = {"src", "srcset", "poster", "data", "background"}

pytest.importorskip("material", reason="the docs extra is not installed")


class Fetches(html.parser.HTMLParser):
    """Collects what a browser would fetch from elsewhere for a page, links that are only clicked aside."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        wanted = FETCHED | ({"href"} if tag in {"link", "use", "image"} else set())
        if tag == "link" and dict(attrs).get("rel") in {"canonical", "next", "prev", "edit"}:
            return
        self.found += [value for name, value in attrs if name in wanted and value and ELSEWHERE.match(value)]
        self.found += [value for name, value in attrs if name == "style" and value and "url(" in value]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_no_page_names_a_resource_elsewhere(site: Path):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        parser = Fetches()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found == [], page.name
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        named = re.findall(r"url\(\s*['\"]?([^'\")]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)
        assert [each for each in named if ELSEWHERE.match(each)] == [], sheet.name


RESULTS = "[...document.querySelectorAll('.md-search-result__item')].map(e => e.textContent).join(' ')"


def test_a_browser_asks_nobody_else_and_search_finds(address: str, site: Path):
    with browser() as page:
        for name in ("index.html", "concepts.html", "api.html", "coverage/timm.html"):
            page.driver.get(f"{address}/{name}")
            page.until("return document.readyState === 'complete'")
        for base in (address, site.as_uri()):
            page.driver.get(f"{base}/index.html?q=calibrate_batchnorm")
            page.until(f"return {RESULTS}.includes('calibrate')")
        asked = page.requests()
        assert any(url.endswith(".css") for url in asked)
        assert [url for url in asked if ELSEWHERE.match(url) and not url.startswith(address)] == []
        assert [line for line in page.complaints() if "favicon" not in line] == []
