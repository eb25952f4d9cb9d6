"""Write docs/speed.md and its plots from the results of the ``speed*.py`` benchmarks.

python benchmarks/speed_page.py
"""

from __future__ import annotations

import json
import statistics
import textwrap
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
IMAGES = ROOT / "docs" / "images"
STAGES = ("trace", "lower", "distances", "encode", "decode", "write")
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """Rows of one file of results; none where it was not run."""
    path = RESULTS / name
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def table(head: list[str], body: list[list[str]]) -> list[str]:
    """A Markdown table, its first column text, the others numbers."""
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return [*lines, *(f"| {' | '.join(cells)} |" for cells in body), ""]


def ratio(row: Row) -> str:
    """How many times the original's seconds are ours."""
    return f"**{row['original'] / row['total']:.1f}×**" if row.get("original") else ""


def prediction() -> list[str]:
    """One prediction, stage by stage."""
    found = sorted(rows("speed.jsonl"), key=lambda row: (row["ghn"] == "XL", row["threads"]))
    head = ["GHN, net", "threads", "repeats", "CPU s", "wall s", "original CPU s", "original wall s", "ratio"]
    body = [
        [
            f"{row['ghn']}, {row['net']}",
            str(row["threads"]),
            str(row.get("repeats", "")),
            f"{row['total']:.2f}",
            f"{row['wall']:.2f}" if "wall" in row else "",
            f"{row['original']:.2f}" if "original" in row else "",
            f"{row['original_wall']:.2f}" if "original_wall" in row else "",
            ratio(row),
            *(f"{row[stage]:.3f}" for stage in STAGES),
        ]
        for row in found
    ]
    return [
        "## One prediction",
        "",
        "One `ghn_init.apply`, tracing included, with random weights in the official shapes of GHN-3,",
        "beside the",
        "original code in the same run: medians. The stages are CPU seconds; *decode* includes",
        "normalisation,",
        "*write* tiling and all that undoes a failure. The ratio is of CPU seconds; wall-clock seconds",
        "are those",
        "of a machine that other programs used too.",
        "",
        "`python benchmarks/speed.py --anchor GHN3 PPUDA`, also with `--size XL` or `--threads 2`; the",
        "two are",
        "checkouts of `SamsungSAILMontreal/ghn3` and `facebookresearch/ppuda`.",
        "",
        "![Seconds of one prediction by stage, beside the original](images/speed.png)",
        "",
        *table([*head, *STAGES], body),
    ]


