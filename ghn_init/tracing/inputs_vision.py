"""Example images for models that say their size (timm's ``pretrained_cfg``, torchvision's ``image_size``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.tracing.inputs_layers import computing_dtype, first_layers

BATCH = 2


def from_image_config(model: nn.Module) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
    """An image batch of the declared size, if one is declared.

    The number of channels is that of the first convolution, for ``in_chans`` may differ from the declaration.
    """
    declared = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    channels, sizes = _channels(model, declared), _declared_sizes(model)
    size = _field(declared, "input_size")
    if isinstance(size, (tuple, list)) and len(size) == 3:
        channels.append(int(size[0]))
        sizes.append((int(size[1]), int(size[2])))
    if sizes:
        for count in dict.fromkeys([*channels, 3]):
            for height, width in dict.fromkeys(sizes):
                yield (image(model, count, height, width),), {}


def _channels(model: nn.Module, declared: Any) -> list[int]:
    """Input channels of the convolution that is declared to be the first, else of the first one found."""
    names = _field(declared, "first_conv")
    modules = dict(model.named_modules())
    layers = [modules.get(name) for name in ([names] if isinstance(names, str) else names or [])]
    for layer in chain(layers, first_layers(model)):
        if layer is not None and len(getattr(layer, "kernel_size", ())) == 2:
            return [int(layer.in_channels)]  # type: ignore[arg-type]
    return []


def image(model: nn.Module, channels: int, height: int, width: int) -> Tensor:
    """A batch of images ``(2, channels, height, width)`` on meta, in the model's dtype."""
    return torch.empty(BATCH, channels, height, width, dtype=computing_dtype(model), device="meta")


def _field(declared: Any, name: str) -> Any:
    return declared.get(name) if isinstance(declared, Mapping) else getattr(declared, name, None)


def _attribute(module: nn.Module, name: str) -> Any:
    """``getattr`` with ``None`` for none, for most modules without the costly error of ``nn.Module``."""
    plain = type(module).__getattr__ is nn.Module.__getattr__
    if plain and name not in module.__dict__ and not hasattr(type(module), name):
        return None
    return getattr(module, name, None)


def _declared_sizes(model: nn.Module) -> list[tuple[int, int]]:
    """Sizes that the model or one of its modules was built for."""
    sizes: list[tuple[int, int]] = []
    for module in model.modules():
        for name in ("img_size", "image_size"):
            value = _attribute(module, name)
            if isinstance(value, int) and value > 0:
                sizes.append((value, value))
            elif (
                isinstance(value, (tuple, list))
                and len(value) == 2
                and all(isinstance(v, int) for v in value)
            ):
                sizes.append((value[0], value[1]))
    return sizes[:2]
