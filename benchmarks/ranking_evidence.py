"""How well scores before training order networks as training does: tables and plot of docs/ranking.md.

    python benchmarks/ranking_evidence.py       # reads results/trained_nets.jsonl and ranking_scores.jsonl

The truth is the test accuracy after 400 updates, the mean over two seeds. Agreement is Kendall's tau-b; the
top-5 regret is what the best of the five highest scores lacks to the best network, in points of accuracy
(ties are broken against the score). Intervals are percentiles over resamples of the networks, the same ones
for all scores, so that differences are paired.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from agreement import cell, interval, lead, regrets, resamples, table, taus
from marked import write
from ranking_early import early, starts
from ranking_networks import (
    ABRUPT,
    BARS,
    BASELINES,
    COUNT_COLUMNS,
    COUNTS,
    EXPECTED,
    REGRESSOR,
    STARTS,
    WITHIN,
    ZERO_SHOT,
    Networks,
    abrupt_name,
    fit_expected,
    fit_predict,
    lines,
    read,
)

ROOT = Path(__file__).resolve().parent.parent
CEILING = "one seed with the other"
PLAIN, SMOOTHED = abrupt_name("both"), abrupt_name("both", smooth=True)
PAIRS = (
    (ZERO_SHOT, f"{ZERO_SHOT}, smoothed"),
    *((abrupt_name(start), abrupt_name(start, smooth=True)) for start in STARTS),
)
UNTRAINED = tuple(name for pair in PAIRS for name in pair)
JUDGED = (*UNTRAINED, COUNTS, REGRESSOR, EXPECTED)
WIDE = ("all", "with batch norm", "cells")
CURVE, SPLITS = (10, 20, 30, 40, 50), 40
COLORS = ("#4c72b0", "#dd8452", "#55a868", "#8172b3")


def agreement(networks: Networks, name: str, group: str) -> np.ndarray:
    """Tau ``(1 + R,)`` of a score with the truth, or of one training seed with the other, in a group."""
    members = networks.groups()["all" if group == WITHIN else group]
    one, other = networks.seeds if name == CEILING else (networks.scores[name], networks.truth)
    families = networks.families[members]
    pairs = families[:, None] == families[None] if group == WITHIN else None
    return taus(one[members], other[members], resamples(int(members.sum())), pairs)


def choice(networks: Networks) -> str:
    """The scores to choose from, what they need and cost, and how they do."""
    spent: dict[str, list[float]] = {}
    for line in (*lines("ranking_scores.jsonl"), *lines("first_steps.jsonl")):
        spent.setdefault(line.get("what") or line["start"], []).append(line["cpu_seconds"])
    once = {name: float(np.mean(values)) for name, values in spent.items()}
    plain, steps = f"{once['ghn 0']:.0f} s", f"{once['own'] + once['ghn']:.0f} s"
    known = (
        (ZERO_SHOT, "accuracy with predicted weights, the default", "nothing", plain),
        (SMOOTHED, '`start="both", steps=50, smooth=True`', "20 candidates", steps),
        (EXPECTED, '`start="both", steps=50, trained=`', "20 candidates that were trained", steps),
    )
    rows = []
    for name, what, needs, cost in known:
        values = [(agreement(networks, name, group)[0], bar) for group, bar in BARS.items()]
        rows.append((what, [needs, cost, *(f"**{v:.2f}**" if v >= bar else f"{v:.2f}" for v, bar in values)]))
    head = [f"tau, {group} (bar {bar})" for group, bar in BARS.items()]
    return "\n".join(table(["score", "needs", "CPU time of a network", *head], rows)) + "\n"


def verdicts(networks: Networks) -> list[str]:
    """Whether the bars are reached, and how surely."""
    rows = []
    for name in JUDGED:
        cells = []
        for group, bar in BARS.items():
            values = agreement(networks, name, group)
            share = np.mean(values[1:] >= bar)
            cells += [cell(values), "reached" if values[0] >= bar else "**missed**", f"{share:.0%}"]
        rows.append((name, cells))
    head = [text for group, bar in BARS.items() for text in (group, f"bar {bar}", "of resamples")]
    return table(["tau", *head], rows)


def leads(networks: Networks, group: str) -> list[str]:
    """Paired differences in tau to each cost and proxy."""
    found = {name: agreement(networks, name, group) for name in (*JUDGED, *BASELINES)}
    rows = [(name, [lead(found[name] - found[other]) for other in BASELINES]) for name in JUDGED]
    return table([f"lead in tau, {group}", *BASELINES], rows)


def gains(networks: Networks) -> list[str]:
    """What smoothing over the graphs adds, for every start and number of steps."""
    groups = ("all", "with batch norm", WITHIN)
    rows = []
    for plain, smooth in PAIRS:
        found = [(agreement(networks, plain, g), agreement(networks, smooth, g)) for g in groups]
        rows.append((plain, [f"{a[0]:.2f} → {b[0]:.2f}; {lead(b - a)}" for a, b in found]))
    return table(["tau, plain → smoothed; difference", *groups], rows)


def tau_table(networks: Networks, names: list[str], groups: list[str]) -> list[str]:
    """Tau of each score in each group, and of one training seed with the other."""
    rows = [(name, [cell(agreement(networks, name, group)) for group in groups]) for name in names]
    return table(["tau", *(f"{group} ({_size(networks, group)})" for group in groups)], rows)


def _size(networks: Networks, group: str) -> str:
    if group == WITHIN:
        counts = np.unique(networks.families, return_counts=True)[1]
        return f"{int((counts * (counts - 1) / 2).sum())} pairs"
    return str(int(networks.groups()[group].sum()))


def regret_table(networks: Networks, names: list[str]) -> list[str]:
    """Top-5 regret in the groups that are large enough for it to mean something."""
    rows = []
    for name in names:
        found = []
        for group in WIDE:
            members = networks.groups()[group]
            score, truth = networks.scores[name][members], networks.truth[members]
            found.append(cell(regrets(score, truth, resamples(int(members.sum()))), "{:.1f}"))
        rows.append((name, found))
    return table(["top-5 regret", *(f"{group} ({_size(networks, group)})" for group in WIDE)], rows)


def learning_curve(networks: Networks) -> dict[str, np.ndarray]:
    """Name → tau among the networks that were not trained, ``(len(CURVE), SPLITS)``, in the same splits."""
    x, y, scores = networks.features, networks.truth, networks.scores
    names = (EXPECTED, REGRESSOR, COUNTS, SMOOTHED)
    found = {name: np.zeros((len(CURVE), SPLITS)) for name in names}
    for place, count in enumerate(CURVE):
        for split in range(SPLITS):
            order = np.random.default_rng(split).permutation(len(y))
            known, others = order[:count], order[count:]
            guesses = {
                EXPECTED: fit_expected(scores[PLAIN], x, scores["FLOPs"], y, known)[others],
                REGRESSOR: fit_predict(x, y, known, others),
                COUNTS: fit_predict(x[:, -COUNT_COLUMNS:], y, known, others),
                SMOOTHED: scores[SMOOTHED][others],
            }
            for name, guess in guesses.items():
                found[name][place, split] = taus(guess, y[others], np.ones((1, len(others))))[0]
    return found


def curve_table(curve: dict[str, np.ndarray]) -> list[str]:
    """Mean and standard deviation over the splits."""
    rows = []
    for name, values in curve.items():
        cells = [f"{row.mean():.2f} ± {row.std(ddof=1):.2f}" for row in values]
        rows.append((f"{name} (needs none)" if name == SMOOTHED else name, cells))
    return table(["tau among the others", *(f"{count} trained" for count in CURVE)], rows)


def section(networks: Networks, curve: dict[str, np.ndarray]) -> str:
    """What stands between the marks of the page."""
    abrupt = [abrupt_name(start, count) for start in STARTS for count in ABRUPT[:-1]]
    names = [*UNTRAINED, *abrupt, COUNTS, REGRESSOR, EXPECTED, *BASELINES]
    families = [group for group in networks.groups() if group not in WIDE]
    parts = [
        *verdicts(networks), "",
        "### Ahead of cost and proxies", "",
        *(line for group in (*WIDE[:2], WITHIN) for line in (*leads(networks, group), "")),
        "### What makes it better", "",
        *gains(networks), "",
        *starts(networks), "",
        *curve_table(curve), "",
        *early(networks), "",
        "### Every score", "",
        *tau_table(networks, [CEILING, *names], [*WIDE, WITHIN]), "",
        *regret_table(networks, names), "",
        "### One family only", "",
        *tau_table(networks, [CEILING, *names], families), "",
    ]  # fmt: skip
    return "\n".join(parts)


def draw(networks: Networks, curve: dict[str, np.ndarray], path: Path) -> None:
    """Tau of each score in the groups beside the noise ceiling, and the learning curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.4, 1))
    names = [*JUDGED, *BASELINES]
    for offset, (group, color) in enumerate(zip((*WIDE, WITHIN), COLORS, strict=True)):
        found = [agreement(networks, name, group) for name in names]
        y = np.arange(len(names)) + 0.2 * (offset - 1.5)
        ends = np.array([interval(values) for values in found])
        left.hlines(y, ends[:, 0], ends[:, 1], color=color, alpha=0.5)
        label = f"{group} ({_size(networks, group)})"
        left.plot([values[0] for values in found], y, "o", color=color, markersize=5, label=label)
        left.axvline(agreement(networks, CEILING, group)[0], color=color, linestyle=":")
    left.axvline(0, color="0.6", linewidth=0.8)
    left.set_yticks(range(len(names)), names)
    left.invert_yaxis()
    left.set_xlabel("Kendall's tau with trained accuracy\n(dotted: one training seed with the other)")
    left.legend(loc="upper center", bbox_to_anchor=(0.3, 1.12), ncols=2, frameon=False)
    _draw_curve(right, curve)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _draw_curve(axes: Any, curve: dict[str, np.ndarray]) -> None:
    for (name, values), color in zip(curve.items(), COLORS, strict=True):
        middle, spread = values.mean(1), values.std(1, ddof=1) / np.sqrt(values.shape[1])
        axes.fill_between(
            CURVE, middle - 2 * spread, middle + 2 * spread, color=color, alpha=0.2, linewidth=0
        )
        axes.plot(CURVE, middle, "--" if name == SMOOTHED else "-o", color=color, label=name, markersize=4)
    axes.set(xlabel="networks whose trained accuracy\nis known", ylabel="tau among the others")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write the sections of the page and the picture."""
    networks = read()
    curve = learning_curve(networks)
    page = ROOT / "docs" / "ranking.md"
    write(page, {"choice": choice(networks), "evidence": section(networks, curve)})
    draw(networks, curve, ROOT / "docs" / "images" / "ranking.png")
    print(page.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
