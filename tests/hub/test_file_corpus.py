"""The corpus that fuzzing left, and a program for every pickle instruction, read under an audit hook."""

from __future__ import annotations

import pickletools
import subprocess
import sys
from pathlib import Path

import fuzz_files

REPLAY = """
import sys
sys.path.insert(0, {here!r})
import fuzz_files

with fuzz_files.prepared() as folder:
    outcomes = [fuzz_files.read_input(data, folder) for data in fuzz_files.seeds()]
    try:
        with fuzz_files.watched(folder):
            open(folder / "written", "w").close()
    except AssertionError as error:
        print(error)
print(len(outcomes), outcomes.count("refused"))
"""


def test_every_instruction_has_a_program() -> None:
    programs = fuzz_files.opcode_programs()
    assert set(programs) == {opcode.name for opcode in pickletools.opcodes}
    assert all(opcode.code.encode("latin1") in programs[opcode.name] for opcode in pickletools.opcodes)


def test_no_input_makes_the_reader_do_anything_but_read() -> None:
    """In a process of its own, as an audit hook stays for good."""
    here = str(Path(fuzz_files.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", REPLAY.format(here=here)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    noticed, counts = done.stdout.splitlines()[-2:]
    assert "written" in noticed, "the audit hook sees nothing"
    total, refused = map(int, counts.split())
    assert total > 5 * len(pickletools.opcodes)
    assert refused >= total - len(fuzz_files.corpus())
