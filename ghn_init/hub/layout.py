"""Where every tensor of a GHN is found in the original authors' checkpoints (ghn3 and ppuda)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ghn_init.graph.primitives import PRIMITIVES

TYPE_EMBEDDING = "embed.weight"
"""Original name of the table of operation types, which every original checkpoint has."""


class Rule(NamedTuple):
    """One tensor: its name here, its original names (the first that is present counts), and its shape.

    A None in the shape is a size that only this library's vocabulary knows, and that is checked when the GHN
    is built.
    """

    name: str
    originals: tuple[str, ...]
    shape: tuple[int | None, ...]


def rules(config: Mapping[str, Any]) -> Iterator[Rule]:
    """Every tensor of a GHN of this configuration."""
    h, classes = config["hid"], config["num_classes"]
    out, into, kernel, _ = config["max_shape"]
    widest = max(out, into)
    yield Rule("embedding.primitive.weight", (TYPE_EMBEDDING,), (len(PRIMITIVES), h))
    yield Rule("embedding.channel.weight", ("shape_enc.embed_channel.weight",), (None, h // 4))
    yield Rule("embedding.spatial.weight", ("shape_enc.embed_spatial.weight",), (None, h // 4))
    if config["layernorm"]:
        yield from _norm("norm", "ln", h)
    yield from _linear("decoder.positions", "decoder.fc.0", 4 * h * kernel * kernel, h)
    yield from _linear("decoder.hidden", "decoder.conv.0", 8 * h, 4 * h)
    yield from _linear("decoder.output", "decoder.conv.2", out * into, 8 * h)
    yield from _linear("decoder.classes", "decoder.class_layer_predictor.1", classes, out)
    yield from _linear("vectors.hidden", "decoder_1d.fc.0", 2 * h, h)
    yield from _linear("vectors.output", "decoder_1d.fc.2", 2 * widest, 2 * h)
    yield from _linear("vectors.classes", "bias_class.1", classes, widest)
    yield from _graphormer(config) if config["encoder"] == "graphormer" else _gated_gnn(config)


def _graphormer(config: Mapping[str, Any]) -> Iterator[Rule]:
    """GHN-3's encoder. Released files hold its node embeddings at the top level, later ones in layer 0."""
    h = config["hid"]
    for name, original, rows in (
        ("in_degree", "centrality_embed_in", 101),
        ("out_degree", "centrality_embed_out", 101),
        ("input_distance", "input_dist_embed", 1001),
    ):
        originals = (f"{original}.weight", f"gnn.0.{original}.weight")
        yield Rule(f"encoder.{name}.weight", originals, (rows, h))
    yield Rule("encoder.pair_bias.distance.weight", ("gnn.0.attn.edge_embed.embed.weight",), (257, h))
    yield from _linear("encoder.pair_bias.hidden", "gnn.0.attn.proj_e.0", h, 2 * h)
    yield from _linear("encoder.pair_bias.output", "gnn.0.attn.proj_e.2", config["heads"], h)
    for index in range(config["layers"]):
        layer, original = f"encoder.layers.{index}", f"gnn.{index}"
        yield from _norm(f"{layer}.norm1", f"{original}.ln1", h)
        yield Rule(f"{layer}.qkv.weight", (f"{original}.attn.to_qkv.weight",), (3 * h, h))
        yield from _linear(f"{layer}.out", f"{original}.attn.to_out.0", h, h)
        yield from _norm(f"{layer}.norm2", f"{original}.ln2", h)
        yield from _linear(f"{layer}.mlp.0", f"{original}.ff.net.0", 4 * h, h)
        yield from _linear(f"{layer}.mlp.2", f"{original}.ff.net.3", h, 4 * h)


def _gated_gnn(config: Mapping[str, Any]) -> Iterator[Rule]:
    """GHN-1's and GHN-2's encoder."""
    h = config["hid"]
    hidden = h // 2 if config["virtual_edges"] else h
    branches = [("message", "mlp")] + [("virtual", "mlp_ve")] * config["virtual_edges"]
    for name, original in branches:
        yield from _linear(f"encoder.{name}.0", f"gnn.{original}.fc.0", hidden, h)
        yield from _linear(f"encoder.{name}.2", f"gnn.{original}.fc.2", h, hidden)
    for kind in ("ih", "hh"):
        yield Rule(f"encoder.cell.weight_{kind}", (f"gnn.gru.weight_{kind}",), (3 * h, h))
        yield Rule(f"encoder.cell.bias_{kind}", (f"gnn.gru.bias_{kind}",), (3 * h,))


def _linear(name: str, original: str, rows: int, columns: int) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", (f"{original}.weight",), (rows, columns))
    yield Rule(f"{name}.bias", (f"{original}.bias",), (rows,))


def _norm(name: str, original: str, width: int) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", (f"{original}.weight",), (width,))
    yield Rule(f"{name}.bias", (f"{original}.bias",), (width,))
