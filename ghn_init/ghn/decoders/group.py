"""One decoder call: the normalised values of every target of some groups, before they are fitted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ghn_init.errors import PredictionError
from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.decoders.base import Request, WeightDecoder
from ghn_init.ghn.decoders.vector import VectorDecoder
from ghn_init.ghn.grouping import Group, group_width
from ghn_init.ghn.normalise import bounded_bias, bounded_norm_weight


def decode_groups(
    decoder: WeightDecoder,
    vectors: VectorDecoder,
    config: GHNConfig,
    x: Tensor,
    groups: Sequence[Group],
    *,
    check: bool = False,
) -> list[Sequence[Tensor]]:
    """Decode groups of one decoder call.

    Args:
        decoder: For weights.
        vectors: For norm weights and biases.
        config: Largest shape, and whether values are normalised.
        x: ``(N, hid)`` embeddings of all nodes of the batch.
        groups: What to decode.
        check: Whether to raise an error for values that are not finite.

    Returns:
        For each group and target a tensor ``(size,)`` or ``(out, in, kh, kw)``, which
        :func:`ghn_init.ghn.fit.fit` brings to the target's shape.

    Raises:
        PredictionError: A value is NaN or infinite, and ``check`` is set.
    """
    rows = [x.index_select(0, torch.tensor(group.nodes, device=x.device)) for group in groups]
    kind = groups[0].targets[0].kind
    if groups[0].targets[0].is_vector:
        decoded = [vectors(each) for each in rows]
    elif kind == "class_bias":
        decoded = [vectors.class_bias(each) for each in rows]
    else:
        requests = [_request(each, group, config) for each, group in zip(rows, groups, strict=True)]
        decoded = decoder.decode_many(requests)
    if check:
        for values, group in zip(decoded, groups, strict=True):
            _check_finite(values, group)
    return [_normalised(values, config, group) for values, group in zip(decoded, groups, strict=True)]


def _request(x: Tensor, group: Group, config: GHNConfig) -> Request:
    if group.targets[0].kind == "class_weight":
        return Request(x, config.max_shape[0], group_width(group, config)[1], (1, 1), is_class=True)
    return Request(x, *group_width(group, config), (group.key[2], group.key[3]))


def _normalised(decoded: Tensor, config: GHNConfig, group: Group) -> Sequence[Tensor]:
    targets = group.targets
    if targets[0].is_vector:
        weights, biases = decoded.unbind(1)
        if config.weight_norm:
            weights, biases = bounded_norm_weight(weights), bounded_bias(biases)
        pairs = zip(targets, weights.unbind(0), biases.unbind(0), strict=True)
        return [weight if target.kind == "norm_weight" else bias for target, weight, bias in pairs]
    if targets[0].kind == "class_bias":
        return (bounded_bias(decoded) if config.weight_norm else decoded).unbind(0)
    scales = [1.0 if target.scale is None else target.scale for target in targets]
    if any(scale != 1.0 for scale in scales):
        factors = decoded.new_tensor(scales).view(-1, 1, 1, 1, 1)
        decoded = decoded * factors if decoded.requires_grad else decoded.mul_(factors)
    return decoded.unbind(0)


def _check_finite(decoded: Tensor, group: Group) -> None:
    if decoded.sum().isfinite() or decoded.isfinite().all():
        return
    finite = decoded.flatten(1).isfinite().all(dim=1).tolist()
    wrong = [target.name for target, good in zip(group.targets, finite, strict=True) if not good]
    raise PredictionError(
        f"the GHN decoded NaN or infinity for {', '.join(wrong[:3])} ({len(wrong)} of {len(finite)} tensors "
        f"of group {group.key}); its weights are damaged or do not fit its configuration"
    )
