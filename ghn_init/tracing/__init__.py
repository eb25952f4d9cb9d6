"""From a model to its :class:`~ghn_init.graph.ArchGraph`: record the forward, then lower it."""

from ghn_init.tracing.inputs import register_inputs
from ghn_init.tracing.rules import register_rule
from ghn_init.tracing.trace import trace

__all__ = ["register_inputs", "register_rule", "trace"]
