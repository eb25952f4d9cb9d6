"""One ``.safetensors`` file: mapped into memory tensor by tensor, written so that a map needs no copy."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ghn_init.errors import CheckpointError

ALIGNMENT = 64
"""Bytes to which torch aligns its own memory on the CPU."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; a tensor's bytes are read when it is, and are changed in memory only.

    Each tensor is a map of its own, so that the memory of one is free as soon as it is no longer used.

    Raises:
        CheckpointError: the file is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt", device="cpu") as checked:  # which checks all of the header
            metadata = checked.metadata() or {}
            names = list(checked.keys())
        with path.open("rb") as file:
            start, header = _header(file)
            tensors = {name: _mapped(file, start, header[name]) for name in names}
    except (SafetensorError, ValueError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}). It is truncated or damaged: download it "
            "again (force_download=True for a file of the Hub)."
        ) from error
    return metadata, tensors


def _header(file: BinaryIO) -> tuple[int, dict[str, dict[str, Any]]]:
    """Where the tensors begin, and what there is of each: ``dtype``, ``shape`` and ``data_offsets``."""
    size = int.from_bytes(file.read(8), "little")
    return 8 + size, json.loads(file.read(size))


def _mapped(file: BinaryIO, start: int, entry: dict[str, Any]) -> Tensor:
    """The tensor of an entry of the header, of data that begin at ``start``."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"tensors of dtype {dtype} are none of a GHN")
    size = math.prod(shape) * _DTYPES[dtype].itemsize
    if end - begin != size:
        raise ValueError(f"a tensor of shape {shape} and dtype {dtype} has {end - begin} bytes")
    if not size:
        return torch.empty(shape, dtype=_DTYPES[dtype])
    inside = (start + begin) % mmap.ALLOCATIONGRANULARITY
    memory = mmap.mmap(file.fileno(), inside + size, access=mmap.ACCESS_COPY, offset=start + begin - inside)
    return torch.frombuffer(memory, dtype=_DTYPES[dtype], count=math.prod(shape), offset=inside).view(shape)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file in which all tensors whose size is a multiple of 64 bytes lie at such an address.

    ``safetensors.save_file`` gives neither the order nor the start of the data. What shares memory is written
    twice. Equal tensors and metadata give equal files.

    Raises:
        CheckpointError: a tensor's dtype has no name in the format.
    """
    order = sorted(tensors, key=lambda name: (tensors[name].nbytes % ALIGNMENT > 0, name))
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in order:
        tensor = tensors[name]
        if tensor.dtype not in _NAMES:
            raise CheckpointError(f"{name} has dtype {tensor.dtype}, which a GHN's file cannot hold.")
        span = [position, position + tensor.nbytes]
        header[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": span}
        position += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            if tensors[name].nbytes:
                file.write(tensors[name].detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
