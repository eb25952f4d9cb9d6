"""Graph hypernetworks: an architecture graph goes in, named tensors come out."""

from ghn_init.ghn.config import GHNConfig
from ghn_init.ghn.model import GHN

__all__ = ["GHN", "GHNConfig"]
