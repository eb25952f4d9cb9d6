"""Ranking: candidates in order, with what the order rests on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import RenderResult

DRAWS = 1000
"""Resamples of the images behind every interval."""


@dataclass(frozen=True)
class Ranked:
    """One candidate.

    Attributes:
        name: Of the candidate.
        score: Share of the images classified correctly with predicted weights; NaN if it failed.
        low: 2.5 % quantile of the score over resamples of the images.
        high: 97.5 % quantile.
        best: Share of the resamples in which it comes first.
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


def with_intervals(entries: Sequence[Ranked], right: Mapping[str, np.ndarray], seed: int) -> list[Ranked]:
    """Entries with ``low``, ``high`` and ``best`` from resamples of the images, the same for all candidates.

    Args:
        entries: Ranked and failed ones.
        right: Name → whether each image was classified correctly, ``(N,)`` bool.
        seed: Of the resamples.
    """
    names = [entry.name for entry in entries if entry.error is None]
    if not names:
        return list(entries)
    hits = np.stack([right[name] for name in names]).astype(np.float32)  # (candidates, N)
    count = hits.shape[1]
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), DRAWS)
    means = hits @ weights.T.astype(np.float32) / count  # (candidates, draws)
    low, high = np.quantile(means, (0.025, 0.975), axis=1)
    leads = means >= means.max(0) - 1e-6  # of several that lead, each gets its part
    first = (leads / leads.sum(0)).mean(1)
    found = {name: (low[i], high[i], first[i]) for i, name in enumerate(names)}
    done = []
    for entry in entries:
        if entry.error is None:
            values = dict(zip(("low", "high", "best"), map(float, found[entry.name]), strict=True))
            entry = Ranked(**{**asdict(entry), **values})
        done.append(entry)
    return done


def _with_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float("nan") if key in _FLOATS and value is None else value for key, value in row.items()}


def pack(right: np.ndarray) -> str:
    """Bits as text."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def unpack(text: str, count: int) -> np.ndarray:
    """Inverse of :func:`pack`."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)
