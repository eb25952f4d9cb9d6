"""Which nodes are a model's classifiers."""

from __future__ import annotations

from ghn_init.ghn.config import ClassLayer
from ghn_init.ghn.views import node_view
from ghn_init.graph import ArchGraph, Node

_PASSED = frozenset({"glob_avg", "avg_pool", "max_pool", "msa"})


def classifier_nodes(graph: ArchGraph) -> frozenset[int]:
    """Weights that make the model's outputs, and the biases added to them.

    From each output the way leads back through a bias, pooling and softmax to a linear layer or a 1x1
    convolution. A sum is passed only if everything it adds comes straight from such layers (averaged
    heads). Anything else on the way, such as a norm, means that this output has no classifier.
    """
    behind: list[frozenset[int]] = []
    for index, sources in enumerate(graph.predecessors()):
        behind.append(_behind(graph, index, sources, behind))
    return frozenset().union(*(behind[index] for index in graph.outputs))


def _behind(graph: ArchGraph, index: int, sources: list[int], behind: list[frozenset[int]]) -> frozenset[int]:
    """Classifier nodes straight behind a node; none if anything else is there.

    Args:
        graph: The architecture.
        index: The node.
        sources: Nodes that feed it.
        behind: The same of every node before it.
    """
    node = graph.nodes[index]
    if _is_pointwise(node):
        return frozenset({index})
    if node.primitive == "bias":
        weights = [source for source in sources if _is_pointwise(graph.nodes[source])]
        return frozenset({index, *weights}) if weights else frozenset()
    if node.primitive in _PASSED and len(sources) == 1:
        return behind[sources[0]]
    if node.primitive == "sum" and all(behind[source] for source in sources):
        return frozenset().union(*(behind[source] for source in sources))
    return frozenset()


def class_layer_nodes(graph: ArchGraph, convention: ClassLayer) -> frozenset[int]:
    """Nodes that the class layer's decoder serves; see :attr:`GHNConfig.class_layer`."""
    if convention == "output":
        return classifier_nodes(graph)
    count = len(graph)
    nodes = set()
    if count > 2 and _is_pointwise(graph.nodes[count - 2]):
        nodes.add(count - 2)
    if count > 1 and graph.nodes[count - 1].primitive == "bias":
        nodes.add(count - 1)
    return frozenset(nodes)


def _is_pointwise(node: Node) -> bool:
    """Whether a node is a linear layer or a dense convolution with a kernel of 1."""
    if node.primitive != "conv" or not node.params:
        return False
    view = node_view(node)
    return view is not None and view[2:] == (1, 1)
