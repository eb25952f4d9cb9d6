"""Encoders: node embeddings in, node embeddings that know the whole graph out."""

from ghn_init.ghn.encoders.base import ENCODERS, Encoder, register_encoder
from ghn_init.ghn.encoders.gated_gnn import GatedGNN
from ghn_init.ghn.encoders.graphormer import Graphormer
from ghn_init.ghn.encoders.residual_gnn import ResidualGNN

__all__ = ["ENCODERS", "Encoder", "GatedGNN", "Graphormer", "ResidualGNN", "register_encoder"]
