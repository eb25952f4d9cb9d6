"""From the original authors' parameter layout and arguments to this library's.

The original loader (``ghn3.nn.from_pretrained``) infers what a file without a configuration was built with;
here the same is read off the shapes, and everything is checked against the resulting configuration, name by
name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ghn_init.errors import CheckpointError
from ghn_init.graph.primitives import PRIMITIVES
from ghn_init.hub.card import model_card
from ghn_init.hub.folder import require_finite, write_folder
from ghn_init.hub.layout import TYPE_EMBEDDING, rules
from ghn_init.hub.legacy import read_legacy

_READ_ELSEWHERE = ("debug_level", "pretrained", "is_ghn2", "hid", "layers", "heads")
_REQUIRED_ARGUMENTS = ("max_shape", "num_classes")
_LISTED = 6


def is_original(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether the tensors have the original authors' names."""
    return TYPE_EMBEDDING in state_dict


def convert(
    state_dict: Mapping[str, Tensor],
    config: Mapping[str, Any] | None = None,
    *,
    where: str = "the checkpoint",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and state dict in this library's layout.

    Args:
        state_dict: tensors under the names of ghn3 (either layout of the node embeddings) or ppuda.
        config: arguments of the original constructor; inferred from the shapes when None (GHN-2 and GHN-3
            only, as a GHN-1 cannot be told from other settings by its shapes).
        where: name of the checkpoint for messages.

    Returns:
        A dictionary for ``GHNConfig.from_dict``, with the conventions that the original code computes by, and
        the tensors, unchanged but for their names and trailing 1 x 1 axes.

    Raises:
        CheckpointError: a tensor is missing, unknown or of a wrong shape, an argument is unknown, or the file
            has another number of primitive operations than 15.
    """
    graphormer = not any(name.startswith("gnn.gru.") for name in state_dict)
    new_config = _read_config(state_dict, config, graphormer, where)
    new_state: dict[str, Tensor] = {}
    used: set[str] = set()
    problems: list[str] = []
    for rule in rules(new_config):
        original = next((name for name in rule.originals if name in state_dict), None)
        if original is None:
            problems.append(f"{rule.originals[0]} is missing")
            continue
        used.add(original)
        tensor = _without_unit_axes(state_dict[original], len(rule.shape))
        if not _fits(tensor, rule.shape):
            expected = tuple("any" if size is None else size for size in rule.shape)
            problems.append(f"{original} is {tuple(state_dict[original].shape)}, not {expected}")
        new_state[rule.name] = tensor
    problems += [f"{name} is unknown" for name in state_dict if name not in used]
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise CheckpointError(
            f"{where} is no GHN of {_described(new_config)}: {'; '.join(problems[:_LISTED])}{more}. It is "
            "of another architecture, or damaged."
        )
    return new_config, new_state


def convert_checkpoint(
    source: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    *,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """Turn an original checkpoint file into a folder of ``config.json``, ``model.safetensors`` and a card.

    Args:
        source: a joblib or torch file of ghn3 or ppuda; read without executing anything in it.
        directory: the folder to write.
        config: arguments of the original constructor, for a file that holds none and needs them (GHN-1).

    Returns:
        The folder, which ``GHN.from_pretrained`` takes.

    Raises:
        CheckpointError: the file is damaged, unsafe, not finite or no GHN, or the folder cannot be written.
    """
    checkpoint = read_legacy(Path(source))
    new_config, state = convert(checkpoint.state_dict, config or checkpoint.config, where=os.fspath(source))
    require_finite(state, source)
    folder = Path(directory)
    count = sum(tensor.numel() for tensor in state.values())
    write_folder(folder, new_config, state, model_card(new_config, count, os.fspath(directory)))
    return folder


def _read_config(
    state: Mapping[str, Tensor], config: Mapping[str, Any] | None, graphormer: bool, where: str
) -> dict[str, Any]:
    """This library's configuration dictionary."""
    hid = _size(state, TYPE_EMBEDDING, 1, where)
    primitives = _size(state, TYPE_EMBEDDING, 0, where)
    if primitives != len(PRIMITIVES):
        raise CheckpointError(
            f"{where} was trained on {primitives} primitive operations and this version knows "
            f"{len(PRIMITIVES)} "
            f"({', '.join(PRIMITIVES)}). Their order is unknown, so its predictions would be meaningless."
        )
    sizes = {"hid": hid, "layers": 1, "heads": 8}
    if graphormer:
        sizes["layers"] = sum(name.startswith("gnn.") and name.endswith(".ln1.weight") for name in state)
        sizes["heads"] = _size(state, "gnn.0.attn.proj_e.2.weight", 0, where)
    if config is None:
        arguments = _inferred(state, hid, graphormer, where)
    else:
        arguments = _explicit(config, graphormer, where)
        _require_agreement(config, sizes if graphormer else {"hid": hid}, where)
    return {
        **sizes,
        **arguments,
        "encoder": "graphormer" if graphormer else "gated_gnn",
        "decoder": "conv",
        "kernel_crop": "centre" if graphormer else "top_left",
        "class_layer": "last_nodes",
        "graph_convention": "ghn3",
        "primitives": list(PRIMITIVES),
    }


def _inferred(state: Mapping[str, Tensor], hid: int, graphormer: bool, where: str) -> dict[str, Any]:
    if not graphormer and not any(name.startswith("gnn.mlp_ve.") for name in state):
        raise CheckpointError(
            f"{where} holds no configuration, and a GHN-1 (no virtual edges) needs one: convert it with its "
            'constructor\'s arguments, {"max_shape": ..., "num_classes": ..., "weight_norm": false, ...}: '
            "`ghn-init convert FILE FOLDER --config ARGUMENTS.json`, or convert_checkpoint(config=...)."
        )
    width = math.isqrt(_size(state, "decoder.conv.2.weight", 0, where))
    kernel = math.isqrt(_size(state, "decoder.fc.0.weight", 0, where) // (4 * hid)) if hid else 0
    return {
        "max_shape": [width, width, kernel, kernel],
        "num_classes": _size(state, "decoder.class_layer_predictor.1.weight", 0, where),
        "virtual_edges": True,
        "layernorm": "ln.weight" in state,
        "weight_norm": True,
    }


def _explicit(config: Mapping[str, Any], graphormer: bool, where: str) -> dict[str, Any]:
    arguments = {name: value for name, value in config.items() if name not in _READ_ELSEWHERE}
    missing = [name for name in _REQUIRED_ARGUMENTS if name not in arguments]
    if missing:
        raise CheckpointError(f"{where}: its configuration has no {' and no '.join(missing)}.")
    if bool(config.get("is_ghn2", not graphormer)) is graphormer:
        raise CheckpointError(
            f"{where}: its configuration says is_ghn2={graphormer} and its tensors the opposite."
        )
    for name, only in (("hypernet", "gatedgnn"), ("decoder", "conv")):
        if arguments.pop(name, only) != only:
            raise CheckpointError(f"{where}: {name}={config[name]!r} is not supported, only {only!r} is.")
    shape = arguments.pop("max_shape")
    read = {
        "max_shape": list(shape) if isinstance(shape, (list, tuple)) else shape,
        "num_classes": arguments.pop("num_classes"),
        "virtual_edges": bool(arguments.pop("ve", False)),
        "layernorm": bool(arguments.pop("layernorm", False)),
        "weight_norm": bool(arguments.pop("weight_norm", False)),
    }
    if arguments:
        raise CheckpointError(
            f"{where}: unknown arguments in its configuration: {', '.join(sorted(arguments))}."
        )
    valid = isinstance(read["max_shape"], list) and len(read["max_shape"]) == 4
    if not valid or any(type(size) is not int for size in (*read["max_shape"], read["num_classes"])):
        raise CheckpointError(f"{where}: max_shape must be four integers and num_classes one, got {read}.")
    return read


def _require_agreement(config: Mapping[str, Any], sizes: Mapping[str, int], where: str) -> None:
    for name, size in sizes.items():
        if config.get(name, size) != size:
            raise CheckpointError(
                f"{where}: its configuration says {name}={config[name]!r}, its tensors {size}."
            )


def _size(state: Mapping[str, Tensor], name: str, axis: int, where: str) -> int:
    """Size of an axis of a tensor that every GHN has."""
    if name not in state or state[name].dim() <= axis:
        raise CheckpointError(
            f"{where} has no tensor {name} of a GHN: it is no GHN checkpoint, or a partial one."
        )
    return int(state[name].shape[axis])


def _without_unit_axes(tensor: Tensor, dims: int) -> Tensor:
    """A 1 x 1 convolution's (out, in, 1, 1) weight as a matrix: GHN-1 and GHN-2 decode with convolutions."""
    if dims == 2 and tensor.dim() == 4 and tensor.shape[2:] == (1, 1):
        return tensor.flatten(1)
    return tensor


def _fits(tensor: Tensor, shape: tuple[int | None, ...]) -> bool:
    return tensor.dim() == len(shape) and all(
        expected is None or size == expected for size, expected in zip(tensor.shape, shape, strict=True)
    )


def _described(config: Mapping[str, Any]) -> str:
    keys = ("hid", "layers", "heads", "num_classes", "max_shape")
    return f"{config['encoder']} encoder with " + ", ".join(f"{key} {config[key]}" for key in keys)
