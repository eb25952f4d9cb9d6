"""Configuration of a GHN: what it was trained with, checked when it is made or read.

Parameter names of :class:`ghn_init.ghn.model.GHN` (``h`` = hid, ``(O, I, S, S)`` = max_shape,
``K`` = num_classes, ``V`` = max(O, I))::

    embedding.primitive.weight              (15, h)
    embedding.channel.weight                (channels + 1, h/4)     last row: node without a shape
    embedding.spatial.weight                (kernels + 1, h/4)      last row: node without a shape
    norm.{weight,bias}                      (h,)                    only with layernorm
    decoder.positions.{weight,bias}         (4h S S, h)             rows ordered (channel, row, column)
    decoder.hidden.{weight,bias}            (8h, 4h)
    decoder.output.{weight,bias}            (O I, 8h)               rows ordered (out, in)
    decoder.classes.{weight,bias}           (K, O)
    vectors.hidden.{weight,bias}            (2h, h)
    vectors.output.{weight,bias}            (2V, 2h)                first V rows: norm weights, last V: biases
    vectors.classes.{weight,bias}           (K, V)

with ``encoder="graphormer"``::

    encoder.in_degree.weight                (101, h)
    encoder.out_degree.weight               (101, h)
    encoder.input_distance.weight           (1001, h)
    encoder.pair_bias.distance.weight       (257, h)
    encoder.pair_bias.hidden.{weight,bias}  (h, 2h)
    encoder.pair_bias.output.{weight,bias}  (heads, h)
    encoder.layers.<i>.norm1.{weight,bias}  (h,)
    encoder.layers.<i>.qkv.weight           (3h, h)
    encoder.layers.<i>.out.{weight,bias}    (h, h)
    encoder.layers.<i>.norm2.{weight,bias}  (h,)
    encoder.layers.<i>.mlp.0.{weight,bias}  (4h, h)
    encoder.layers.<i>.mlp.2.{weight,bias}  (h, 4h)

with ``encoder="residual_gnn"`` (those of ``gated_gnn`` as ``encoder.gnn.*``)::

    encoder.depth.{weight,bias}             (h, 11)
    encoder.{before,after,graph}.weight     (h, h)
    encoder.share                           ()

with ``encoder="gated_gnn"`` (``m`` = h/2 with virtual edges, else h)::

    encoder.message.0.{weight,bias}         (m, h)
    encoder.message.2.{weight,bias}         (h, m)
    encoder.virtual.0.{weight,bias}         (m, h)                  only with virtual_edges
    encoder.virtual.2.{weight,bias}         (h, m)                  only with virtual_edges
    encoder.cell.weight_ih                  (3h, h)
    encoder.cell.weight_hh                  (3h, h)
    encoder.cell.bias_ih                    (3h,)
    encoder.cell.bias_hh                    (3h,)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from ghn_init.errors import ConfigError
from ghn_init.graph.primitives import PRIMITIVES

KernelCrop = Literal["centre", "top_left"]
ClassLayer = Literal["output", "last_nodes"]
GraphConvention = Literal["clean", "ghn3"]

RESPONSE_FLOOR = 0.25
"""That of the bundled GHN, to two digits; of a GHN that has none of its own."""


@dataclass(frozen=True)
class GHNConfig:
    """Shape and conventions of a GHN.

    Attributes:
        hid: Width of a node embedding; a multiple of 4, and of ``heads``.
        layers: Graphormer layers, or forward + backward sweeps of the gated GNN.
        heads: Attention heads of the Graphormer.
        num_classes: Classes that the class layer's decoder yields.
        max_shape: Largest decoded weight ``(out, in, kh, kw)``; larger targets are tiled from it.
        encoder: Name of a registered encoder: ``graphormer`` (GHN-3), ``gated_gnn`` (GHN-1, GHN-2) or
            ``residual_gnn`` (the gated GNN beside what a node is, what is next to it and how deep it lies).
        decoder: Name of a registered decoder of weights of two and more dimensions: ``conv``.
        virtual_edges: Whether the encoder sees shortest paths of up to 50 edges, not only edges
            (Knyazev et al., 2021, section 4.1).
        layernorm: Whether node embeddings are layer-normalised before decoding.
        weight_norm: Whether predictions are scaled by fan-in (Knyazev et al., 2021, section 4.2).
        centre_weights: Whether the mean over inputs and kernel positions is taken off each filter of a
            predicted weight: the centring of weight standardisation (Qiao et al., 2019, arXiv:1903.10520)
            without its scaling. Depthwise filters, class layers and position embeddings keep theirs.
        kernel_crop: Which part of the largest kernel a smaller one is: its ``centre`` (GHN-3) or its
            ``top_left`` corner (GHN-1, GHN-2).
        class_layer: Which nodes the class layer's decoder serves: those that feed the model's ``output``,
            or, as in the original code, the ``last_nodes`` (a weight second to last, a bias last).
        graph_convention: Edges that the GHN was trained on; how to trace for it.
        primitives: Operation types in the order of their embedding rows.
        response_floor: Smallest response to synthetic images (:class:`ghn_init.report.Response`) at which a
            network is taken to be near what the GHN was trained on; set at the end of training.
    """

    hid: int = 64
    layers: int = 3
    heads: int = 8
    num_classes: int = 1000
    max_shape: tuple[int, int, int, int] = (64, 64, 16, 16)
    encoder: str = "graphormer"
    decoder: str = "conv"
    virtual_edges: bool = True
    layernorm: bool = True
    weight_norm: bool = True
    centre_weights: bool = False
    kernel_crop: KernelCrop = "centre"
    class_layer: ClassLayer = "output"
    graph_convention: GraphConvention = "clean"
    primitives: tuple[str, ...] = PRIMITIVES
    response_floor: float = RESPONSE_FLOOR

    def __post_init__(self) -> None:
        for name in ("max_shape", "primitives"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        _check_types(self)
        _check_values(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` is its inverse.

        Fields that the first release did not have are left out where they say what it did.
        """
        data = {key: value for key, value in asdict(self).items() if value != _LATER.get(key)}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> GHNConfig:
        """Read a configuration.

        Args:
            data: Field name → value; a missing field has its default.

        Raises:
            ConfigError: A key is unknown, or a value has the wrong type or is out of range.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise ConfigError(f"unknown keys {unknown} in the GHN configuration; known: {sorted(known)}")
        return cls(**data)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema (draft 2020-12) of ``config.json``, for checks outside of this library.

        What it cannot say is checked when a configuration is made: the kernel of ``max_shape`` is square, a
        Graphormer's ``hid`` is a multiple of ``heads``, and no whole number is written as ``16.0``.
        """
        properties: dict[str, Any] = {"ghn_init_format": {"const": 1}}
        properties |= {name: _count_schema(_LARGEST[name]) for name in _INTEGERS}
        properties["hid"]["multipleOf"] = _SHAPE_EMBEDDINGS
        sizes = [_count_schema(largest) for largest in _LARGEST_SHAPE]
        properties["max_shape"] = {"type": "array", "prefixItems": sizes, "minItems": 4, "maxItems": 4}
        properties |= {name: {"type": "string", "minLength": 1} for name in ("encoder", "decoder")}
        properties |= {name: {"type": "boolean"} for name in _FLAGS}
        properties |= {name: {"enum": list(choices)} for name, choices in _CHOICES.items()}
        properties["primitives"] = {"const": list(PRIMITIVES)}
        properties["response_floor"] = {"type": "number", "minimum": 0, "maximum": 1}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "config.json of a graph hypernetwork of ghn_init",
            "type": "object",
            "properties": properties,
            "required": [field.name for field in fields(cls) if field.name not in _LATER],
            "additionalProperties": False,
        }

    @classmethod
    def ghn1(cls, **changes: Any) -> GHNConfig:
        """GHN-1 as trained by Knyazev et al. (2021): gated GNN on plain edges, raw predictions."""
        return cls.ghn2(**{"virtual_edges": False, "layernorm": False, "weight_norm": False, **changes})

    @classmethod
    def ghn2(cls, **changes: Any) -> GHNConfig:
        """GHN-2 as released by Knyazev et al. (2021) for ImageNet."""
        released: dict[str, Any] = {
            "hid": 32,
            "layers": 1,
            "heads": 8,
            "max_shape": (64, 64, 11, 11),
            "encoder": "gated_gnn",
            "kernel_crop": "top_left",
        }
        return cls(**{**released, **_ORIGINAL_CONVENTIONS, **changes})

    @classmethod
    def ghn3(cls, size: Literal["T", "S", "L", "XL"] = "T", **changes: Any) -> GHNConfig:
        """GHN-3 as released by Knyazev et al. (2023), in one of its four sizes."""
        if size not in _GHN3_SIZES:
            raise ConfigError(f"unknown GHN-3 size {size!r}; expected one of {sorted(_GHN3_SIZES)}")
        return cls(**{**_GHN3_SIZES[size], **_ORIGINAL_CONVENTIONS, **changes})


