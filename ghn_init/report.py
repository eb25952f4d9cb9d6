"""InitReport: what was done to every parameter of a model, by which GHN, and how long it took."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import ref

from ghn_init.tensor_statistics import Change, changes_from_dict, changes_to_dict

if TYPE_CHECKING:
    from rich.console import RenderResult
    from torch import nn

    from ghn_init.graph import ArchGraph

_LINES = 6
"""Reasons listed in the short table before the rest is counted."""


class GHNSource(NamedTuple):
    """Which GHN predicted: a Hub id, a path, ``bundled``; ``None`` if an object was passed."""

    id: str | None
    commit: str | None = None

    def __str__(self) -> str:
        return f"{self.id or 'a GHN object'}{f'@{self.commit[:7]}' if self.commit else ''}"


class Response(NamedTuple):
    """What a prediction makes of synthetic images.

    Attributes:
        value: Mutual information between the image and its predicted class, as a share of the largest
            possible: 0 where all images get the same classes or none has any confidence.
        floor: Smallest value of a network that the GHN knows (``response_floor`` of its configuration).
    """

    value: float
    floor: float

    @property
    def is_far(self) -> bool:
        """Whether the network is far from what the GHN was trained on."""
        return not self.value >= self.floor

    def __str__(self) -> str:
        return f"response {self.value:.2f} to synthetic images, floor {self.floor:.2f}"


@dataclass(frozen=True, eq=False)
class InitReport:
    """What :func:`ghn_init.apply` did. Each parameter of the model is in exactly one of the first three.

    Attributes:
        predicted: Parameter name → index of the node of :attr:`graph` that owns it. The further names
            of a tied parameter are listed too, and so are the parts of a parametrised tensor.
        kept: Parameter name → why the model's own value was kept by choice.
        skipped: Parameter name → why a prediction could not be written into it.
        ghn: Id and commit of the GHN.
        graph: The architecture graph that the prediction was made from.
        timings: Stage → wall-clock seconds.
        notes: Remarks for people.
        sizes: Parameter name → number of elements (of a tied parameter under each of its names).
        tied: Further name of a tied parameter → its first name.
        model: What the model is called.
        statistics: Parameter name → its values before and after, where :func:`ghn_init.apply` was asked for
            them; of a tied parameter under its first name.
        response: What the prediction made of synthetic images, where :func:`ghn_init.apply` was asked to look
            (``far=``) and it could be told.
    """

    predicted: Mapping[str, int]
    kept: Mapping[str, str]
    skipped: Mapping[str, str]
    ghn: GHNSource
    graph: ArchGraph
    timings: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    tied: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    statistics: Mapping[str, Change] = field(default_factory=dict)
    response: Response | None = None

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of all stages."""
        return sum(self.timings.values())

    @property
    def summary(self) -> str:
        """One line: the model, the GHN, and how many parameters were predicted, kept and skipped."""
        total = len(self.predicted) + len(self.kept) + len(self.skipped)
        return (
            f"{self.model or 'model'}: {len(self.predicted)} of {total} parameters "
            f"({_count(self._elements(self.predicted))} of {_count(self._elements(self.sizes))} values) "
            f"predicted by {self.ghn}, {len(self.kept)} kept, {len(self.skipped)} skipped, "
            f"{self.seconds:.2f} s"
        )

    def __str__(self) -> str:
        types = ", ".join(f"{name} {count}" for name, count in self.graph.type_counts.items())
        rows = [("graph", f"{len(self.graph)} nodes, {len(self.graph.edges)} edges: {types}")]
        for label, listed in (("kept", self.kept), ("skipped", self.skipped)):
            rows += [(label, line) for line in by_reason(listed)]
        rows += [("note", note) for note in self.notes]
        if self.response is not None:
            rows.append(("far" if self.response.is_far else "near", f"{self.response}"))
        rows.append(("time", ", ".join(f"{stage} {time:.2f} s" for stage, time in self.timings.items())))
        return "\n".join([self.summary, *(f"  {label:<8} {text}" for label, text in rows)])

    def __repr__(self) -> str:
        return f"<InitReport {self.summary}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form, without the graph's nodes (``graph.to_dict()`` gives them).

        :meth:`from_dict` is its inverse.
        """
        return {
            "model": self.model,
            "ghn": {"id": self.ghn.id, "commit": self.ghn.commit},
            "predicted": {
                name: {"node": node, "primitive": self.graph.nodes[node].primitive}
                for name, node in self.predicted.items()
            },
            "kept": dict(self.kept),
            "skipped": dict(self.skipped),
            "tied": dict(self.tied),
            "sizes": dict(self.sizes),
            "graph": {"nodes": len(self.graph), "edges": len(self.graph.edges), **self.graph.type_counts},
            "timings": dict(self.timings),
            "notes": list(self.notes),
            **({"statistics": changes_to_dict(self.statistics)} if self.statistics else {}),
            **({"response": self.response._asdict()} if self.response is not None else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], graph: ArchGraph) -> InitReport:
        """Read what :meth:`to_dict` gave, together with the graph that it was made from."""
        return cls(
            predicted={name: entry["node"] for name, entry in data["predicted"].items()},
            kept=data["kept"],
            skipped=data["skipped"],
            ghn=GHNSource(data["ghn"]["id"], data["ghn"]["commit"]),
            graph=graph,
            timings=data["timings"],
            notes=tuple(data["notes"]),
            sizes=data["sizes"],
            tied=data["tied"],
            model=data["model"],
            statistics=changes_from_dict(data.get("statistics", {})),
            response=Response(**data["response"]) if "response" in data else None,
        )

    def to_json(self, **options: Any) -> str:
        """:meth:`to_dict` as JSON text; ``options`` go to :func:`json.dumps`."""
        return json.dumps(self.to_dict(), **options)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """One self-contained page: the graph with its blocks folded, and what was done to every parameter.

        Norms and histograms are in it where :func:`ghn_init.apply` was called with ``statistics=True``. It
        fetches nothing, and names and reasons are text in it, whatever they contain.

        Args:
            path: File to write it to.

        Returns:
            The HTML.
        """
        from ghn_init.report_views import as_page

        return as_page(self, path)

    def _repr_html_(self) -> str:
        from ghn_init.report_views import as_cell

        return as_cell(self)

    def __rich_console__(self, console: Any, options: Any) -> RenderResult:
        from ghn_init.report_views import as_rich

        return as_rich(self)

    def _elements(self, names: Mapping[str, Any]) -> int:
        return sum(self.sizes.get(name, 0) for name in names if name not in self.tied)


_reports: dict[int, tuple[ref[nn.Module], InitReport]] = {}


def remember(model: nn.Module, report: InitReport) -> None:
    """Keep ``report`` for as long as ``model`` lives.

    It is kept beside the model, so that ``state_dict``, ``deepcopy``, pickling and configs stay as they are.
    """
    # By identity: a module may define an equality of its own.
    key = id(model)
    _reports[key] = (ref(model, lambda _: _reports.pop(key, None)), report)


def remembered(model: nn.Module) -> Callable[[], None]:
    """A function that makes the report of ``model`` what it is now."""
    before = report_of(model)

    def again() -> None:
        if before is None:
            _reports.pop(id(model), None)
        else:
            remember(model, before)

    return again


def report_of(model: nn.Module) -> InitReport | None:
    """The report of the last :func:`ghn_init.apply` on this very model object, if there was one."""
    kept = _reports.get(id(model))
    return kept[1] if kept is not None and kept[0]() is model else None


def by_reason(listed: Mapping[str, str]) -> list[str]:
    """One line for each reason, with the names that it holds for; at most a handful."""
    groups: dict[str, list[str]] = {}
    for name, reason in listed.items():
        groups.setdefault(reason, []).append(name)
    lines = [f"{_names(names)}: {reason}" for reason, names in groups.items()]
    if len(lines) > _LINES:
        rest = sum(len(names) for names in list(groups.values())[_LINES:])
        lines = [*lines[:_LINES], f"and {rest} more"]
    return lines


def _names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _count(number: int) -> str:
    for limit, unit in ((10**9, " G"), (10**6, " M"), (10**3, " k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)
