"""GHNConfig: presets, round trip, and what it refuses."""

from __future__ import annotations

import json

import pytest

from ghn_init.errors import ConfigError
from ghn_init.ghn import GHN, GHNConfig
from ghn_init.graph import PRIMITIVES


@pytest.mark.parametrize(
    "config",
    [GHNConfig(), GHNConfig.ghn1(), GHNConfig.ghn2(), *(GHNConfig.ghn3(s) for s in ("T", "S", "L", "XL"))],
    ids=["default", "ghn1", "ghn2", "T", "S", "L", "XL"],
)
def test_a_configuration_survives_json(config):
    assert GHNConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (GHNConfig.ghn2(), 1_749_464),
        (GHNConfig.ghn3("T"), 6_906_632),
        (GHNConfig.ghn3("XL"), 654_365_184),
    ],
    ids=["ghn2", "T", "XL"],
)
def test_presets_have_the_published_parameter_counts(config, count):
    import torch

    with torch.device("meta"):
        ghn = GHN(config)
    assert sum(parameter.numel() for parameter in ghn.parameters()) == count


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hid": 0}, "hid"),
        ({"hid": 30}, "multiple of 4"),
        ({"hid": "64"}, "hid"),
        ({"layers": True}, "layers"),
        ({"heads": 7}, "heads"),
        ({"num_classes": -1}, "num_classes"),
        ({"layernorm": 1}, "layernorm"),
        ({"max_shape": [64, 64, 16]}, "max_shape"),
        ({"max_shape": [64, 64, 16, 11]}, "square"),
        ({"max_shape": 64}, "max_shape"),
        ({"kernel_crop": "bottom"}, "kernel_crop"),
        ({"class_layer": "first"}, "class_layer"),
        ({"graph_convention": "ghn4"}, "graph_convention"),
        ({"encoder": None}, "encoder"),
        ({"primitives": list(reversed(PRIMITIVES))}, "operation types"),
        ({"primitives": ["conv"]}, "operation types"),
        ({"hidden": 3}, "unknown keys"),
    ],
)
def test_a_wrong_value_is_named(changes, said):
    with pytest.raises(ConfigError, match=said):
        GHNConfig.from_dict({**GHNConfig().to_dict(), **changes})


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_an_unknown_part_is_named_with_the_known_ones(part):
    with pytest.raises(ConfigError, match=rf"no {part} is registered as 'other'; registered: \["):
        GHN(GHNConfig(**{part: "other"}))


def test_an_unknown_size_of_ghn3_is_refused():
    with pytest.raises(ConfigError, match="XXL"):
        GHNConfig.ghn3("XXL")  # type: ignore[arg-type]
