"""The interactive page: safe and self-contained as a text, and at work in a browser."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import parity
import pytest
import torch
import torchvision
from browser import browser
from torch import nn

import ghn_init
from ghn_init.assets import PAGE
from ghn_init.graph import PRIMITIVES, ArchGraph, Node
from ghn_init.graph.arch_graph import ParamSlot
from ghn_init.graph.page import LIBRARIES
from ghn_init.graph.palette import COLOURS, OUTLINES, text_colour

HOSTILE = "</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=1'>&amp;\u2028`${1}"


def graph_of(count: int, *, flat: bool = False) -> ArchGraph:
    """A deep network of residual blocks; ``flat`` with all modules side by side."""
    kinds = ("ln", "norm1"), ("conv", "attn.qkv"), ("msa", "attn"), ("conv", "attn.proj"), ("sum", "")
    kinds += ("ln", "norm2"), ("conv", "mlp.fc1"), ("conv", "mlp.fc2"), ("sum", "")
    nodes, edges, start = [Node("input")], [], 0
    while len(nodes) < count:
        block, place = divmod(len(nodes) - 1, len(kinds))
        primitive, name = kinds[place]
        module = str(len(nodes) - 1) if flat else f"layers.{block}.{name}".rstrip(".")
        shape = {"conv": (64, 64), "ln": (64,)}.get(primitive)
        slots = (ParamSlot(f"{module}.weight", shape),) if shape else ()
        nodes.append(Node(primitive, slots, shape, primitive, module))
        edges.append((len(nodes) - 2, len(nodes) - 1))
        if primitive == "sum":
            edges.append((start, len(nodes) - 1))
            start = len(nodes) - 1
    return ArchGraph(tuple(nodes), edges, name="deep")


def hostile_graph() -> ArchGraph:
    module = f"block.{HOSTILE}"
    nodes = [Node("input"), *(Node("conv", (ParamSlot(f"{module}.{i}", (2, 2)),), (2, 2), HOSTILE, module)
                              for i in range(4))]  # fmt: skip
    return ArchGraph(tuple(nodes), [(i, i + 1) for i in range(4)], name=HOSTILE)


def data_of(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


# ------------------------------------------------------------------ as a text


def test_the_page_is_written_and_holds_the_graph(tmp_path):
    graph = parity.golden_arch_graph("resnet18")
    text = graph.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == text
    data = data_of(text)
    assert len(data["nodes"]) == len(graph)
    assert data["edges"] == [index for edge in graph.edges for index in edge]
    assert [entry["n"] for entry in data["params"]] == list(graph.slots)
    assert [row[0] for row in data["primitives"]] == list(PRIMITIVES)


def test_nothing_of_a_model_becomes_markup():
    text = hostile_graph().to_html()
    assert "<img" not in text
    assert "<svg onload" not in text
    assert data_of(text)["title"] == HOSTILE
    assert text.count("</script>") == 1 + len(LIBRARIES) + 1


def test_only_the_scripts_of_the_page_may_run():
    text = parity.golden_arch_graph("resnet18").to_html()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "sourceMappingURL" not in text


def test_vendored_files_are_unchanged_and_licensed():
    notes = (PAGE / "README.md").read_text(encoding="utf-8")
    for name in LIBRARIES:
        assert hashlib.sha256((PAGE / name).read_bytes()).hexdigest() in notes
        licence = (PAGE / f"LICENSE-{name.partition('.')[0]}").read_text(encoding="utf-8")
        assert "copyright" in licence.lower()
        assert licence.strip().splitlines()[-1] in parity.golden_arch_graph("resnet18").to_html()
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < 600_000


def test_signs_can_be_told_apart_and_read():
    assert tuple(OUTLINES) == PRIMITIVES
    for name in PRIMITIVES:
        light, dark = sorted((_luminance(COLOURS[name]), _luminance(NAMED[text_colour(COLOURS[name])])))[::-1]
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme):
    """WCAG AA for text on the card and on the page, 3:1 for lines that carry meaning."""
    css = (PAGE / "page.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", part))
        for part in css.split("@media (prefers-color-scheme: dark)")[:2]
    )
    colours = light if scheme == "light" else {**light, **dark}
    for ground in ("card", "page", "frame0", "frame1"):
        for text in ("ink", "soft", "accent", "kept", "skipped", "predicted"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for line in ("edge", "match", "stroke"):
            assert _contrast(colours[line], colours[ground]) >= 3, (line, ground)


NAMED = {"black": "#000000", "white": "#ffffff"}


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(first: str, second: str) -> float:
    dark, light = sorted((_luminance(first), _luminance(second)))
    return (light + 0.05) / (dark + 0.05)


# ------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def page():
    with browser() as opened:
        yield opened


def resnet18() -> ArchGraph:
    with torch.device("meta"):
        return ghn_init.trace(torchvision.models.resnet18())


def opened(page, graph: ArchGraph, folder: Path):
    graph.to_html(folder / "page.html")
    page.open(folder / "page.html")
    return page


def test_it_loads_folded_without_complaints_or_requests(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    assert page.complaints() == []
    assert page.requests() == []
    assert any(label.startswith("block layer4.1, closed: 5 nodes") for label in page.labels())
    assert len(page.labels()) <= 26
    assert page.texts("#types .count")[PRIMITIVES.index("conv")] == "21"
    assert len(page.texts("#types button")) == 15


def test_blocks_open_and_close_by_click(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    before = len(page.labels())
    page.find("[aria-label^='block layer2.0,']").click()
    assert len(page.labels()) == before + 6
    assert "conv layer2.0.conv1, 128×64×3×3" in page.labels()
    assert page.find(".frame[aria-label^='block layer2.0,']").get_attribute("aria-expanded") == "true"
    page.find(".frame[aria-label^='block layer2.0,'] .title").click()
    assert len(page.labels()) == before
    page.find("#close-all").click()
    assert len(page.labels()) < before
    page.find("#open-all").click()
    assert len(page.labels()) == 53
    assert page.complaints() == []


def test_search_opens_what_it_finds(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    page.press("/")
    page.press("layer4 conv2")
    assert page.texts("#found [role=option]") == [
        "layer4.0.conv2.weight512×512×3×3",
        "layer4.1.conv2.weight512×512×3×3",
    ]
    assert page.texts("#hits") == ["2 parameters"]
    page.press("\ue015", "\ue007")  # down, enter
    assert page.texts("#selection h3.parameter") == ["layer4.1.conv2.weight"]
    assert page.labels(".box.selected") == ["conv layer4.1.conv2, 512×512×3×3"]
    assert page.run("return document.activeElement.getAttribute('aria-label')").startswith(
        "conv layer4.1.conv2"
    )
    assert len(page.labels(".box.match")) == 2  # the other one is in a block that is closed
    page.find("#search").send_keys("nothing of this name")
    assert page.texts("#hits") == ["0 parameters"]


def test_the_keyboard_does_what_the_mouse_does(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    focused = "return document.activeElement.getAttribute('aria-label')"
    page.run("document.querySelector('.box[tabindex=\"0\"]').focus()")
    assert page.run(focused) == "input"
    page.press("\ue015")  # down
    assert page.run(focused).startswith("conv conv1")
    page.press("\ue007")  # enter selects
    assert page.texts("#selection h2")[0].endswith("conv")
    page.press("\ue015", "\ue015", "\ue015")
    assert page.run(focused).startswith("block layer1.0, closed")
    page.press("\ue007")  # enter opens
    assert page.run(focused).startswith("block layer1.0, open")
    page.press("\ue015")
    assert page.run(focused).startswith("conv layer1.0.conv1")
    page.press("\ue003")  # backspace closes
    assert page.run(focused).startswith("block layer1.0, closed")
    page.press("\ue010")  # end
    assert page.run(focused).startswith("bias fc")
    assert page.run("return document.querySelectorAll('.item[tabindex=\"0\"]').length") == 1
    outline = "return getComputedStyle(document.activeElement.querySelector('.card')).strokeWidth"
    assert page.run(outline) == "4px"


def test_a_type_of_the_legend_is_made_out(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    page.run("document.querySelectorAll('#types button')[arguments[0]].click()", PRIMITIVES.index("max_pool"))
    assert page.labels(".box:not(.dim)") == ["max_pool maxpool, 1×1×3×3"]


def test_hostile_names_are_text(page, tmp_path):
    opened(page, hostile_graph(), tmp_path)
    page.find("#open-all").click()
    page.find(".box.node:nth-of-type(2)").click()
    page.find("#search").send_keys("block", "\ue00c")
    page.find("#tab-parameters").click()
    assert page.run("return window.pwned === undefined && document.querySelector('img') === null")
    assert HOSTILE in page.texts("#parameters")[0]
    assert page.complaints() == []


@pytest.mark.parametrize("flat", [False, True])
def test_five_thousand_nodes_are_usable(page, tmp_path, flat):
    graph = graph_of(5000, flat=flat)
    opened(page, graph, tmp_path)
    assert len(page.labels()) <= 26
    name = list(graph.slots)[-1]
    page.find("#search").send_keys(name, "\ue007")
    assert page.texts("#selection h3.parameter") == [name]
    assert len(page.labels()) < 150
    page.find("#open-all").click()
    assert 150 < len(page.labels()) <= 400
    assert page.texts("#note") != [""]
    assert page.complaints() == []


def test_a_dark_page_is_dark(page, tmp_path):
    opened(page, resnet18(), tmp_path)
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = page.run(ground)
    page.colour_scheme("dark")
    assert page.run(ground) != light
    page.colour_scheme("light")


def test_small_and_odd_graphs(page, tmp_path):
    for graph in (
        ArchGraph((Node("input"),), []),
        ArchGraph((Node("input"), Node("sum", module="a"), Node("conv", module="a.b")), [(0, 1)]),
        ghn_init.trace(nn.Linear(3, 2)),
    ):
        opened(page, graph, tmp_path)
        assert len(page.labels()) == len(graph)
        assert page.complaints() == []
