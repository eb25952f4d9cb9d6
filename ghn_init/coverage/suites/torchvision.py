"""Every architecture of torchvision, without weights of a backbone either."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from ghn_init.coverage.case import Case

LIBRARIES = ("torchvision",)
TARGETS = {"classification": 100.0, "detection": 95.0, "segmentation": 95.0, "video": 95.0,
           "optical_flow": 95.0, "quantization": 95.0}  # fmt: skip


def cases() -> Iterator[Case]:
    """All names of ``torchvision.models.list_models()``; the quantisable ones are the float variants."""
    from torchvision import models

    for name in models.list_models():
        module = models.get_model_builder(name).__module__.split(".")[2:]
        group = module[0] if len(module) > 1 else "classification"
        family = f"{group} {re.split(r'[_0-9]', name.removeprefix('quantized_'))[0]}"
        yield Case(name, family, partial(_build, name, group), group=group)


def _build(name: str, group: str) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {}
    if group in ("detection", "segmentation"):
        options["weights_backbone"] = None
    model = models.get_model(name, weights=None, **options)
    # In train mode detection takes targets, which is another forward than the one that uses the model.
    return model.eval() if group == "detection" else model
