"""Loading, saving and publishing GHNs: local folders, the Hub, and the original authors' checkpoints."""

from ghn_init.hub.mixin import PretrainedMixin

__all__ = ["PretrainedMixin"]
