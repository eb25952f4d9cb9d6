"""The processes of a coverage run end with the one that started them, however that one ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from states import tiny_ghn

HERE = Path(__file__).resolve().parent
SLEEPING = """
import sys
import suite_of_wrecks
from ghn_init.coverage import suites
from ghn_init.coverage.processes import Settings, run_all

if __name__ == "__main__":
    suites.SUITES += ("wrecks",)
    sys.modules["ghn_init.coverage.suites.wrecks"] = suite_of_wrecks
    list(run_all([("wrecks", "sleeps"), ("wrecks", "sleeps")], Settings(sys.argv[1]), jobs=2))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="suites are forked")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_a_run_that_is_ended(tmp_path: Path, how: signal.Signals) -> None:
    tiny_ghn().save_pretrained(tmp_path / "ghn")
    (tmp_path / "sleeping.py").write_text(SLEEPING)
    told, telling = os.pipe()
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleeping.py"), str(tmp_path / "ghn")],
        env=os.environ | {"PYTHONPATH": str(HERE), "GHN_INIT_TEST_PIPE": str(telling)},
        pass_fds=[telling],
    )
    os.close(telling)
    try:
        assert os.read(told, 1) + os.read(told, 1) == b".."  # both sleep
    finally:
        process.send_signal(how)
        process.wait()
    assert os.read(told, 1) == b""  # when no process has the pipe any more
    os.close(told)
