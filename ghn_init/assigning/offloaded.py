"""Parameters that a hook of accelerate keeps in host memory or in files, and moves in for each forward."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.assigning.journal import Journal
from ghn_init.assigning.targets import store
from ghn_init.errors import AssignError


class OffloadedTarget:
    """A parameter on the meta device whose value an offloading hook holds."""

    def __init__(self, name: str, tensor: Tensor, memory: Tensor) -> None:
        self.name = name
        self.tensor = tensor
        self.memory = memory

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The placeholder in the model."""
        return (self.tensor,)

    def write(self, value: Tensor, journal: Journal) -> str | None:
        """Copy ``value`` into the held memory, which is a mapped file where the hook reads from disk."""
        store(self.name, value, self.memory, journal)
        return None


def offloaded_memory(module: nn.Module, name: str, attribute: str) -> Tensor | None:
    """Memory in which a hook of accelerate keeps a parameter; ``None`` if none does.

    Raises:
        AssignError: The parameter is read from a file that must not be changed, or that a tied one does
            not read.
    """
    for hook, kept in _maps(module):
        if attribute in kept:
            memory = _host_memory(kept, attribute)
            if memory is not None:
                return memory
            tied = attribute in getattr(hook, "tied_params_names", ())
            return _mapped_file(kept, name, attribute, kept[attribute], tied=tied)
    return None


def names_in_host_memory(model: nn.Module) -> dict[int, list[str]]:
    """Address of offloaded memory → names of the parameters kept there: several, if they were tied before."""
    found: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for _, kept in _maps(module):
            for attribute, parameter in module._parameters.items():
                offloaded = parameter is not None and parameter.is_meta and attribute in kept
                memory = _host_memory(kept, attribute) if offloaded else None
                if memory is not None:
                    found.setdefault(memory.data_ptr(), []).append(f"{path}.{attribute}".lstrip("."))
    return found


def _host_memory(kept: Mapping[str, Tensor], attribute: str) -> Tensor | None:
    """What a map holds in memory; ``None`` if it reads from disk, and builds a new tensor at each access."""
    first, second = kept[attribute], kept[attribute]
    return first if first.data_ptr() == second.data_ptr() else None


def _maps(module: nn.Module) -> Iterator[tuple[Any, Mapping[str, Tensor]]]:
    """Hooks of accelerate that keep weights of ``module`` elsewhere, each with attribute → weight."""
    hook = getattr(module, "_hf_hook", None)
    for each in getattr(hook, "hooks", (hook,)):
        kept = getattr(each, "weights_map", None)
        if isinstance(kept, Mapping):
            yield each, kept


def _mapped_file(kept: Any, name: str, attribute: str, like: Tensor, *, tied: bool) -> Tensor:
    loader, key = getattr(kept, "dataset", kept), f"{getattr(kept, 'prefix', '')}{attribute}"
    folder, entry = getattr(loader, "save_folder", None), getattr(loader, "index", {}).get(key, {})
    path = None if folder is None else os.path.join(folder, f"{key}.dat")
    problem = None
    if entry.get("safetensors_file") is not None:
        problem = "is read from a checkpoint on disk, which must stay as it is"
    elif path is None or not os.path.isfile(path):
        problem = "is offloaded to a store that cannot be written"
    elif tied:
        problem = "is tied, and offloaded to disk in a file of its own"
    elif os.path.getsize(path) != like.numel() * like.element_size():
        problem = f"is offloaded to the file {path!r}, whose size is not that of the parameter"
    if problem is not None:
        raise AssignError(f"parameter {name!r} {problem}: call ghn_init.apply before offloading")
    assert path is not None
    return torch.from_file(path, shared=True, size=like.numel(), dtype=like.dtype).view(like.shape)
