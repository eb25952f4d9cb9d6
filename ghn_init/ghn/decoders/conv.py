"""Convolutional decoder of GHN-2 and GHN-3 (Knyazev et al., 2021, appendix B; 2023, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.decoders.base import Request, WeightDecoder, register_decoder
from ghn_init.ghn.decoders.blockwise import blockwise_linear
from ghn_init.ghn.decoders.positions import Crop, positions_linear


@register_decoder("conv")
class ConvDecoder(WeightDecoder):
    """A feature vector for each kernel position, then two layers that are shared over positions.

    Only the positions of the wanted kernel are computed, and only the wanted channels of the last layer.
    """

    def __init__(self, config: GHNConfig) -> None:
        super().__init__(config)
        hid = config.hid
        self._max_shape = config.max_shape
        self._centred = config.kernel_crop == "centre"
        self.positions = nn.Linear(hid, 4 * hid * config.max_shape[2] * config.max_shape[3])
        self.hidden = nn.Linear(4 * hid, 8 * hid)
        self.output = nn.Linear(8 * hid, config.max_shape[0] * config.max_shape[1])
        self.classes = nn.Linear(config.max_shape[0], config.num_classes)

    def forward(self, x: Tensor, out: int, into: int, kernel: tuple[int, int]) -> Tensor:
        """See :meth:`WeightDecoder.forward`."""
        return self.decode_many([Request(x, out, into, kernel)])[0]

    def decode_many(self, requests: Sequence[Request]) -> list[Tensor]:
        """See :meth:`WeightDecoder.decode_many`; every layer is read only once for all requests."""
        features = self._features(requests)
        decoded = self._channels(features, [(request.out, request.into) for request in requests])
        return [
            self._class_rows(each) if request.is_class else _placed(each, request.kernel)
            for each, request in zip(decoded, requests, strict=True)
        ]

    def class_weight(self, x: Tensor, into: int) -> Tensor:
        """See :meth:`WeightDecoder.class_weight`."""
        return self.decode_many([Request(x, self._max_shape[0], into, (1, 1), is_class=True)])[0]

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """See :meth:`WeightDecoder.last_layers`."""
        return self.output, self.classes

    def _features(self, requests: Sequence[Request]) -> list[Tensor]:
        """For each request ``(kh, kw, n, 8 hid)`` at the positions of its kernel, at most the largest."""
        alike: dict[Crop, list[int]] = {}
        for i, request in enumerate(requests):
            alike.setdefault((*self._crop(request.kernel[0]), *self._crop(request.kernel[1])), []).append(i)
        inputs = [torch.cat([requests[i].x for i in same]) for same in alike.values()]
        layer, side = self.positions, self._max_shape[2]
        weight, bias = (each.unflatten(0, (-1, side, side)) for each in (layer.weight, layer.bias))
        places = positions_linear(weight, bias, list(alike), inputs)
        rows = F.relu(torch.cat([each.flatten(0, 2) for each in places]))
        features = F.relu(self.hidden(rows)).split([each.shape[:3].numel() for each in places])
        found: dict[int, Tensor] = {}
        for same, place, part in zip(alike.values(), places, features, strict=True):
            parts = part.unflatten(0, place.shape[:3]).split([len(requests[i].x) for i in same], dim=2)
            found |= zip(same, parts, strict=True)
        return [found[i] for i in range(len(requests))]

    def _crop(self, size: int) -> tuple[int, int]:
        side = self._max_shape[2]
        size = min(size, side)
        if not self._centred:
            return 0, size
        return side // 2 - size // 2, side // 2 + math.ceil(size / 2)

    def _channels(self, features: Sequence[Tensor], widths: Sequence[tuple[int, int]]) -> list[Tensor]:
        """``(kh, kw, n, out, into)`` from ``(kh, kw, n, 8 hid)`` features, for each of several."""
        shape = self._max_shape[:2]
        alike = {width: [i for i, each in enumerate(widths) if each == width] for width in widths}
        joined = [torch.cat([features[i].flatten(0, 2) for i in indices]) for indices in alike.values()]
        weight, bias = self.output.weight.unflatten(0, shape), self.output.bias.unflatten(0, shape)
        decoded = blockwise_linear(weight, bias, list(alike), joined)
        result: dict[int, Tensor] = {}
        for whole, indices in zip(decoded, alike.values(), strict=True):
            parts = whole.split([features[i].shape[:3].numel() for i in indices])
            for i, part in zip(indices, parts, strict=True):
                result[i] = part.unflatten(0, features[i].shape[:3])
        return [result[i] for i in range(len(features))]

    def _class_rows(self, decoded: Tensor) -> Tensor:
        """``(n, num_classes, in, 1, 1)`` from ``(1, 1, n, out, in)``."""
        return self.classes(F.relu(decoded[0, 0]).transpose(1, 2)).transpose(1, 2)[..., None, None]


def _placed(decoded: Tensor, kernel: tuple[int, int]) -> Tensor:
    """``(n, out, in, kh, kw)`` from ``(kh', kw', n, out, in)``, interpolated beyond the largest kernel."""
    decoded = decoded.permute(2, 3, 4, 0, 1)
    if tuple(decoded.shape[3:]) == kernel:
        return decoded
    wide = F.interpolate(decoded.flatten(0, 1), kernel, mode="bilinear")
    return wide.unflatten(0, decoded.shape[:2])
