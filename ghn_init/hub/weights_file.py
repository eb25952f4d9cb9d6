"""One ``.safetensors`` file: mapped into memory tensor by tensor, written so that a map needs no copy."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ghn_init.errors import CheckpointError

ALIGNMENT = 64
"""Bytes to which torch aligns its own memory on the CPU."""

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file; a tensor's bytes are read when it is, and are changed in memory only.

    Each tensor is a map of its own, so that the memory of one is free as soon as it is no longer used.

    Raises:
        CheckpointError: the file is missing, truncated or no safetensors file.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist.")
    try:
        with safe_open(path, framework="pt", device="cpu") as checked, path.open("rb") as file:
            metadata = checked.metadata() or {}
            start, header = _header(file)
            tensors = {}
            for name in checked.keys():  # noqa: SIM118 (no iterator)
                like = checked.get_tensor(name)
                begin, end = header[name]["data_offsets"]
                if end - begin != like.nbytes:
                    raise ValueError(f"{name} has {end - begin} bytes, not {like.nbytes}")
                tensors[name] = _mapped(file, start + begin, like)
    except (SafetensorError, ValueError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is not a complete safetensors file ({error}). It is truncated or damaged: download it "
            "again (force_download=True for a file of the Hub)."
        ) from error
    return metadata, tensors


def _header(file: BinaryIO) -> tuple[int, dict[str, dict[str, list[int]]]]:
    """Where the tensors begin, and the header that :func:`safe_open` has accepted."""
    size = int.from_bytes(file.read(8), "little")
    return 8 + size, json.loads(file.read(size))


def _mapped(file: BinaryIO, start: int, like: Tensor) -> Tensor:
    """A tensor of the file's bytes from ``start``, of the dtype and shape of ``like``."""
    if like.nbytes == 0:
        return like
    inside = start % mmap.ALLOCATIONGRANULARITY
    memory = mmap.mmap(file.fileno(), inside + like.nbytes, access=mmap.ACCESS_COPY, offset=start - inside)
    return torch.frombuffer(memory, dtype=like.dtype, count=like.numel(), offset=inside).view(like.shape)


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
