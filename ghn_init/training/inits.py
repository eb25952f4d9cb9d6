"""Initialisations by name, to compare a GHN's with: what models do themselves, Kaiming, mimetic."""

from __future__ import annotations

import logging
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor, nn

from ghn_init.api import apply
from ghn_init.blending import Blend
from ghn_init.errors import ConfigError
from ghn_init.ghn import GHN
from ghn_init.graph import ArchGraph
from ghn_init.tracing.trace import trace

REFERENCES = ("default", "kaiming", "orthogonal", "mimetic")
_WORDS = frozenset({"base", "vectors", "orthogonal"})
QUERY_KEY, VALUE_OUTPUT = (0.7, 0.7), (0.4, 0.4)  # noise and identity, Trockman & Kolter 2023, section 4


def initialise(model: nn.Module, name: str, ghn: GHN | None, example: Tensor, seed: int = 0) -> None:
    """Gives a freshly built model its start, in place.

    ==============  =================================================================================
    ``default``     as it was built
    ``kaiming``     normal with variance 2 / fan-in for convolutions and linear layers, biases zero
    ``orthogonal``  ``kaiming``, with orthogonal rows or columns of the same size (Saxe et al. 2014)
    ``mimetic``     ``default``, and attention as in Trockman & Kolter (2023, arXiv:2305.09828)
    ``ghn``         the bare prediction
    ``ghn:x=y,..``  a :class:`ghn_init.blending.Blend` of these fields: ``ghn:share=0.8,base=kaiming``
    ==============  =================================================================================

    Args:
        model: The model.
        name: Which initialisation.
        ghn: The GHN of the last two.
        example: Images that the model takes.
        seed: Of what is drawn.

    Raises:
        ConfigError: The name is unknown, or no GHN is given for one that needs it.
    """
    kind, _, rest = name.partition(":")
    if kind == "ghn":
        blend = parse_blend(rest)
        if ghn is None:
            raise ConfigError(f"initialisation {name!r} needs a GHN")
        apply(model, ghn, example_inputs=example, blend=blend, seed=seed)
    elif name not in REFERENCES:
        raise ConfigError(f"unknown initialisation {name!r}; known: {', '.join(REFERENCES)}, ghn[:...]")
    elif name != "default":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if name == "mimetic":
                mimetic(model, trace(model, example))
            else:
                kaiming(model, orthogonal=name == "orthogonal")


def parse_blend(text: str) -> Blend:
    """A blend from ``field=value,...``.

    Raises:
        ConfigError: A field is unknown or a value out of range.
    """
    known = [each.name for each in fields(Blend)]
    found: dict[str, Any] = {}
    for entry in filter(None, text.split(",")):
        key, _, value = entry.partition("=")
        if key not in known:
            raise ConfigError(f"a blend has no field {key!r}; it has {', '.join(known)}")
        if key in _WORDS:
            found[key] = value == "true" if key == "orthogonal" else value
            continue
        try:
            found[key] = float(value)
        except ValueError as error:
            raise ConfigError(f"blend: {key} is a number, got {value!r}") from error
    return Blend(**found)


def kaiming(model: nn.Module, orthogonal: bool = False) -> None:
    """Kaiming normal (He et al. 2015; fan-in, ReLU) for convolutions and linear layers, biases zero.

    Args:
        model: The model.
        orthogonal: Draw matrices ``(out, in * kernel)`` with orthonormal rows or columns instead, of the same
            root mean square.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if orthogonal:
                drawn = nn.init.orthogonal_(torch.empty(module.weight.shape))  # contiguous, as it needs to be
                with torch.no_grad():
                    module.weight.copy_(drawn * (module.weight.norm() / drawn.norm()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def mimetic(model: nn.Module, graph: ArchGraph) -> int:
    """Attention whose products start near multiples of the identity (Trockman & Kolter 2023).

    ``Wq^T Wk`` of each head becomes the best approximation of its rank to ``0.7 Z + 0.7 I``, and ``Wo Wv``
    ``0.4 Z - 0.4 I``, with ``Z`` normal of variance 1 / width. Only a joint weight ``(3 d, d)`` of queries,
    keys and values, followed by attention and a weight ``(d, d)``, is changed.

    Returns:
        The number of attention layers changed.
    """
    named = dict(model.named_parameters())
    before, after = graph.predecessors(), graph.successors()
    count = 0
    for index, node in enumerate(graph.nodes):
        if node.primitive != "msa":
            continue
        joint, output = (_weight(graph, side, index) for side in (before, after))
        if (
            joint is None
            or output is None
            or joint[1][0] != 3 * joint[1][1]
            or output[1] != (joint[1][1],) * 2
        ):
            continue
        module = model.get_submodule(node.module)
        heads = int(getattr(module, "num_heads", getattr(module, "heads", 1)))
        weights = _mimetic_weights(output[1][0], heads)
        for name, value in zip((joint[0], output[0]), weights, strict=True):
            named[name].copy_(value.to(named[name]))
        count += 1
    logging.getLogger("ghn_init").debug("mimetic initialisation of %d attention layers", count)
    return count


def _weight(graph: ArchGraph, links: list[list[int]], index: int) -> tuple[str, tuple[int, ...]] | None:
    """Name and shape of the linear weight next to a node, a bias in between passed over."""
    for near in links[index]:
        if graph.nodes[near].primitive == "bias":
            return _weight(graph, links, near)
        if graph.nodes[near].primitive == "conv" and graph.nodes[near].params:
            slot = graph.nodes[near].params[0]
            return slot.name, slot.shape
    return None


def _mimetic_weights(width: int, heads: int) -> tuple[Tensor, Tensor]:
    """Joint weight of queries, keys and values ``(3 d, d)``, and of the output ``(d, d)``."""
    size = width // heads
    queries, keys = [], []
    for _ in range(heads):
        left, values, right = torch.linalg.svd(_near_identity(width, *QUERY_KEY))
        root = values[:size].sqrt()
        queries.append((left[:, :size] * root).T)
        keys.append(root[:, None] * right[:size])
    left, values, right = torch.linalg.svd(_near_identity(width, VALUE_OUTPUT[0], -VALUE_OUTPUT[1]))
    root = values.sqrt()
    return torch.cat([*queries, *keys, root[:, None] * right]), left * root


def _near_identity(width: int, noise: float, identity: float) -> Tensor:
    return noise * torch.randn(width, width) / width**0.5 + identity * torch.eye(width)