_ORIGINAL_CONVENTIONS: dict[str, Any] = {"class_layer": "last_nodes", "graph_convention": "ghn3"}

_GHN3_SIZES: dict[str, dict[str, Any]] = {
    "T": {"hid": 64, "layers": 3, "heads": 8, "max_shape": (64, 64, 16, 16)},
    "S": {"hid": 128, "layers": 5, "heads": 16, "max_shape": (128, 128, 16, 16)},
    "L": {"hid": 256, "layers": 12, "heads": 16, "max_shape": (256, 256, 16, 16)},
    "XL": {"hid": 384, "layers": 24, "heads": 16, "max_shape": (384, 384, 16, 16)},
}

_INTEGERS = ("hid", "layers", "heads", "num_classes")
_LARGEST = {"hid": 1 << 16, "layers": 1 << 10, "heads": 1 << 10, "num_classes": 1 << 22}
_LARGEST_SHAPE = (1 << 16, 1 << 16, 1 << 10, 1 << 10)
_FLAGS = ("virtual_edges", "layernorm", "weight_norm", "centre_weights")
_LATER: dict[str, Any] = {"centre_weights": False, "response_floor": RESPONSE_FLOOR}
"""Field that the first release did not have → its value where ``config.json`` leaves it out."""
_CHOICES = {
    "kernel_crop": get_args(KernelCrop),
    "class_layer": get_args(ClassLayer),
    "graph_convention": get_args(GraphConvention),
}


