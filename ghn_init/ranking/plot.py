"""The picture of a ranking: score against cost."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ghn_init.errors import ConfigError
from ghn_init.extras import needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ghn_init.ranking.ranking import Ranking

_COSTS = {
    "parameters": "parameters",
    "flops": "FLOPs of one forward pass",
    "latency": "milliseconds of one forward pass",
}
_GOLD = "#ca8b0a"
_CORNERS = ((1, 1), (-1, 1), (1, -1), (-1, -1))
"""Right and up of a point: where its name may stand, the best place first."""
_RING: dict[str, Any] = {"marker": "o", "markersize": 7, "markerfacecolor": "none"}


def draw(ranking: Ranking, path: Any = None, *, cost: str = "parameters") -> Figure:
    """Score against cost with 95 % intervals; the Pareto front as a line, members named where there is room.

    Args:
        ranking: What to draw.
        path: Where to save the picture, if anywhere.
        cost: ``parameters``, ``flops`` or ``latency``.

    Raises:
        ConfigError: The cost is unknown or was not measured.
    """
    with needed("plot", "a picture"):
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
    errors = [  # an interval of an estimate need not hold the estimate
        [max(0.0, 100 * (entry.score - entry.low)) for entry in shown],
        [max(0.0, 100 * (entry.high - entry.score)) for entry in shown],
    ]
    axes.errorbar(x, y, yerr=errors, fmt="none", ecolor="#c8ccd4", elinewidth=1, zorder=1)
    axes.scatter(x, y, s=26, color="#186bba", zorder=2, label="candidate")
    front = [(getattr(entry, cost), 100 * entry.score) for entry in ranking.pareto(cost)]
    axes.plot(*zip(*front, strict=True), color=_GOLD, zorder=3, label="Pareto front", **_RING)
    axes.set(xscale="log", xlabel=_COSTS[cost], ylabel=_meaning(ranking.settings))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.12, y=0.12)
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2)
    figure.draw_without_rendering()
    _name(axes, front, [entry.name for entry in ranking.pareto(cost)], list(zip(x, y, strict=True)))
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _meaning(settings: Mapping[str, Any]) -> str:
    """What the scores of a ranking are."""
    if settings.get("estimate") == "trained":
        return "expected accuracy after training (%)"
    weights = {"own": "own", "both": "own and predicted"}.get(settings.get("start", ""), "predicted")
    after = f"after {settings['steps']} steps from" if settings.get("steps") else "with"
    smooth = ", smoothed" if settings.get("estimate") == "smooth" else ""
    return f"score (% correct {after} {weights} weights{smooth})"


def _name(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    others: Sequence[tuple[float, float]],
) -> None:
    """Write names beside points of a line, the last first, where there is room.

    Args:
        axes: In their final place, with everything else drawn.
        points: Of the line.
        names: Of its points.
        others: Points that a name may cover if there is no other room.
    """
    from matplotlib.transforms import Bbox

    line, dots = (
        [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in pixels]
        for pixels in (_along(axes.transData.transform(points)), axes.transData.transform(others))
    )
    inside = Bbox.from_extents(axes.bbox.x0, axes.bbox.y0, axes.figure.bbox.x1, axes.figure.bbox.y1)
    for point, name in reversed(list(zip(points, names, strict=True))):
        for taken, (right, up) in itertools.product(([*line, *dots], line), _CORNERS):
            label = axes.annotate(
                name,
                point,
                xytext=(6 * right, 7 * up),
                textcoords="offset points",
                ha="left" if right > 0 else "right",
                va="bottom" if up > 0 else "top",
                fontsize=8,
            )
            label.set_in_layout(False)
            box = label.get_window_extent()
            if inside.containsx(box.x0) and inside.containsx(box.x1) and not box.count_overlaps(taken):
                line.append(box)
                break
            label.remove()


def _along(points: np.ndarray, gap: float = 6.0) -> np.ndarray:
    """Points on a polyline ``(P, 2)``, not farther apart than ``gap``."""
    parts = [points[:1]]
    for one, other in itertools.pairwise(points):
        count = 1 + int(np.hypot(*(other - one)) / gap)
        parts.append(one + (other - one) * np.linspace(0, 1, count + 1)[1:, None])
    return np.concatenate(parts)
