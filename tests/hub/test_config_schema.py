"""config.json: the published JSON Schema and the library accept and refuse the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from ghn_init import GHN, GHNConfig, GHNInitError
from ghn_init.assets import BUNDLED_GHN

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = GHNConfig.json_schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FIELDS = json.loads(json.dumps(GHNConfig(hid=16, layers=1, heads=2, max_shape=(8, 8, 3, 3)).to_dict()))

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NEARLY = st.one_of(
    JSON,
    st.sampled_from([0, -1, 4, 16, 1 << 16, (1 << 16) + 4, 1 << 70, 16.0, "16", True, float("nan")]),
    st.lists(st.sampled_from([0, 1, 8, 1 << 10, 1 << 16, 1 << 17, 3.0, "3", None]), min_size=3, max_size=5),
    st.sampled_from(
        ["centre", "top_left", "output", "last_nodes", "clean", "ghn3", "graphormer", "gated_gnn"]
    ),
)


def holds_whole_float(value: Any) -> bool:
    """Whether there is a number like 16.0 in it, which is a whole number for JSON."""
    if isinstance(value, (list, dict)):
        return any(map(holds_whole_float, value.values() if isinstance(value, dict) else value))
    return isinstance(value, float) and value.is_integer()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for config in (GHNConfig(), GHNConfig.ghn1(), GHNConfig.ghn2(), GHNConfig.ghn3("XL")):
        VALIDATOR.validate(json.loads(json.dumps(config.to_dict())))
    VALIDATOR.validate(json.loads((BUNDLED_GHN / "config.json").read_text()))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(name=st.sampled_from([*FIELDS, "surprise"]), value=NEARLY)
def test_what_the_schema_refuses_the_library_refuses(name: str, value: Any) -> None:
    config = {**FIELDS, name: value}
    try:
        GHNConfig.from_dict(config)
        fits = True
    except GHNInitError as error:
        fits = "square kernel" in str(error) or "multiple of heads" in str(error)
    if not holds_whole_float(value):
        assert fits is VALIDATOR.is_valid(config), (name, value)
    else:
        assert not fits or VALIDATOR.is_valid(config), (name, value)


@pytest.mark.parametrize("missing", list(FIELDS))
def test_a_file_that_lacks_a_field_is_refused_by_both(missing: str, tmp_path: Path) -> None:
    config = {name: value for name, value in FIELDS.items() if name != missing}
    assert not VALIDATOR.is_valid(config)
    GHN(GHNConfig.from_dict(FIELDS)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = tmp_path / "model.safetensors"
    save_file(load_file(weights), weights, metadata={"config": json.dumps(config)})
    with pytest.raises(GHNInitError, match=f"lacks {missing}"):
        GHN.from_pretrained(tmp_path)


@pytest.mark.parametrize("version", [True, 1.0, 0, 2, "1", None, [1], {}])
def test_a_format_that_is_not_this_one_is_refused_by_both(version: Any, tmp_path: Path) -> None:
    config = {**FIELDS, "ghn_init_format": version}
    GHN(GHNConfig.from_dict(FIELDS)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(GHNInitError, match="is in format"):
        GHN.from_pretrained(tmp_path)
    # JSON has one kind of numbers: 1.0 is 1 there.
    assert VALIDATOR.is_valid(config) is (version == 1 and version is not True)