_SHAPE_EMBEDDINGS = 4
"""Embeddings of the four sizes of a shape, which are joined to one of width ``hid``."""


def _count_schema(largest: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": largest}


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check_types(config: GHNConfig) -> None:
    for name in _INTEGERS:
        value = getattr(config, name)
        if not _is_count(value) or value > _LARGEST[name]:
            raise ConfigError(f"{name} must be a positive integer of at most {_LARGEST[name]}, got {value!r}")
    for name in _FLAGS:
        if not isinstance(getattr(config, name), bool):
            raise ConfigError(f"{name} must be true or false, got {getattr(config, name)!r}")
    for name, choices in _CHOICES.items():
        if getattr(config, name) not in choices:
            raise ConfigError(f"{name} must be one of {list(choices)}, got {getattr(config, name)!r}")
    for name in ("encoder", "decoder"):
        value = getattr(config, name)
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{name} must be the name of a registered {name}, got {value!r}")
    shape = config.max_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or not all(_is_count(size) for size in shape):
        raise ConfigError(f"max_shape must be four positive integers (out, in, kh, kw), got {shape!r}")
    if any(size > largest for size, largest in zip(shape, _LARGEST_SHAPE, strict=True)):
        raise ConfigError(f"max_shape must be at most {_LARGEST_SHAPE}, got {shape!r}")


def _check_values(config: GHNConfig) -> None:
    floor = config.response_floor
    if not isinstance(floor, int | float) or isinstance(floor, bool) or not 0 <= floor <= 1:
        raise ConfigError(f"response_floor must be a number from 0 to 1, got {floor!r}")
    if config.hid % _SHAPE_EMBEDDINGS:
        raise ConfigError(f"hid must be a multiple of 4 (four shape embeddings are joined), got {config.hid}")
    if config.encoder == "graphormer" and config.hid % config.heads:
        raise ConfigError(f"hid {config.hid} must be a multiple of heads {config.heads}")
    if config.max_shape[2] != config.max_shape[3]:
        raise ConfigError(f"max_shape must have a square kernel, got {config.max_shape}")
    if config.primitives != PRIMITIVES:
        raise ConfigError(
            f"the GHN was trained on the operation types {config.primitives!r}; "
            f"this version knows {list(PRIMITIVES)} in this order"
        )
