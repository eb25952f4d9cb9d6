"""How edges are drawn: the clean convention, and those under which published GHNs were trained."""

from __future__ import annotations

from dataclasses import dataclass

from ghn_init.errors import TraceError


@dataclass(frozen=True)
class Convention:
    """A way to draw the graph.

    Attributes:
        name: Its name, as in ``GHNConfig.graph_convention``.
        bare_norms: A norm without parameters is a node; else it is wire.
        joins: Subtraction and stacking of several branches are ``sum`` and ``concat`` nodes; else they are
            wire.
        rewires: A linear layer without bias lies on the path from its input to what it feeds. Else it hangs
            off the input node and its data passes it by, unless it follows a norm or feeds attention.
    """

    name: str
    bare_norms: bool = True
    joins: bool = True
    rewires: bool = True


CONVENTIONS = {
    "clean": Convention("clean"),
    "ghn3": Convention("ghn3", bare_norms=False, joins=False, rewires=False),
}


def find_convention(name: str) -> Convention:
    """The convention of that name.

    Raises:
        TraceError: There is none.
    """
    try:
        return CONVENTIONS[name]
    except KeyError:
        raise TraceError(
            f"unknown graph convention {name!r}; expected one of {', '.join(CONVENTIONS)}"
        ) from None
