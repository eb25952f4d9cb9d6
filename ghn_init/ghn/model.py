"""The graph hypernetwork: a graph goes in, named tensors come out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, TypeVar, overload

import torch
from torch import Tensor, nn

from ghn_init.errors import ConfigError, PredictionError
from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.decoders import DECODERS, VectorDecoder, decode_groups
from ghn_init.ghn.embedding import NodeEmbedding
from ghn_init.ghn.encoders import ENCODERS
from ghn_init.ghn.fit import Fitted, fit, own_memory
from ghn_init.ghn.grouping import Group, GroupKey, decoder_calls, group_targets, in_portions
from ghn_init.ghn.heads import classifier_nodes
from ghn_init.ghn.plan import Head, Plan, Target, make_targets
from ghn_init.graph import MAX_DISTANCE, ArchGraph
from ghn_init.graph.batch import GraphBatch
from ghn_init.hub.mixin import PretrainedMixin
from ghn_init.logging import progress_bar


class GHN(PretrainedMixin, nn.Module):
    """Graph hypernetwork: GHN-1, GHN-2 and GHN-3 are configurations of it.

    A node's type and tensor shape are embedded, the encoder spreads what the graph says, decoders turn the
    embedding of every node that owns a tensor into its values, which are scaled and tiled to their shape.

    Args:
        config: What to build.

    Raises:
        ConfigError: No encoder or decoder has the name that the configuration gives.

    References:
        Zhang et al., 2019 (arXiv:1810.05749); Knyazev et al., 2021 (arXiv:2110.13100) and 2023
        (arXiv:2303.04143).
    """

    config_class: ClassVar[type[GHNConfig]] = GHNConfig

    def __init__(self, config: GHNConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = NodeEmbedding(config)
        self.encoder = _registered("encoder", config.encoder, ENCODERS)(config)
        self.norm = nn.LayerNorm(config.hid) if config.layernorm else None
        self.decoder = _registered("decoder", config.decoder, DECODERS)(config)
        self.vectors = VectorDecoder(config)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial weights; output layers are small where the encoder asks for it."""
        if not self.encoder.small_outputs:
            return
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=module.embedding_dim**-0.5)
        for layer in (self.vectors.output, *self.decoder.last_layers()):
            with torch.no_grad():
                layer.weight.div_(5.0)
                layer.bias.zero_()

    def plan(self, graph: ArchGraph, *, head: Head = "auto", skip: Collection[str] = ()) -> Plan:
        """What would be predicted and what not; nothing is computed.

        Args:
            graph: The architecture.
            head: ``auto`` predicts a classifier only if its class count is the GHN's; ``predict`` always;
                ``keep`` never.
            skip: Names of tensors to leave out.
        """
        targets, kept = make_targets(graph, self.config, head, skip)
        return Plan({target.name: target.node for target in targets}, kept)

    def groups(self, graph: ArchGraph, *, head: Head = "auto") -> list[tuple[GroupKey, list[int]]]:
        """Decoder calls in order: key of the decoded shape, and the nodes that share the call."""
        groups = self._groups([graph], head)
        return [(group.key, list(dict.fromkeys(group.nodes))) for group in groups]

    def head_slots(self, graph: ArchGraph) -> list[str]:
        """Names of the tensors of the model's classifiers, in the order of the graph."""
        return [slot.name for index in sorted(classifier_nodes(graph)) for slot in graph.nodes[index].params]

    @torch.no_grad()
    def embed(self, graph: ArchGraph) -> Tensor:
        """``(N, hid)`` final embeddings of a graph's nodes: what the decoders read."""
        return self.encode([graph])

    def encode(self, graphs: Sequence[ArchGraph]) -> Tensor:
        """``(N, hid)`` final embeddings over all nodes of several graphs, differentiable."""
        batch = GraphBatch(graphs, MAX_DISTANCE if self.config.virtual_edges else 1)
        x = self.encoder(self.embedding(batch), batch)
        return x if self.norm is None else self.norm(x)

    @torch.no_grad()
    def iter_groups(
        self, graph: ArchGraph, *, head: Head = "auto", seed: int = 0, skip: Collection[str] = ()
    ) -> Iterator[dict[str, Tensor]]:
        """Predict a model's tensors group by group, so that only one group is held at a time.

        Args:
            graph: The architecture.
            head: See :meth:`plan`.
            seed: Of the rows drawn for class tokens; the global random state is neither read nor changed.
            skip: Names of tensors to leave out; the others get the same bits as without it.

        Yields:
            Name → tensor of the slot's shape, contiguous and with memory of its own, on the GHN's device and
            in its dtype.

        Raises:
            PredictionError: The GHN is on the meta device, or a decoded value is not finite.
        """
        for group in self.iter_fitted(graph, head=head, seed=seed, skip=skip):
            for portion in in_portions(group):
                yield {name: own_memory(group[name].tensor()) for name in portion}
            del group  # before the next one is decoded

    @torch.no_grad()
    def iter_fitted(
        self, graph: ArchGraph, *, head: Head = "auto", seed: int = 0, skip: Collection[str] = ()
    ) -> Iterator[dict[str, Fitted]]:
        """What :meth:`iter_groups` gives, not spelled out: decoded blocks that are yet to be repeated.

        Those of a model wider than the GHN's ``max_shape`` take a small part of its memory.
        """
        device = self.embedding.primitive.weight.device
        if device.type == "meta":
            raise PredictionError(
                "the GHN is on the meta device and its weights hold no values: load it with "
                "GHN.from_pretrained, or give it memory (to_empty) and values (load_state_dict)"
            )
        exact = torch.autocast(device.type, enabled=False)
        with exact:
            x = self.encode([graph])
        left_out = frozenset(skip)
        groups = self._groups([graph], head)
        total = sum(
            target.numel for group in groups for target in group.targets if target.name not in left_out
        )
        bar = {
            "desc": "predicting weights",
            "unit": " values",
            "unit_scale": True,
            "delay": 2,
            "leave": False,
        }
        with progress_bar(total=total, **bar) as shown:
            calls = list(decoder_calls(groups, self.config))
            may_wait = sum(not call[0].is_vectors for call in calls) < 2
            for call in calls:
                # All of a call or nothing: rows of one product share its rounding, so that a target's bits
                # would change with the targets beside it.
                if all(target.name in left_out for group in call for target in group.targets):
                    continue
                with exact:
                    decoded = decode_groups(self.decoder, self.vectors, self.config, x, call, check=True)
                for group in call:
                    values = decoded.pop(0)
                    fitted = {
                        target.name: fit(value, target, seed, may_wait=may_wait)
                        for target, value in zip(group.targets, values, strict=True)
                        if target.name not in left_out
                    }
                    shown.update(sum(each.numel for each in fitted.values()))
                    yield fitted
                    del values, fitted  # before the next call is decoded

    def predict(
        self, graph: ArchGraph, *, head: Head = "auto", seed: int = 0, skip: Collection[str] = ()
    ) -> dict[str, Tensor]:
        """All predicted tensors of a model at once; see :meth:`iter_groups`."""
        found: dict[str, Tensor] = {}
        for tensors in self.iter_groups(graph, head=head, seed=seed, skip=skip):
            found.update(tensors)
        return {name: found[name] for name in graph.slots if name in found}

    @overload
    def forward(self, graphs: ArchGraph, *, head: Head = ..., seed: int = ...) -> dict[str, Tensor]: ...
    @overload
    def forward(
        self, graphs: Sequence[ArchGraph], *, head: Head = ..., seed: int = ...
    ) -> list[dict[str, Tensor]]: ...
    def forward(
        self, graphs: ArchGraph | Sequence[ArchGraph], *, head: Head = "auto", seed: int = 0
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Predict differentiably, for training: graphs in one pass, nodes of all graphs in one decoder call.

        Args:
            graphs: One architecture, or several.
            head: See :meth:`plan`.
            seed: See :meth:`iter_groups`.

        Returns:
            Name → tensor (views of what was decoded) of the graph, or one such dict for each graph.
            Values are not checked for being finite.
        """
        if isinstance(graphs, ArchGraph):
            return self.forward([graphs], head=head, seed=seed)[0]
        x = self.encode(graphs)
        found: list[dict[str, Tensor]] = [{} for _ in graphs]
        for call in decoder_calls(self._groups(graphs, head), self.config):
            decoded = decode_groups(self.decoder, self.vectors, self.config, x, call)
            for group, values in zip(call, decoded, strict=True):
                for target, owner, each in zip(group.targets, group.owners, values, strict=True):
                    found[owner][target.name] = fit(each, target, seed).tensor()
        return found

    def _groups(self, graphs: Iterable[ArchGraph], head: Head) -> list[Group]:
        listed: list[tuple[Target, int, int]] = []
        offset = 0
        for owner, graph in enumerate(graphs):
            targets, _ = make_targets(graph, self.config, head)
            listed += [(target, offset + target.node, owner) for target in targets]
            offset += len(graph)
        return group_targets(listed, self.config.max_shape)


_Part = TypeVar("_Part")


def _registered(what: str, name: str, known: Mapping[str, _Part]) -> _Part:
    if name not in known:
        raise ConfigError(
            f"no {what} is registered as {name!r}; registered: {sorted(known)}; one of another package "
            f"is there after the import of the module that calls register_{what}"
        )
    return known[name]
