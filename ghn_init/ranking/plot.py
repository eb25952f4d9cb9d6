"""The picture of a ranking: score against cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ghn_init.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ghn_init.ranking.ranking import Ranking

_COSTS = {
    "parameters": "parameters",
    "flops": "FLOPs of one forward pass",
    "latency": "milliseconds of one forward pass",
}
_LABELLED = 12


def draw(ranking: Ranking, path: Any = None, *, cost: str = "parameters") -> Figure:
    """Score against cost with 95 % intervals, the Pareto front as a line and its members named.

    Args:
        ranking: What to draw.
        path: Where to save the picture, if anywhere.
        cost: ``parameters``, ``flops`` or ``latency``.

    Raises:
        ConfigError: The cost is unknown or was not measured.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    if cost not in _COSTS:
        raise ConfigError(f"cost must be one of {', '.join(_COSTS)}, not {cost!r}")
    shown = [entry for entry in ranking if entry.error is None and getattr(entry, cost) is not None]
    if not shown:
        raise ConfigError(f"no candidate has a value of {cost}")
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    axes = figure.subplots()
    x = [getattr(entry, cost) for entry in shown]
    y = [100 * entry.score for entry in shown]
    errors = [[100 * (e.score - e.low) for e in shown], [100 * (e.high - e.score) for e in shown]]
    axes.errorbar(x, y, yerr=errors, fmt="none", ecolor="#c8ccd4", elinewidth=1, zorder=1)
    axes.scatter(x, y, s=26, color="#186bba", zorder=2, label="candidate")
    front = ranking.pareto(cost)
    if front:
        fx, fy = [getattr(entry, cost) for entry in front], [100 * entry.score for entry in front]
        axes.plot(
            fx,
            fy,
            color="#ca8b0a",
            marker="o",
            markersize=7,
            markerfacecolor="none",
            zorder=3,
            label="Pareto front",
        )
    for entry in front[-_LABELLED:]:
        axes.annotate(
            entry.name,
            (getattr(entry, cost), 100 * entry.score),
            xytext=(5, 6),
            textcoords="offset points",
            fontsize=8,
        )
    axes.set(xscale="log", xlabel=_COSTS[cost], ylabel="score (% correct with predicted weights)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12, y=0.12)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