def plot_prediction() -> None:
    """Stacked stages beside the original's total, for each size."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for axis, size in zip(axes, ("T", "XL"), strict=True):
        found = [row for row in rows("speed.jsonl") if row["ghn"] == size and row["threads"] == 1]
        found.sort(key=lambda row: row["original"])
        left = [0.0] * len(found)
        places = range(len(found))
        for stage in STAGES:
            values = [row[stage] for row in found]
            axis.barh([place + 0.2 for place in places], values, 0.38, left, label=stage)
            left = [a + b for a, b in zip(left, values, strict=True)]
        theirs = [row["original"] for row in found]
        axis.barh([place - 0.2 for place in places], theirs, 0.38, color="0.75", label="original")
        for place, row in zip(places, found, strict=True):
            axis.annotate(
                f" {row['original'] / row['total']:.1f}×", (row["original"], place - 0.2), va="center"
            )
        axis.set_yticks(list(places), [row["net"] for row in found])
        axis.set_xlim(0, 1.15 * max(theirs, default=1))
        axis.set_xlabel("CPU seconds of one thread")
        axis.set_title(f"GHN-3-{size}")
    axes[0].legend(fontsize=8)
    _save(figure, "speed.png")


def roofline() -> list[str]:
    """What the decoder needs, and how near it comes."""
    body = [
        [
            row["net"],
            f"{row['GFLOP']:.0f}",
            f"{row['GB']:.2f}",
            f"{row['GFLOP/s']:.0f}",
            f"{row['GB/s']:.1f}",
            f"{row['bound s']:.2f}",
            f"{row['decode s']:.2f}",
            f"**{100 * row['share of the rate']:.0f} %**",
        ]
        for row in rows("speed_roofline.jsonl")
    ]
    head = ["net", "GFLOP", "GB", "GFLOP/s", "GB/s", "bound s", "decode s", "share of the rate"]
    return [
        "## How near to the machine's limit",
        "",
        "What any implementation of the decoder of GHN-3-XL needs: for each tensor the positions of its",
        "kernel and",
        "its own channels only, every weight that takes part read once, every decoded value written",
        "once. The",
        "*bound* is the time of that at the rates of a large matrix product and a large copy, measured",
        "in the same",
        "process; the *share* is of the product's rate. `python benchmarks/speed_roofline.py`.",
        "",
        *table(head, body),
    ]


def memory() -> list[str]:
    """Loading and applying the largest GHN."""
    found = {row["case"]: row for row in rows("speed_memory.jsonl")}
    names = {
        "load f32": "load GHN-3-XL",
        "load bf16": "load it in bf16",
        "load original": "load it by the original code",
        "apply f32": "load it and apply it to ViT-L/16 (304 M parameters)",
        "apply bf16": "the same in bf16",
    }
    body = [
        [
            text,
            f"{found[case]['wall s']:.2f}",
            f"{found[case]['CPU s']:.2f}",
            f"{found[case].get('weights MB', found[case].get('model MB', 0)):,}",
            f"{found[case]['peak MB'] - found[case]['before MB']:,}",
            f"{found[case]['peak MB']:,}",
        ]
        for case, text in names.items()
        if case in found
    ]
    lines = [
        "## Loading, and memory",
        "",
        "Random weights, files in the system's cache, one thread, each case in a process of its own.",
        "*Peak* is the",
        "most memory of the process, mapped files included; *added* is what it has beyond what it held",
        "before",
        "(for the last rows that includes the model). MB are 2^20 bytes. Applying runs under a limit of",
        "6 GB.",
        "`python benchmarks/speed_memory.py --files FOLDER --anchor GHN3 PPUDA`.",
        "",
        *table(["", "wall s", "CPU s", "weights or model MB", "added MB", "peak MB"], body),
    ]
    if (row := found.get("difference bf16")) is not None:
        lines += [
            f"Predictions of bf16 weights for a ResNet-50 differ from those of float32 by "
            f"{row['relative error, all values']:.2%} of the norm of all values; by "
            f"{row['median of tensors']:.2%} in the median of tensors and",
            f"{row['largest of tensors']:.2%} at most.",
            "",
        ]
    return lines


def overhead() -> list[str]:
    """Against the models' own default initialisation."""
    found = [row for row in rows("speed_overhead.jsonl") if "apply" in row]
    if not found:
        return []
    by_init, by_build = ([row[key] for row in found] for key in ("to_init", "to_build"))
    body = [
        [
            row["model"],
            f"{row['parameters'] / 1e6:.0f}",
            f"{row['build']:.2f}",
            f"{row['init']:.2f}",
            f"{row['apply']:.2f}",
            f"{row['to_init']:.1f}",
        ]
        for row in sorted(found, key=lambda row: row["to_init"])
    ]
    return [
        "## Beside the default initialisation",
        "",
        f"The bundled GHN on {len(found)} models of timm, each of another file of it: the median of its",
        "cost, tracing",
        f"included, is **{statistics.median(by_init):.1f} times** that of the model's own default",
        "initialisation alone",
        f"and {statistics.median(by_build):.1f} times that of building the model; at most 3 times for",
        f"{sum(value <= 3 for value in by_init)} and {sum(value <= 3 for value in by_build)} of them.",
        "CPU seconds of one",
        "thread. `python benchmarks/speed_overhead.py`.",
        "",
        '!!! note "The models"',
        "",
        *(
            f"    {line}"
            for line in table(["model", "M parameters", "build s", "init s", "apply s", "ratio"], body)
        ),
    ]


def scale() -> list[str]:
    """Against nodes and parameters."""
    found = rows("speed_scale.jsonl")
    graphs = [row for row in found if row["kind"] == "nodes"]
    models = [row for row in found if row["kind"] == "parameters"]
    written = [row for row in found if row["kind"] == "materialised"]
    return [
        "## Cost against size",
        "",
        "Graphs of a chain with shortcuts through the GHN-3-T encoder, and language models of the Llama",
        "kind on the",
        "meta device, predicted group by group, each group spelled out and dropped. CPU seconds of one",
        "thread and",
        "what the stage adds to the peak of memory. The distances take one byte for each pair of nodes,",
        "twice; the",
        "bias of attention is held up to 256 MB, and beyond that 32 MB of it at a time. `python",
        "benchmarks/speed_scale.py`.",
        "",
        "![Seconds and memory against nodes and parameters](images/speed_scale.png)",
        "",
        *table(
            ["nodes", "distances s", "distances MB", "encode s", "encode MB"],
            [
                [
                    f"{row['size']:,}",
                    *(f"{row[key]:,}" for key in ("distances s", "distances MB", "encode s", "encode MB")),
                ]
                for row in graphs
            ],
        ),
        *table(
            ["parameters", "nodes", "trace s", "trace MB", "predict s", "predict MB"],
            [
                [
                    f"{row['parameters']:,}",
                    f"{row['nodes']:,}",
                    *(f"{row[key]:,}" for key in ("trace s", "trace MB", "predict s", "predict MB")),
                ]
                for row in models
            ],
        ),
        "The same models given memory on the CPU and written by `ghn_init.apply(..., materialize=True)`,",
        "tracing included:",
        "",
        *table(
            ["parameters", "model MB", "apply s", "added MB", "of which not the model"],
            [
                [
                    f"{row['parameters']:,}",
                    f"{row['model MB']:,}",
                    f"{row['apply s']:,}",
                    f"{row['apply MB']:,}",
                    f"{row['apply MB'] - row['model MB']:,}",
                ]
                for row in written
            ],
        ),
    ]


