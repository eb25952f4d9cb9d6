"""Graph hypernetworks: an architecture graph goes in, named tensors come out."""

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.decoders import WeightDecoder, register_decoder
from ghn_init.ghn.encoders import Encoder, register_encoder
from ghn_init.ghn.model import GHN

__all__ = ["GHN", "Encoder", "GHNConfig", "WeightDecoder", "register_decoder", "register_encoder"]
