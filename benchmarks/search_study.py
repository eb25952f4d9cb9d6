"""A search from beginning to end: what it finds, trained by the recipe, beside architectures drawn at random.

    python benchmarks/search_study.py           # continues where it stopped; about 2 CPU minutes

An evolution over small cells and mobile networks, within a budget of parameters and FLOPs; candidates take 50
steps from their own weights. The best two, by smoothed scores, and the first two of a sample of the same
space and budget are trained for 400 updates and tested on images that the search did not see. The rows go to
``results/search_study.json`` and the table into docs/ranking.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from agreement import table
from marked import write
from ranking_scores import TRUTH_IMAGES
from trained_nets import TRAIN_IMAGES

from ghn_init.ranking import Ranked, Ranking, sample_space, search, train_best
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.spaces import Architecture, Space

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
INTRODUCTION = """From beginning to end, with 20 evaluations of an evolution over cells and mobile networks of
up to 50,000 parameters and 10 MFLOPs, scored by 50 steps from their own weights, smoothed; the best two
trained for 400 updates beside the first two that were drawn at random within the same budget
(`python benchmarks/search_study.py`):"""
FAMILIES = ("cells", "mobile")
BUDGET = {"max_parameters": 50_000, "max_flops": 1e7}
EVALUATIONS, IMAGES, TOP, UPDATES = 20, 320, 2, 400


def parts() -> tuple[ImageData, ImageData]:
    """Test images that score candidates, and others that test what was trained."""
    test = fashion_mnist("test")

    def some(at: slice) -> ImageData:
        return ImageData(test.images[at], test.labels[at], test.classes, test.source)

    return some(slice(TRUTH_IMAGES, TRUTH_IMAGES + IMAGES)), some(slice(0, TRUTH_IMAGES))


def drawn_at_random() -> tuple[Ranking, dict[str, Architecture]]:
    """The first architectures of a sample within the budget, in the order drawn."""
    models = sample_space(Space(dict.fromkeys(FAMILIES, 1.0), seed=1), TOP, **BUDGET)
    entries = [Ranked(name, score=-float(place)) for place, name in enumerate(models)]
    return Ranking(entries, images=0, settings={}), models


def rows(
    ranking: Ranking, models: Mapping[str, Architecture], test: ImageData, how: str
) -> list[dict[str, Any]]:
    """Train the first of a ranking."""
    data = fashion_mnist("train").head(TRAIN_IMAGES)
    found = train_best(ranking, models, data, test, top=TOP, steps=UPDATES)
    return [
        {
            "how": how,
            "name": trained.name,
            "score": ranking[trained.name].score,
            "parameters": sum(parameter.numel() for parameter in trained.model.parameters()),
            "accuracy": round(trained.accuracy, 4),
        }
        for trained in found
    ]


def study() -> list[dict[str, Any]]:
    """Search, draw, train."""
    scoring, test = parts()
    ranking, models = search(
        *(FAMILIES, scoring, "bundled"),
        **{"evaluations": EVALUATIONS, "images": IMAGES, **BUDGET},
        **{"start": "own", "steps": 50, "smooth": True, "train_data": "fashion-mnist"},
        resume=RESULTS / "search_study.jsonl",
    )
    return [*rows(ranking, models, test, "search"), *rows(*drawn_at_random(), test, "at random")]


def section(found: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [
        (
            row["name"],
            [
                row["how"],
                "" if row["score"] < 0 or row["how"] == "at random" else f"{row['score']:.1%}",
                f"{row['parameters']:,}",
                f"{row['accuracy']:.1%}",
            ],
        )
        for row in found
    ]
    return "\n".join(table(["architecture", "found by", "score", "parameters", "accuracy, trained"], lines))


def main() -> None:
    """Run what is not done yet, and write the page."""
    torch.set_num_threads(1)
    done = RESULTS / "search_study.json"
    if not done.exists():
        done.write_text(json.dumps(study(), indent=1) + "\n", encoding="utf-8")
    new = INTRODUCTION + "\n\n" + section(json.loads(done.read_text(encoding="utf-8")))
    write(ROOT / "docs" / "ranking.md", {"search": new})
    print(new)


if __name__ == "__main__":
    main()
