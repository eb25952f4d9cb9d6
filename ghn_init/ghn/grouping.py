"""Which targets share a decoder call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.fit import Fitted
from ghn_init.ghn.plan import Target

GroupKey = tuple[int, ...]

_MOST_DECODED = 1 << 26  # elements decoded in one call, unless a single tensor has more
_MOST_FITTED = 1 << 20  # elements fitted at once, likewise; what stays in the cache is written fastest


@dataclass(frozen=True, slots=True)
class Group:
    """Targets whose decoded shapes are about the same; all lists run in parallel.

    Attributes:
        key: ``(out, in, kh, kw)`` of convolutions, ``(out, in)`` of class weights, ``(size, 0)`` of vectors,
            ``(size, -1)`` of class biases.
        targets: What is decoded.
        nodes: Number in the batch of the node of each target.
        owners: Number in the batch of the graph of each target.
    """

    key: GroupKey
    targets: list[Target] = field(default_factory=list)
    nodes: list[int] = field(default_factory=list)
    owners: list[int] = field(default_factory=list)

    @property
    def is_vectors(self) -> bool:
        """Whether its targets have one dimension: norm weights, biases, class biases."""
        return self.key[1] < 1

    def extend(self, other: Group) -> None:
        """Take in the targets of another group."""
        self.targets.extend(other.targets)
        self.nodes.extend(other.nodes)
        self.owners.extend(other.owners)

    def part(self, indices: Iterable[int]) -> Group:
        """The group of some of the targets."""
        chosen = list(indices)
        return Group(
            self.key,
            [self.targets[i] for i in chosen],
            [self.nodes[i] for i in chosen],
            [self.owners[i] for i in chosen],
        )


def rounded_width(size: int, largest: int) -> int:
    """Channels that stand for ``size`` in a group's key, so that similar targets share a group."""
    size = min(size, largest)
    if size % 3 == 0:
        size = size // 3 * 4
    return largest if size >= largest / 2 else size


def group_key(target: Target, max_shape: Sequence[int]) -> GroupKey:
    """Key of the group that a target belongs to."""
    out = rounded_width(target.view[0], max_shape[0])
    if target.is_vector:
        return (out, 0)
    if target.kind == "class_bias":
        return (out, -1)
    if target.kind == "positions":
        return target.view
    into = rounded_width(target.view[1], max_shape[1])
    return (out, into) if target.kind == "class_weight" else (out, into, *target.view[2:])


def group_targets(targets: Iterable[tuple[Target, int, int]], max_shape: Sequence[int]) -> list[Group]:
    """Groups in the order of their first target.

    Args:
        targets: Each with the numbers of its node and of its graph in the batch.
        max_shape: Largest decoded weight.
    """
    groups: dict[GroupKey, Group] = {}
    for target, node, owner in targets:
        key = group_key(target, max_shape)
        group = groups.setdefault(key, Group(key))
        group.targets.append(target)
        group.nodes.append(node)
        group.owners.append(owner)
    return list(groups.values())


def decoded_widths(target: Target, config: GHNConfig) -> tuple[int, int]:
    """``(out, in)`` channels that a weight needs of the decoder."""
    return min(target.view[0], config.max_shape[0]), min(target.view[1], config.max_shape[1])


def group_width(group: Group, config: GHNConfig) -> tuple[int, int]:
    """``(out, in)`` channels that the widest target of a group of weights needs of the decoder."""
    widths = [decoded_widths(target, config) for target in group.targets]
    return max(out for out, _ in widths), max(into for _, into in widths)


def decoder_calls(groups: Iterable[Group], config: GHNConfig) -> Iterator[list[Group]]:
    """Groups as decoder calls: vectors, class biases, and weights cut by widths, up to a bound of memory."""
    vectors, class_biases = Group((max(config.max_shape[:2]), 0)), Group((config.num_classes, -1))
    weights: list[Group] = []
    for group in groups:
        if group.targets[0].is_vector:
            vectors.extend(group)
        elif group.targets[0].kind == "class_bias":
            class_biases.extend(group)
        else:
            weights.append(group)
    yield from ([group] for group in (vectors, class_biases) if group.targets)
    yield from _weight_calls(weights, config)


def _weight_calls(groups: Iterable[Group], config: GHNConfig) -> Iterator[list[Group]]:
    call: list[Group] = []
    total = 0
    for group in groups:
        for part in _by_width(group, config):
            elements = len(part.targets) * _decoded_elements(part, config)
            if call and total + elements > _MOST_DECODED:
                yield call
                call, total = [], 0
            call.append(part)
            total += elements
    if call:
        yield call


def _decoded_elements(group: Group, config: GHNConfig) -> int:
    out, into = group_width(group, config)
    if group.targets[0].kind == "class_weight":
        return (config.max_shape[0] + config.num_classes) * into
    return out * into * group.key[2] * group.key[3]


def _by_width(group: Group, config: GHNConfig) -> Iterator[Group]:
    """Cut a group of weights into parts of equal width, none above the bound of memory."""
    widths = [decoded_widths(target, config) for target in group.targets]
    for width in sorted(set(widths)):
        part = group.part(i for i, each in enumerate(widths) if each == width)
        at_once = max(1, _MOST_DECODED // _decoded_elements(part, config))
        for start in range(0, len(part.targets), at_once):
            yield part.part(range(start, min(start + at_once, len(part.targets))))


def in_portions(group: Mapping[str, Fitted]) -> Iterator[list[str]]:
    """Names of tensors that together have a bounded number of elements, in order."""
    portion: list[str] = []
    total = 0
    for name, fitted in group.items():
        if portion and total + fitted.numel > _MOST_FITTED:
            yield portion
            portion, total = [], 0
        portion.append(name)
        total += fitted.numel
    if portion:
        yield portion
