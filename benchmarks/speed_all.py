"""Run every benchmark of speed one after the other, then write the page from their results.

    python benchmarks/speed_all.py --files FOLDER                        # ours alone
    python benchmarks/speed_all.py --files FOLDER --anchor GHN3 PPUDA    # beside checkouts of the originals
    python benchmarks/speed_all.py --files FOLDER --list                 # only what would run

FOLDER holds the weights (7 GB) that the benchmark of loading makes. All of it takes about half an hour on one
free core, 10 GB of memory beside the originals, and a second core for the rows of two threads and processes.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def commands(files: Path, anchor: list[str]) -> list[list[str]]:
    """Script and arguments of each benchmark, in order."""
    beside = ["--anchor", *anchor] if anchor else []
    return [
        ["speed.py", *beside],
        ["speed.py", "--size", "XL", "--repeats", "2", *beside],
        ["speed.py", "--threads", "2", *beside],
        ["speed.py", "--threads", "2", "--size", "XL", "--repeats", "2", *beside],
        ["speed_roofline.py"],
        ["speed_memory.py", "--files", str(files), *beside],
        ["speed_overhead.py"],
        ["speed_scale.py"],
        ["speed_imports.py"],
        ["speed_training.py", *(["--anchor", anchor[1]] if anchor else [])],
        ["speed_training.py", "--threads", "2"],
        ["speed_training.py", "--processes", "2"],
        ["speed_page.py"],
    ]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path, required=True, help="folder for the weights")
    parser.add_argument("--anchor", nargs=2, metavar=("GHN3", "PPUDA"), default=[])
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args()
    for script, *arguments in commands(options.files, options.anchor):
        print(shlex.join(["python", f"benchmarks/{script}", *arguments]), flush=True)
        if not options.list:
            command = [sys.executable, "-W", "ignore", str(HERE / script), *arguments]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
