"""Graph hypernetworks: an architecture graph goes in, named tensors come out."""

from ghn_init.ghn.config import GHNConfig

__all__ = ["GHNConfig"]