def plot_scale() -> None:
    """Log-log curves of seconds and memory."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4))
    found = rows("speed_scale.jsonl")
    for axis, kind, size, stages in (
        (axes[0], "nodes", "size", ("distances", "encode")),
        (axes[1], "parameters", "parameters", ("trace", "predict")),
    ):
        mine = [row for row in found if row["kind"] == kind]
        memory_axis = axis.twinx()
        for stage, colour in zip(stages, ("tab:blue", "tab:orange"), strict=True):
            sizes = [row[size] for row in mine]
            axis.loglog(
                sizes, [row[f"{stage} s"] for row in mine], "o-", color=colour, label=f"{stage}, seconds"
            )
            memory_axis.loglog(
                sizes, [max(1, row[f"{stage} MB"]) for row in mine], "s:", color=colour, label=f"{stage}, MB"
            )
        axis.set_xlabel(kind)
        axis.set_ylabel("CPU seconds of one thread")
        memory_axis.set_ylabel("added peak memory, MB")
        lines = [*axis.get_lines(), *memory_axis.get_lines()]
        axis.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, loc="upper left")
    _save(figure, "speed_scale.png")


def imports() -> list[str]:
    """Import and idle hooks."""
    path = RESULTS / "speed_imports.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    first = found.pop("import")
    return [
        "## Import and idle hooks",
        "",
        f"`import ghn_init` adds {first['added ms']:.0f} ms of CPU time to the",
        f"{first['interpreter ms']:.0f} ms of the bare",
        "interpreter and imports no torch. Constructors with the hooks in place and `ghn_init` not",
        "passed, beside",
        "the same without hooks, in turn: `python benchmarks/speed_imports.py`.",
        "",
        *table(
            ["", "with hooks ms", "without ms", "median difference ms", "standard error ms"],
            [[f"`{name}`", *(str(value) for value in row.values())] for name, row in found.items()],
        ),
    ]


def training() -> list[str]:
    """Updates a second."""
    path = RESULTS / "speed_training.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    faster = (
        f", **{found['ours']['steps/s'] / found['original']['steps/s']:.1f} times** as many"
        if "original" in found
        else ""
    )
    return [
        "## Training",
        "",
        "Updates of a GHN-2 at the original's settings (hid 32, one network and 64 images an update),",
        "from the same",
        f"weights, on the same networks and images, in turn with the original training step{faster}. CPU",
        "seconds of one thread. `python benchmarks/speed_training.py --anchor PPUDA`. Of several processes,",
        "each has one network of an update: the networks a second of so many free cores, from the CPU",
        "seconds of each process, its part in summing gradients included (`--processes 2`), and what the",
        "clock says, which counts waiting and that two cores share their caches. Of several",
        "threads it is seconds of the clock on the wall (`--threads 2`), at the load of the machine that",
        "the last column names.",
        "",
        *table(
            ["", "updates", "networks a second", "by the clock", "median ms", "mean loss", "load"],
            [
                [
                    name,
                    *(str(row.get(key, "")) for key in ("updates", "steps/s", "wall steps/s", "median ms")),
                    *(str(row.get(key, "")) for key in ("loss", "load")),
                ]
                for name, row in found.items()
            ],
        ),
    ]


def wrapped(lines: list[str]) -> str:
    """The lines as text, paragraphs filled anew."""
    paragraphs = "\n".join(lines).strip().split("\n\n")
    markup = ("|", "#", "!", "<", "?", " ")
    return "\n\n".join(
        part if part.startswith(markup) else textwrap.fill(part, 110, break_on_hyphens=False)
        for part in paragraphs
    )


def _save(figure: Any, name: str) -> None:
    figure.tight_layout()
    figure.savefig(IMAGES / name, dpi=110, metadata={"Software": None})
    plt.close(figure)


def main() -> None:
    """Page and plots."""
    plot_prediction()
    plot_scale()
    lines = [
        "# Speed",
        "",
        "<!-- Written by benchmarks/speed_page.py from benchmarks/results/speed*. Do not edit. -->",
        "",
        "Only ratios carry over to other machines. `python benchmarks/speed_all.py --files FOLDER` runs",
        "everything and writes this page; `python benchmarks/speed_page.py` writes it from the results",
        "of the benchmarks that each section names.",
        "",
    ]
    for section in (prediction, roofline, memory, overhead, scale, imports, training):
        lines += section()
    (ROOT / "docs" / "speed.md").write_text(wrapped(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
