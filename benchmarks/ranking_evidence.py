"""How well scores before training order networks as training does: the table and the plot of docs/ranking.md.

    python benchmarks/ranking_evidence.py       # reads results/trained_nets.jsonl and ranking_scores.jsonl

The truth is the test accuracy after 400 updates, the mean over two seeds. Agreement is Kendall's tau-b; the
top-5 regret is what the best of the five highest scores lacks to the best network, in points of accuracy
(ties are broken against the score). Intervals are percentiles over resamples of the networks, the same ones
for all scores. The variant of the cheap steps is chosen on networks of even index and judged on the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SEEDS, LAST_MARK, RESAMPLES, FEWEST, TOP = (0, 1), "400", 2_000, 5, 5
MARKED = re.compile(r"(<!-- evidence: [^>]*-->\n).*?(<!-- end of evidence -->)", re.DOTALL)

ZERO_SHOT, REGRESSOR, BOTH = "GHN, no steps", "embedding regressor", "regressor with cheap scores"
CEILING = "one seed with the other"
COUNTS, COUNT_COLUMNS = "regressor without embeddings", 18
"""The control: sizes and shares of the types only, the last columns of the features."""
PROXIES = ("synflow", "naswot", "grad_norm")
BASELINES = ("parameters", "FLOPs", "latency", *PROXIES)
STEPS = (10, 25, 50)
MEASURES = ("accuracy", "loss", "losses")
WIDE = ("all", "with batch norm", "cells")


@dataclass(frozen=True)
class Networks:
    """What is known of the networks that both seeds trained.

    Attributes:
        keys: Family and index of each of the N networks.
        seeds: Trained accuracies ``(2, N)``.
        batchnorm: ``(N,)`` bool.
        scores: Name → ``(N,)``; larger is better.
    """

    keys: list[tuple[str, int]]
    seeds: np.ndarray
    batchnorm: np.ndarray
    scores: dict[str, np.ndarray]

    @property
    def truth(self) -> np.ndarray:
        """``(N,)``: what the scores are to predict."""
        return self.seeds.mean(0)

    def groups(self) -> dict[str, np.ndarray]:
        """Name → ``(N,)`` bool: all, by batch norm, and each family of at least five."""
        families = np.array([family for family, _ in self.keys])
        found = {"all": np.ones(len(families), bool), "with batch norm": self.batchnorm}
        for family in dict.fromkeys(families):
            found[str(family)] = families == family
        return {name: members for name, members in found.items() if members.sum() >= FEWEST}

    @property
    def odd(self) -> np.ndarray:
        """``(N,)`` bool: those on which a chosen variant is judged."""
        return np.array([index % 2 == 1 for _, index in self.keys])


def read(trained: list[dict[str, Any]], scored: list[dict[str, Any]]) -> Networks:
    """Networks with both seeds and all scores."""
    accuracies = {(row["family"], row["index"], row["seed"]): row["accuracies"][LAST_MARK] for row in trained}
    found: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in scored:
        found.setdefault((row["family"], row["index"]), {})[row["what"]] = row
    most = max(len(rows) for rows in found.values())
    keys = sorted(
        key
        for key, rows in found.items()
        if len(rows) == most and all((*key, seed) in accuracies for seed in SEEDS)
    )
    rows = [found[key] for key in keys]
    seeds = np.array([[accuracies[(*key, seed)] for key in keys] for seed in SEEDS])
    batchnorm = np.array([row["features"]["batchnorm"] for row in rows])
    return Networks(keys, seeds, batchnorm, _scores(rows, seeds.mean(0)))


def _scores(rows: list[dict[str, dict[str, Any]]], truth: np.ndarray) -> dict[str, np.ndarray]:
    found = {ZERO_SHOT: np.array([row["ghn 0"]["accuracy"] for row in rows])}
    for start in ("ghn", "own"):
        for steps in STEPS:
            for measure in MEASURES:
                values = [_measure(row[f"{start} {steps}"], measure) for row in rows]
                found[_variant(start, steps, measure)] = np.nan_to_num(np.array(values), nan=-np.inf)
    for name in BASELINES:
        values = [_cost(row["costs"], name) for row in rows]
        found[name] = np.nan_to_num(np.array(values, float), nan=-np.inf)
    embedded = np.array([row["features"]["features"] for row in rows])
    cheap = [found[_variant(start, 25, measure)] for start in ("ghn", "own") for measure in MEASURES]
    cheap += [np.log(found[name]) for name in ("parameters", "FLOPs")]
    found[REGRESSOR] = cross_validated(embedded, truth)
    found[COUNTS] = cross_validated(embedded[:, -COUNT_COLUMNS:], truth)
    found[BOTH] = cross_validated(np.column_stack([embedded, *cheap]), truth)
    return found


def _cost(row: dict[str, Any], name: str) -> float:
    """A proxy that overflows has no value in its row: the network is last."""
    if name in PROXIES:
        return row["proxies"].get(name, -np.inf)
    return row[name.lower()]


def _measure(row: Mapping[str, Any], measure: str) -> float:
    if measure == "accuracy":
        return row["accuracy"]
    return -row["loss"] if measure == "loss" else -float(np.mean(row["losses"]))


def _variant(start: str, steps: int, measure: str) -> str:
    names = {"accuracy": "accuracy", "loss": "test loss", "losses": "mean loss of the steps"}
    return f"{'GHN' if start == 'ghn' else 'own weights'} + {steps} steps, {names[measure]}"


def cross_validated(x: np.ndarray, y: np.ndarray, folds: int = 10, repeats: int = 5) -> np.ndarray:
    """Predictions ``(N,)`` by ridge regressions that did not see the network, mean over repeated folds."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import KFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = min(folds, len(y))
    pipeline = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 25)))
    splits = [KFold(folds, shuffle=True, random_state=seed) for seed in range(repeats)]
    return np.mean([np.asarray(cross_val_predict(pipeline, x, y, cv=split)) for split in splits], axis=0)


