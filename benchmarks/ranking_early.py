"""What first updates tell, of a training by one seed and of a ranking; for ranking_evidence.py."""

from __future__ import annotations

import numpy as np
from agreement import cell, lead, resamples, table, taus
from ranking_networks import BARS, SEEDS, STARTS, WITHIN, Networks, lines

from ghn_init.ranking.estimates import smoothed


def early(networks: Networks) -> list[str]:
    """How well the first updates of a training by one seed foretell what the other seed ends with."""
    known = {
        (row["family"], row["index"], row["seed"]): row["accuracies"] for row in lines("trained_nets.jsonl")
    }
    size, found = networks.scores["parameters"], []
    for mark in ("25", "50", "100", "200"):
        for smooth in (False, True):
            scores = [np.array([known[(*key, seed)][mark] for key in networks.keys]) for seed in SEEDS]
            if smooth:
                scores = [smoothed(score[:, None], networks.features)[:, 0] for score in scores]
            cells = []
            for group in (*BARS, WITHIN):
                tau = _foretold(networks, scores, group)
                cells += [cell(tau), lead(tau - _foretold(networks, [size, size], group))]
            found.append((f"{mark} updates{', smoothed' if smooth else ''}", cells))
    head = [text for group in (*BARS, WITHIN) for text in (group, "ahead of parameters")]
    return table(["tau with the other seed", *head], found)


def _foretold(networks: Networks, scores: list[np.ndarray], group: str) -> np.ndarray:
    """Mean tau ``(1 + R,)`` of the score of each seed with what the other seed ends with."""
    members = networks.groups()["all" if group == WITHIN else group]
    families, weights = networks.families[members], resamples(int(members.sum()))
    pairs = families[:, None] == families[None] if group == WITHIN else None
    both = [taus(scores[s][members], networks.seeds[1 - s][members], weights, pairs) for s in SEEDS]
    return np.mean(both, axis=0)


def starts(networks: Networks) -> list[str]:
    """The steps of a ranking from each start, on the networks where all were measured."""
    found: dict[tuple[str, int], dict[str, float]] = {}
    for line in lines("first_steps.jsonl"):
        found.setdefault((line["family"], line["index"]), {})[line["start"]] = line["accuracy"]
    at = np.array([len(found.get(key, {})) == 2 for key in networks.keys])
    keys = [key for key, there in zip(networks.keys, at, strict=True) if there]
    own, ghn = (np.array([found[key][start] for key in keys]) for start in ("own", "ghn"))
    truth, weights = networks.truth[at], resamples(len(keys))
    pairs = networks.families[at][:, None] == networks.families[at][None]
    rows = []
    for name, plain in ((STARTS["ghn"], ghn), (STARTS["own"], own), (STARTS["both"], (own + ghn) / 2)):
        smooth = smoothed(plain[:, None], networks.features[at])[:, 0]
        cells = [cell(taus(score, truth, weights, p)) for p in (None, pairs) for score in (plain, smooth)]
        rows.append((f"{name} + 50 steps", cells))
    head = [f"{group}{what}" for group in ("all", WITHIN) for what in ("", ", smoothed")]
    return table([f"tau, {len(keys)} networks", *head], rows)
