"""Decoders: node embeddings in, weights of the largest needed shape out."""

from ghn_init.ghn.decoders.base import DECODERS, Request, WeightDecoder, register_decoder
from ghn_init.ghn.decoders.conv import ConvDecoder
from ghn_init.ghn.decoders.group import decode_groups
from ghn_init.ghn.decoders.vector import VectorDecoder

__all__ = [
    "DECODERS",
    "ConvDecoder",
    "Request",
    "VectorDecoder",
    "WeightDecoder",
    "decode_groups",
    "register_decoder",
]
