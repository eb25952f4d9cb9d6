"""Where the golden values of the original code are, and how to read them."""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ghn_init.graph import ArchGraph, Node, ParamSlot

HERE = Path(__file__).resolve().parent


def _find() -> Path:
    candidates = [
        Path(os.environ.get("GHN_INIT_PARITY", "/nonexistent")),
        HERE.parents[1] / "shared" / "parity",
        HERE / "data" / "parity",
    ]
    for path in candidates:
        if (path / "summary.json").is_file():
            return path
    raise FileNotFoundError(f"no parity kit in any of {candidates}")


PARITY = _find()
GRAPHS = sorted(p.name.removesuffix(".json.gz") for p in (PARITY / "graphs").glob("*.json.gz"))


def read_json(path: Path) -> Any:
    """Content of a gzipped JSON file."""
    with gzip.open(path) as file:
        return json.load(file)


def golden_graph(name: str) -> tuple[list[dict[str, Any]], list[tuple[int, int]], np.ndarray]:
    """Rows (as dicts), edges and the (N, N) uint8 distances of ``graphs/<name>.json.gz``."""
    data = read_json(PARITY / "graphs" / f"{name}.json.gz")
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["nodes"]]
    count = len(rows)
    packed = zlib.decompress(base64.b64decode(data["distances_zlib_b64_uint8"]))
    distances = np.frombuffer(packed, np.uint8).reshape(count, count)
    return rows, [(s, t) for s, t in data["edges"]], distances


def golden_predictions(checkpoint: str, name: str) -> dict[str, Any]:
    """``predictions/<checkpoint>/<name>.json.gz``."""
    return read_json(PARITY / "predictions" / checkpoint / f"{name}.json.gz")


def golden_arch_graph(name: str) -> ArchGraph:
    """The golden graph as an ArchGraph, in the original's node order; a norm's bias joins its weight's node.

    Which norms own a bias is read from the predictions of ghn3-tiny, where every tensor is listed.
    """
    rows, edges, _ = golden_graph(name)
    listed = {
        row[0]: tuple(row[1])
        for row in golden_predictions("ghn3-tiny", name.removesuffix(".train"))["params"]
    }
    nodes = []
    for row in rows:
        slots: list[ParamSlot] = []
        if row["param_shape"] is not None:
            shape = tuple(row["param_shape"])
            slots.append(ParamSlot(row["name"], shape, "bias" if row["type"] == "bias" else "weight"))
            norm_bias = row["name"].removesuffix("weight") + "bias"
            if row["type"] in ("bn", "ln") and norm_bias in listed:
                slots.append(ParamSlot(norm_bias, listed[norm_bias], "bias"))
        shape = row["param_shape"] or row["graph_shape"]
        nodes.append(Node(row["type"], tuple(slots), None if shape is None else tuple(shape), op=row["name"]))
    return ArchGraph(tuple(nodes), edges, outputs=(len(nodes) - 1,), name=name)
