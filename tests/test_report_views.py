"""A report as a page, as a cell of a notebook, and in a terminal with rich."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import torch
from browser import browser
from states import IMAGE, ConvNet, TiedNet, tiny_ghn
from torch import nn
from torch.nn.utils import parametrizations

import ghn_init
from ghn_init.graph import ArchGraph, Node
from ghn_init.report import GHNSource, InitReport

GHN = tiny_ghn()
HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=1'>[bold red]&amp;"


def hostile() -> InitReport:
    graph = ArchGraph((Node("input"), Node("sum", op=HOSTILE, module=HOSTILE)), [(0, 1)], name=HOSTILE)
    return InitReport(
        *({}, {f"a.{HOSTILE}": HOSTILE}, {f"b.{HOSTILE}": HOSTILE}),
        ghn=GHNSource(HOSTILE),
        graph=graph,
        notes=(HOSTILE,),
        sizes={f"a.{HOSTILE}": 3, f"b.{HOSTILE}": 4},
        model=HOSTILE,
    )


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}


def unused() -> nn.Module:
    model = ConvNet(classes=7)
    model.unused = nn.Linear(3, 3)
    return model


def parametrised() -> nn.Module:
    model = ConvNet()
    parametrizations.weight_norm(model.conv)
    return model


@pytest.mark.parametrize(
    ("build", "inputs"),
    [(unused, IMAGE), (parametrised, IMAGE), (TiedNet, torch.zeros(1, 4, dtype=torch.long))],
)
@pytest.mark.parametrize("statistics", [False, True])
def test_the_page_tells_what_was_done_to_every_parameter(tmp_path, build, inputs, statistics):
    model = build()
    report = ghn_init.apply(model, GHN, example_inputs=inputs, statistics=statistics)
    page = report.to_html(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page
    listed = {entry["n"]: entry for entry in data_of(page)["params"]}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        entry = listed[name]
        assert entry["e"] == parameter.numel()
        assert entry["k"] == ("predicted" if name in report.predicted else "kept")
        assert entry["w"] == report.kept.get(name, "")
        assert (entry["a"] is not None) == (statistics and name not in report.tied)
    assert [name for name in listed if name in dict(model.named_parameters())] == [
        name for name, _ in model.named_parameters()
    ]


def test_the_page_shows_norms_and_histograms(tmp_path):
    report = ghn_init.apply(ConvNet(classes=7), GHN, example_inputs=IMAGE, statistics=True)
    report.to_html(tmp_path / "report.html")
    with browser() as page:
        page.open(tmp_path / "report.html")
        page.find("#search").send_keys("conv.weight", "\ue007")
        assert page.texts("#selection .verdict") == ["● predicted"]
        before, after = page.texts(".moments tr:nth-of-type(3) td")
        assert float(before) == pytest.approx(report.statistics["conv.weight"].before.norm, rel=1e-3)
        assert float(after) == pytest.approx(report.statistics["conv.weight"].after.norm, rel=1e-3)
        assert page.run("return document.querySelectorAll('.histogram path').length") == 2
        page.find("#search").send_keys("\ue009a\ue000", "head.weight", "\ue007")
        assert page.texts("#selection .verdict") == ["○ kept: " + report.kept["head.weight"]]
        assert page.run("return document.querySelector('.histogram').getAttribute('aria-label')").endswith(
            "unchanged"
        )
        page.find("#tab-parameters").click()
        assert page.texts("#parameters [role=status]") == ["7 of 7 parameters"]
        page.find("#parameters input").send_keys("classifier")
        assert page.texts("#parameters [role=status]") == ["2 of 7 parameters"]
        assert page.complaints() == []
        assert page.requests() == []


def test_hostile_names_are_text_everywhere(tmp_path):
    report = hostile()
    report.to_html(tmp_path / "report.html")
    (tmp_path / "cell.html").write_text(report._repr_html_(), encoding="utf-8")
    assert Tags(report._repr_html_()).seen <= {
        *("div", "style", "b", "span", "table", "tr", "td", "details", "summary")
    }
    assert not {name for name in Tags(report._repr_html_()).attributes if name.startswith("on")}
    with browser() as page:
        page.open(tmp_path / "report.html")
        page.find("#tab-parameters").click()
        page.find("#tab-summary").click()
        page.find(".box.node:nth-of-type(2)").click()
        assert page.run("return window.pwned === undefined && document.querySelector('img') === null")
        assert page.texts("h1") == [HOSTILE]
        assert page.complaints() == []
        page.driver.get((tmp_path / "cell.html").as_uri())
        assert page.run("return window.pwned === undefined && document.querySelector('img') === null")
        assert HOSTILE in page.texts(".ghn-init")[0]


def test_a_cell_is_compact():
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(600)))
    report = ghn_init.apply(model, GHN, example_inputs=torch.zeros(1, 4))
    cell = report._repr_html_()
    assert len(cell) < 60_000
    assert "and 700 more" in cell


def rich_text(value: object, width: int = 100) -> str:
    from rich.console import Console

    console = Console(width=width, record=True, file=open("/dev/null", "w"), force_terminal=True)  # noqa: SIM115
    console.print(value)
    return console.export_text()


def test_rich_shows_what_matters():
    pytest.importorskip("rich")
    report = ghn_init.apply(ConvNet(classes=7), GHN, example_inputs=IMAGE)
    text = rich_text(report)
    assert "ConvNet" in text
    assert "5 of 7 parameters" in text
    assert "head.weight, head.bias: classifier of 7 classes" in text
    assert HOSTILE[:30] in rich_text(hostile(), width=400)
    assert "[bold red]" in rich_text(hostile(), width=400)


def test_rich_is_imported_by_nobody_but_rich():
    script = (
        "import sys, torch, ghn_init; from ghn_init.report import GHNSource, InitReport;"
        "graph = ghn_init.trace(torch.nn.Linear(2, 2));"
        "r = InitReport({}, {}, {}, GHNSource(None), graph); str(r), r._repr_html_(), r.to_html();"
        "assert 'rich' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
