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
        """See :meth:`WeightDecoder.decode_many`; the last layer, which is the largest, is read only once."""
        features = [self._features(request.x, request.kernel) for request in requests]
        decoded = self._channels(features, [(request.out, request.into) for request in requests])
        return [_placed(each, request.kernel) for each, request in zip(decoded, requests, strict=True)]

    def class_weight(self, x: Tensor, into: int) -> Tensor:
        """See :meth:`WeightDecoder.class_weight`."""
        decoded = self._channels([self._features(x, (1, 1))], [(self._max_shape[0], into)])[0][:, 0, 0]
        return self.classes(F.relu(decoded).transpose(1, 2)).transpose(1, 2)[..., None, None]

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """See :meth:`WeightDecoder.last_layers`."""
        return self.output, self.classes

    def _features(self, x: Tensor, kernel: tuple[int, int]) -> Tensor:
        """``(n, kh, kw, 8 hid)`` features at the positions of a kernel, at most as large as the largest."""
        side = self._max_shape[2]
        rows, columns = (self._crop(size) for size in kernel)
        shape = (-1, side, side)
        if rows == columns == slice(0, side):
            cut = F.linear(x, self.positions.weight, self.positions.bias)
        else:
            weight = self.positions.weight.unflatten(0, shape)[:, rows, columns].flatten(0, 2)
            bias = self.positions.bias.unflatten(0, shape)[:, rows, columns].flatten()
            cut = F.linear(x, weight, bias)
        cut = F.relu(cut).unflatten(1, (-1, rows.stop - rows.start, columns.stop - columns.start))
        # A matrix product: of strided input, torch picks a kernel by whether the weight needs a gradient.
        places = cut.permute(0, 2, 3, 1)
        return F.relu(self.hidden(places.flatten(0, 2))).unflatten(0, places.shape[:3])

    def _crop(self, size: int) -> slice:
        side = self._max_shape[2]
        size = min(size, side)
        if not self._centred:
            return slice(0, size)
        return slice(side // 2 - size // 2, side // 2 + math.ceil(size / 2))

    def _channels(self, features: Sequence[Tensor], widths: Sequence[tuple[int, int]]) -> list[Tensor]:
        """``(n, kh, kw, out, into)`` from ``(n, kh, kw, 8 hid)`` features, for each of several."""
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


def _placed(decoded: Tensor, kernel: tuple[int, int]) -> Tensor:
    """``(n, out, in, kh, kw)`` from ``(n, kh', kw', out, in)``, interpolated beyond the largest kernel."""
    decoded = decoded.permute(0, 3, 4, 1, 2)
    if tuple(decoded.shape[3:]) == kernel:
        return decoded
    wide = F.interpolate(decoded.flatten(0, 1), kernel, mode="bilinear")
    return wide.unflatten(0, decoded.shape[:2])
