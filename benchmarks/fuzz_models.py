"""Random models through the whole pipeline: which properties of the library do not hold?

    python benchmarks/fuzz_models.py --examples 10000 --seed 0
    python benchmarks/fuzz_models.py --only 1234 --seed 0          # one model, with its description

Each example is drawn from its number and the seed alone, so that a run can be cut short, taken up again
(``--log`` remembers what was done) and divided between processes (``--start``).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "fuzz")]

import torch  # noqa: E402
from fuzz_checks import Property, check_model  # noqa: E402
from fuzz_models import Description, Naming, describe  # noqa: E402
from states import tiny_ghn  # noqa: E402


def drawn(seed: int, index: int) -> tuple[Description, Naming]:
    """The model of one example and the names that it is built under again."""
    return describe(random.Random(f"{seed}/{index}")), Naming(index + 1)


def outcome_of(description: Description, naming: Naming, ghn) -> tuple[str, str]:
    """``applied`` or an error of the library; else ``finding``, and what was found."""
    try:
        return check_model(description, ghn, naming), ""
    except Property as finding:
        return "finding", str(finding)
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "finding", f"{type(error).__name__} in {Path(place.filename).name}:{place.lineno}: {error}"


def done_before(log: Path | None, seed: int) -> dict[int, tuple[str, str]]:
    """Outcomes that an earlier run wrote."""
    if log is None or not log.exists():
        return {}
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    return {row["index"]: (row["outcome"], row["what"]) for row in rows if row["seed"] == seed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--examples", type=int, default=300)
    parser.add_argument("--start", type=int, default=0, help="number of the first example")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="number of the one example to run")
    parser.add_argument("--log", type=Path, help="file of outcomes, one JSON object a line; taken up again")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("ghn_init").setLevel(logging.CRITICAL)
    torch.set_num_threads(1)
    ghn = tiny_ghn()
    if options.only is not None:
        description, naming = drawn(options.seed, options.only)
        print(description)
        print(check_model(description, ghn, naming))
        return
    known = done_before(options.log, options.seed)
    counts: Counter[str] = Counter()
    found: list[tuple[int, str]] = []
    parts = steps = 0
    start = time.process_time()
    for index in range(options.start, options.start + options.examples):
        if index in known:
            outcome, what = known[index]
        else:
            description, naming = drawn(options.seed, index)
            parts, steps = parts + len(description.parts), steps + len(description.steps)
            outcome, what = outcome_of(description, naming, ghn)
            if options.log is not None:
                row = {"seed": options.seed, "index": index, "outcome": outcome, "what": what}
                with options.log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
        counts[outcome] += 1
        if outcome == "finding":
            found.append((index, what))
            print(f"example {index}: {what}", flush=True)
        if (index + 1 - options.start) % 500 == 0:
            seconds = time.process_time() - start
            print(f"{index + 1 - options.start} examples, {seconds:.0f} s, {dict(counts)}", flush=True)
    print(f"{sum(counts.values())} models (seed {options.seed}): {dict(counts.most_common())}")
    print(f"{len(found)} findings; {parts} parts and {steps} steps drawn in this run")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
