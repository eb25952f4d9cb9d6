"""Pictures of graphs: layout, colours, files."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ElementTree

import numpy as np
import parity
import pytest

from ghn_init.errors import GraphError
from ghn_init.graph import PRIMITIVES, ArchGraph, Node
from ghn_init.graph.draw import block_starts, plot
from ghn_init.graph.layout import depths, layered
from ghn_init.graph.palette import COLOURS, SYMBOLS, text_colour


@pytest.mark.parametrize("name", parity.GRAPHS)
def test_no_two_nodes_share_a_cell_and_edges_go_forward(name):
    graph = parity.golden_arch_graph(name)
    layout = layered(graph)
    cells = {layout.position(index) for index in range(len(graph))}
    assert len(cells) == len(graph)
    order = list(zip(layout.row, layout.column, strict=True))
    assert all(order[source] < order[target] for source, target in graph.edges)
    assert all(column < layout.ends[row] for row, column in order)


def test_depth_is_the_longest_path_and_free_sources_stand_by_their_reader():
    nodes = tuple(Node(p) for p in ("input", "conv", "bn", "pos_enc", "sum"))
    graph = ArchGraph(nodes, [(0, 1), (1, 2), (1, 4), (2, 4), (3, 4)])
    assert depths(graph) == [0, 1, 2, 2, 3]


def test_rows_of_resnet18_break_behind_sums():
    graph = parity.golden_arch_graph("resnet18")
    layout = layered(graph)
    lasts = [
        max(index for index in range(len(graph)) if layout.row[index] == row)
        for row in range(len(layout.tops) - 1)
    ]
    assert len(layout.tops) > 2
    assert {graph.nodes[index].primitive for index in lasts} == {"sum"}


def test_long_edges_know_whether_their_lane_is_free():
    nodes = tuple(Node(p) for p in ("input", "conv", "bn", "sum"))
    layout = layered(ArchGraph(nodes, [(0, 1), (1, 2), (2, 3), (0, 3)]))
    assert layout.lane == [0, 0, 0, 0]
    assert not layout.is_free(0, 3)
    assert layout.is_free(0, 1)


@pytest.mark.parametrize(("name", "suffix"), [("resnet18", "svg"), ("googlenet", "svg"), ("swin_t", "png")])
def test_plot_writes_a_file(tmp_path, name, suffix):
    graph = parity.golden_arch_graph(name)
    path = tmp_path / f"graph.{suffix}"
    graph.plot(path)
    if suffix == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_every_node_is_drawn_and_the_legend_names_what_occurs():
    graph = parity.golden_arch_graph("googlenet")
    axes = plot(graph, ax=_axes())
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == [f"{SYMBOLS[name]}  {name} ({count})" for name, count in graph.type_counts.items()]
    marks = [text.get_text() for text in axes.texts]
    for name, count in graph.type_counts.items():
        assert marks.count(SYMBOLS[name]) == count


def test_detailed_boxes_name_operation_and_shape():
    graph = parity.golden_arch_graph("resnet18")
    words = [text.get_text() for text in plot(graph, ax=_axes()).texts]
    assert words.count("conv") == 21
    assert "64×3×7×7" in words
    assert "layer1.0.conv1" in words


def test_a_picture_of_one_node_and_a_title_of_ones_own():
    axes = plot(ArchGraph((Node("input"),), []), ax=_axes(), title="alone")
    assert axes.get_title(loc="left") == "alone"


def test_too_large_and_unknown_format_are_told(tmp_path):
    nodes = tuple(Node("input" if index == 0 else "sum") for index in range(6001))
    with pytest.raises(GraphError, match="6001 nodes are too many"):
        plot(ArchGraph(nodes, []))
    with pytest.raises(GraphError, match="cannot write the picture"):
        plot(parity.golden_arch_graph("resnet18"), tmp_path / "graph.nonsense")


def test_blocks_stay_few():
    starts = block_starts(parity.golden_arch_graph("maxvit_t"))
    assert 1 < len(starts) <= 40
    assert starts[0][1].startswith("stem")


def test_colours_cover_the_vocabulary_and_can_be_told_apart():
    assert tuple(COLOURS) == PRIMITIVES
    assert tuple(SYMBOLS) == PRIMITIVES
    assert len(set(SYMBOLS.values())) == 15
    for first, second in itertools.combinations(PRIMITIVES, 2):
        for sight in SIGHTS:
            gap = np.linalg.norm(_lab(COLOURS[first], sight) - _lab(COLOURS[second], sight))
            assert gap > 15, (first, second)
    assert text_colour(COLOURS["input"]) == "white"
    assert text_colour(COLOURS["bias"]) == "black"


# Machado, Oliveira and Fernandes (2009), severity 1.0: normal, deuteranopia, protanopia
SIGHTS = [
    np.eye(3),
    np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
]
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _lab(colour, sight):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(sight @ linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()
