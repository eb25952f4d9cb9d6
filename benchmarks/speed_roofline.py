"""What the decoder of GHN-3-XL must compute and move for a network, beside how long it takes.

    python benchmarks/speed_roofline.py             # counts, and the measured share of the machine's rate
    python benchmarks/speed_roofline.py --counts    # counts alone

*Operations* are those that any implementation of this decoder needs: for each tensor only the positions of
its kernel, in the last layer only its own channels up to the GHN's largest. *Bytes* are each weight that
takes part read once, and each decoded value written once. The time that they need at the machine's own
rates, measured by one large matrix product and one large copy in the same process, is the *bound*; the
measured time is that of encoding and decoding less that of encoding, in CPU seconds of one thread. Writes
``benchmarks/results/speed_roofline.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torchvision

import ghn_init
from ghn_init.ghn.grouping import decoded_widths
from ghn_init.ghn.plan import make_targets

RESULTS = Path(__file__).resolve().parent / "results" / "speed_roofline.jsonl"
NETS = ("resnet50", "swin_t", "vit_b_16", "convnext_base", "efficientnet_v2_l")
ITEM = 4  # bytes of a float32


def needed(graph: ghn_init.ArchGraph, config: ghn_init.GHNConfig) -> tuple[int, int]:
    """Floating-point operations, and bytes, that decoding needs."""
    hid, side = config.hid, config.max_shape[2]
    operations, written = 0, 0
    places, channels = set(), {}
    targets, _ = make_targets(graph, config, "predict")
    for target in targets:
        if target.kind == "class_weight":
            into = decoded_widths(target, config)[1]
            kernel, out, extra = 1, config.max_shape[0], 2 * config.max_shape[0] * config.num_classes * into
        elif target.is_vector or target.kind == "class_bias":
            operations += 2 * (hid * 2 * hid + 2 * hid * 2 * config.max_shape[0])
            written += min(target.numel, config.max_shape[0])
            continue
        else:
            (out, into), extra = decoded_widths(target, config), 0
            kernel = min(target.view[2], side) * min(target.view[3], side)
        places.add((min(target.view[2], side), min(target.view[3], side)))
        channels[out] = max(channels.get(out, 0), into)
        operations += 2 * kernel * (hid * 4 * hid + 4 * hid * 8 * hid + 8 * hid * out * into) + extra
        written += kernel * out * into
    widest = max(height * width for height, width in places)
    # Channels are taken from the first on: rows up to each ``out`` need the widest ``in`` of those above.
    rows, last = 0, 0
    for out in sorted(channels):
        rows += (out - last) * max(into for other, into in channels.items() if other >= out)
        last = out
    read = 4 * hid * hid * widest + 4 * hid * 8 * hid + 8 * hid * rows
    return operations, ITEM * (read + written)


def seconds(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def rates() -> tuple[float, float]:
    """Operations and bytes a second of one thread: a large product, and a large copy (read and written)."""
    a, b, product = torch.randn(1024, 3072), torch.randn(3072, 4096), torch.empty(1024, 4096)
    source, into = torch.zeros(1 << 26), torch.zeros(1 << 26)
    by_product = min(seconds(lambda: torch.mm(a, b, out=product)) for _ in range(4))
    by_copy = min(seconds(lambda: into.copy_(source)) for _ in range(3))
    return 2 * 1024 * 3072 * 4096 / by_product, 2 * source.nbytes / by_copy


def measure(graph: ghn_init.ArchGraph, ghn: ghn_init.GHN) -> dict[str, float]:
    """Seconds of decoding, and the machine's rates right then."""
    best, flops, copied = float("inf"), 0.0, 0.0
    for _ in range(2):
        now = rates()
        flops, copied = max(flops, now[0]), max(copied, now[1])
        encoding = seconds(lambda: ghn.embed(graph))
        best = min(best, seconds(lambda: _decode_all(graph, ghn)) - encoding)
    return {"decode s": best, "GFLOP/s": flops / 1e9, "GB/s": copied / 1e9}


def _decode_all(graph: ghn_init.ArchGraph, ghn: ghn_init.GHN) -> None:
    for _ in ghn.iter_fitted(graph, head="predict"):
        pass


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", action="store_true", help="measure nothing")
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = ghn_init.GHNConfig.ghn3("XL")
    ghn = None if options.counts else ghn_init.GHN(config).eval().requires_grad_(False)
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    for name in options.nets:
        model = torchvision.models.get_model(name).eval()
        graph = ghn_init.trace(model, convention=config.graph_convention)
        operations, moved = needed(graph, config)
        row: dict[str, Any] = {"net": name, "GFLOP": operations / 1e9, "GB": moved / 1e9}
        if ghn is not None:
            row |= measure(graph, ghn)
            row["bound s"] = max(row["GFLOP"] / row["GFLOP/s"], row["GB"] / row["GB/s"])
            row["share of the rate"] = row["GFLOP"] / row["decode s"] / row["GFLOP/s"]
            rows = [old for old in rows if old["net"] != name] + [row]
            RESULTS.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
        print({key: round(each, 3) if isinstance(each, float) else each for key, each in row.items()})


if __name__ == "__main__":
    main()
