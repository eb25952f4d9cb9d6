"""From a model to its :class:`~ghn_init.graph.ArchGraph`: record the forward, then lower it."""
