"""Architecture graphs: 15 primitive types, parameter slots, edges, distances, batching, drawing."""

from ghn_init.graph.arch_graph import ArchGraph, Node, ParamSlot
from ghn_init.graph.paths import MAX_DISTANCE, shortest_distances
from ghn_init.graph.primitives import PRIMITIVE_INDEX, PRIMITIVES

__all__ = [
    "MAX_DISTANCE",
    "PRIMITIVES",
    "PRIMITIVE_INDEX",
    "ArchGraph",
    "Node",
    "ParamSlot",
    "shortest_distances",
]