def taus(score: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Kendall's tau-b ``(R,)`` of samples in which network i is ``weights[r, i]`` times; nan if constant."""
    a, b = (np.sign(values[:, None] - values[None]) for values in (ranks(score), ranks(truth)))
    pairs, in_a, in_b = (((weights @ matrix) * weights).sum(1) for matrix in (a * b, np.abs(a), np.abs(b)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return pairs / np.sqrt(in_a * in_b)


def ranks(values: np.ndarray) -> np.ndarray:
    """Dense ranks, so that infinities compare."""
    return np.unique(values, return_inverse=True)[1].astype(float)


def regrets(score: np.ndarray, truth: np.ndarray, weights: np.ndarray, top: int = TOP) -> np.ndarray:
    """``(R,)``: best accuracy in each sample minus the best of its ``top`` highest scores, in points."""
    order = np.lexsort((truth, -ranks(score)))
    found = []
    for row in weights:
        there = order[row[order] > 0]
        found.append(100 * (truth[there].max() - truth[there[:top]].max()))
    return np.array(found)


def resamples(number: int, count: int = RESAMPLES) -> np.ndarray:
    """How often each network is in each resample, ``(count + 1, number)``; the first is the sample itself."""
    drawn = np.random.default_rng(0).multinomial(number, [1 / number] * number, size=count)
    return np.vstack([np.ones(number, int), drawn]).astype(float)


def cell(values: np.ndarray, form: str = "{:.2f}") -> str:
    """The value of the sample, and the 95 % interval over the resamples."""
    if np.isnan(values[0]):
        return "–"
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return f"{form.format(values[0])} ({form.format(low)} to {form.format(high)})".replace("-", "−")


def chosen(networks: Networks, start: str) -> str:
    """The variant with the highest tau on the networks of even index."""
    even = ~networks.odd
    names = [_variant(start, steps, measure) for steps in STEPS for measure in MEASURES]
    weights = np.ones((1, int(even.sum())))
    return max(names, key=lambda name: taus(networks.scores[name][even], networks.truth[even], weights)[0])


def shown(networks: Networks) -> list[str]:
    """Rows of the tables: fixed variants, never the best after the fact."""
    steps = [_variant(start, count, "accuracy") for start in ("ghn", "own") for count in STEPS]
    return [ZERO_SHOT, *steps, COUNTS, REGRESSOR, BOTH, *BASELINES]


def _row(name: str, cells: list[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def tau_table(networks: Networks, names: list[str], groups: dict[str, np.ndarray]) -> list[str]:
    """Tau of each score in each group, and of one training seed with the other."""

    def of(name: str, members: np.ndarray) -> str:
        one, other = networks.seeds if name == CEILING else (networks.scores[name], networks.truth)
        return cell(taus(one[members], other[members], resamples(int(members.sum()))))

    return _table("tau", [CEILING, *names], groups, of)


def regret_table(networks: Networks, names: list[str], groups: dict[str, np.ndarray]) -> list[str]:
    """Top-5 regret in the groups that are large enough for it to mean something."""

    def of(name: str, members: np.ndarray) -> str:
        score, truth = networks.scores[name][members], networks.truth[members]
        return cell(regrets(score, truth, resamples(int(members.sum()))), "{:.1f}")

    return _table("top-5 regret", names, groups, of)


def _table(
    title: str, names: list[str], groups: dict[str, np.ndarray], of: Callable[[str, np.ndarray], str]
) -> list[str]:
    head = _row(title, [f"{name} ({members.sum()})" for name, members in groups.items()])
    rows = (_row(name, [of(name, members) for members in groups.values()]) for name in names)
    return [head, "|---|" + "---:|" * len(groups), *rows]


def verdicts(networks: Networks) -> list[str]:
    """Whether the bars are reached: fixed scores on all networks, chosen ones on those that chose nothing."""
    head = [
        "networks",
        "all",
        "bar 0.5",
        "with batch norm",
        "bar 0.3",
        "ahead of",
        "in all",
        "with batch norm",
    ]
    lines = [_row("", head), "|---|" + "---:|" * len(head)]
    everyone = np.ones_like(networks.odd)
    fixed = [(name, everyone) for name in (ZERO_SHOT, COUNTS, REGRESSOR, BOTH)]
    for name, judges in [*fixed, *((chosen(networks, start), networks.odd) for start in ("ghn", "own"))]:
        (overall, lead, rival), (within, lead_bn, rival_bn) = (
            _against_rivals(networks, name, members) for members in (judges, judges & networks.batchnorm)
        )
        cells = [str(judges.sum()) if judges.all() else f"odd index, {judges.sum()}"]
        cells += [cell(overall), _reached(overall[0] >= 0.5), cell(within), _reached(within[0] >= 0.3)]
        cells += [rival if rival == rival_bn else f"{rival}; {rival_bn}", cell(lead), cell(lead_bn)]
        lines.append(_row(name, cells))
    return lines


def _against_rivals(networks: Networks, name: str, members: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Tau, its lead over the best cost or proxy in the same resamples, and which that is."""
    weights = resamples(int(members.sum()))
    found = {
        other: taus(networks.scores[other][members], networks.truth[members], weights)
        for other in (name, *BASELINES)
    }
    rival = max(BASELINES, key=lambda other: found[other][0])
    return found[name], found[name] - found[rival], rival


def _reached(is_reached: bool) -> str:
    return "reached" if is_reached else "**missed**"


def section(networks: Networks) -> str:
    """What stands between the marks of the page."""
    names, groups = shown(networks), networks.groups()
    wide = {name: members for name, members in groups.items() if name in WIDE}
    families = {name: members for name, members in groups.items() if name not in WIDE}
    parts = [
        *verdicts(networks), "",
        *tau_table(networks, names, wide), "",
        *regret_table(networks, names, wide), "",
        "### Within families", "",
        *tau_table(networks, names, families), "",
    ]  # fmt: skip
    return "\n".join(parts)


def draw(networks: Networks, path: Path) -> None:
    """Tau of each score, overall and among networks with batch norm, beside the noise ceiling."""
    from matplotlib.figure import Figure

    names = shown(networks)
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    for offset, (group, color) in enumerate(zip(WIDE, ("#4c72b0", "#dd8452", "#55a868"), strict=True)):
        members = networks.groups()[group]
        weights = resamples(int(members.sum()))
        found = [taus(networks.scores[name][members], networks.truth[members], weights) for name in names]
        middle = np.array([values[0] for values in found])
        ends = np.array([np.nanpercentile(values[1:], (2.5, 97.5)) for values in found])
        y = np.arange(len(names)) + 0.22 * (offset - 1)
        label = f"{group} ({members.sum()})"
        axes.hlines(y, ends[:, 0], ends[:, 1], color=color, alpha=0.5)
        axes.plot(middle, y, "o", color=color, markersize=5, label=label)
        ceiling = taus(networks.seeds[0][members], networks.seeds[1][members], weights)[0]
        axes.axvline(ceiling, color=color, linestyle=":")
    axes.axvline(0, color="0.6", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("Kendall's tau with trained accuracy; dotted: one training seed with the other")
    axes.legend(loc="upper center", bbox_to_anchor=(0.4, 1.09), ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})


def _rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / name).read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Write the section of the page and the picture."""
    networks = read(_rows("trained_nets.jsonl"), _rows("ranking_scores.jsonl"))
    page = ROOT / "docs" / "ranking.md"
    text = page.read_text(encoding="utf-8")
    new, count = MARKED.subn(lambda match: f"{match[1]}\n{section(networks)}\n{match[2]}", text)
    if count != 1:
        raise SystemExit(f"{page} has {count} marked sections, expected one")
    page.write_text(new, encoding="utf-8")
    draw(networks, ROOT / "docs" / "images" / "ranking.png")
    print(section(networks))


if __name__ == "__main__":
    main()
