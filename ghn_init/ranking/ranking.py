"""Ranking: candidates in order, with what the order rests on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ghn_init.extras import needed

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import RenderResult


@dataclass(frozen=True)
class Ranked:
    """One candidate.

    Attributes:
        name: Of the candidate.
        score: What it is ranked by; NaN if it failed. The accuracy, or an estimate where
            :func:`ghn_init.rank` was asked for one.
        low: 2.5 % quantile of the score over resamples of the images.
        high: 97.5 % quantile.
        best: Share of the resamples in which it comes first.
        accuracy: Share of the images classified correctly.
        parameters: Number of parameter values.
        flops: Floating-point operations of one example's forward pass.
        latency: Milliseconds of a forward pass of one example; None if not measured.
        proxies: Zero-cost proxy → score; a proxy that failed is left out.
        predicted: Share of the parameter values that were predicted.
        seconds: Wall-clock seconds that its evaluation took.
        error: Why it could not be ranked; None if it was.
    """

    name: str
    score: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    best: float = 0.0
    accuracy: float | None = None
    parameters: int | None = None
    flops: int | None = None
    latency: float | None = None
    proxies: Mapping[str, float] = field(default_factory=dict)
    predicted: float | None = None
    seconds: float = 0.0
    error: str | None = None


class Ranking(Sequence[Ranked]):
    """Candidates, best first; those that failed last. What :func:`ghn_init.rank` returns.

    A sequence of :class:`Ranked`, and a mapping from names to them.

    Attributes:
        images: Number of examples that the scores are shares of.
        settings: What was asked for.
    """

    def __init__(self, entries: Sequence[Ranked], *, images: int, settings: Mapping[str, Any]) -> None:
        ranked = [entry for entry in entries if entry.error is None]
        failed = [entry for entry in entries if entry.error is not None]
        self._entries = sorted(ranked, key=lambda entry: (-entry.score, entry.name)) + failed
        self.images, self.settings = images, dict(settings)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Ranked]:
        return iter(self._entries)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            for entry in self._entries:
                if entry.name == key:
                    return entry
            raise KeyError(key)
        return self._entries[key]

    @property
    def best(self) -> Ranked:
        """The first one.

        Raises:
            ValueError: No candidate could be ranked.
        """
        if not self._entries or self._entries[0].error is not None:
            raise ValueError("no candidate could be ranked: see .failed")
        return self._entries[0]

    @property
    def names(self) -> list[str]:
        """Names of those that were ranked, best first."""
        return [entry.name for entry in self._entries if entry.error is None]

    @property
    def failed(self) -> dict[str, str]:
        """Name → why it could not be ranked."""
        return {entry.name: entry.error for entry in self._entries if entry.error is not None}

    def sort(self, by: str, *, ascending: bool = False) -> list[Ranked]:
        """Those that were ranked, in the order of a field or of a proxy; without a value last."""

        def key(entry: Ranked) -> tuple[bool, float]:
            value: float | None = entry.proxies[by] if by in entry.proxies else getattr(entry, by, None)
            if value is None or value != value:
                return True, 0.0
            return False, value if ascending else -value

        return sorted((entry for entry in self._entries if entry.error is None), key=key)

    def pareto(self, cost: str = "parameters") -> list[Ranked]:
        """Those that no cheaper one beats, cheapest first. ``cost``: parameters, flops or latency."""
        front: list[Ranked] = []
        for entry in self.sort(cost, ascending=True):
            if getattr(entry, cost) is not None and (not front or entry.score > front[-1].score):
                front.append(entry)
        return front

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able form; :meth:`from_dict` is its inverse."""
        entries = [{**asdict(entry), "proxies": dict(entry.proxies)} for entry in self._entries]
        for entry in entries:
            entry.update({key: None for key in ("score", "low", "high") if entry[key] != entry[key]})
        return {"images": self.images, "settings": self.settings, "entries": entries}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Ranking:
        """Read what :meth:`to_dict` gave."""
        entries = [Ranked(**_with_nan(row)) for row in data["entries"]]
        return cls(entries, images=data["images"], settings=data["settings"])

    def to_json(self, path: Any = None, **options: Any) -> str:
        """:meth:`to_dict` as JSON text, written to ``path`` if given."""
        text = json.dumps(self.to_dict(), **{"indent": 2, **options})
        if path is not None:
            Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame, one row for each candidate, one column for each field and each proxy."""
        with needed("rank", "a data frame"):
            import pandas

        rows = [{**asdict(entry), **entry.proxies} for entry in self._entries]
        frame = pandas.DataFrame(rows).drop(columns="proxies").set_index("name")
        return frame.dropna(axis="columns", how="all")

    def plot(self, path: Any = None, *, cost: str = "parameters") -> Figure:
        """Score against cost with the Pareto front; see :func:`ghn_init.ranking.plot.draw`."""
        from ghn_init.ranking.plot import draw

        return draw(self, path, cost=cost)

    def __str__(self) -> str:
        from ghn_init.ranking.tables import as_text

        return as_text(self)

    def __repr__(self) -> str:
        best = f", best {self._entries[0].name}" if self.names else ""
        return f"<Ranking of {len(self.names)} candidates{best}, {len(self.failed)} failed>"

    def __rich_console__(self, console: Any, options: Any) -> RenderResult:
        from ghn_init.ranking.tables import as_rich

        return as_rich(self)

    def _repr_html_(self) -> str:
        from ghn_init.ranking.tables import as_html

        return as_html(self)


_FLOATS = frozenset({"score", "low", "high"})


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float("nan") if key in _FLOATS and value is None else value for key, value in row.items()}
