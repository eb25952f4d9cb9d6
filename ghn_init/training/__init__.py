"""Training and evaluating GHNs on random architectures."""

from ghn_init.training.families import Family, register_family
from ghn_init.training.spaces import Architecture, Space, held_out

__all__ = ["Architecture", "Family", "Space", "held_out", "register_family"]
