"""Verbosity and progress bars: in this process, in new ones, by environment."""

from __future__ import annotations

import fcntl
import logging
import os
import pty
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path

import pytest

import ghn_init

ROOT = Path(__file__).resolve().parents[1]
APPLY = "import torch, ghn_init; ghn_init.apply(torch.nn.Linear(4, 10), 'bundled')"
INFO = "ghn_init: Linear: 2 of 2 parameters"


def stderr_of(script: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if "PROGRESS" not in k and "VERBOSITY" not in k}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={**clean, **environment}, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr


def terminal_of(script: str, **environment: str) -> str:
    """What a script writes to a stderr that is a terminal."""
    clean = {k: v for k, v in os.environ.items() if "PROGRESS" not in k and "VERBOSITY" not in k}
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(
            [sys.executable, "-c", script], stderr=other, stdout=out, env={**clean, **environment}, cwd=ROOT
        )
        os.close(other)
        written = b""
        while True:
            try:
                piece = os.read(main, 4096)
            except OSError:
                break
            if not piece:
                break
            written += piece
        assert process.wait(120) == 0, written.decode()
    os.close(main)
    return written.decode()


def test_it_is_quiet_unless_asked():
    assert stderr_of(APPLY) == ""


@pytest.mark.parametrize("level", ["info", "INFO", "debug"])
def test_the_environment_sets_the_verbosity(level):
    assert INFO in stderr_of(APPLY, GHN_INIT_VERBOSITY=level)


def test_an_unknown_verbosity_is_told():
    assert "GHN_INIT_VERBOSITY is ignored: there is no verbosity 'loud'" in stderr_of(
        APPLY, GHN_INIT_VERBOSITY="loud"
    )


def test_functions_as_in_transformers():
    assert INFO in stderr_of(f"import ghn_init; ghn_init.logging.set_verbosity_info(); {APPLY}")
    silent = "import torch, ghn_init; ghn_init.logging.set_verbosity_error();"
    fill = "ghn_init.apply(torch.nn.Linear(4, 3), 'bundled')"
    assert stderr_of(f"{silent} {fill}") == ""
    assert "classifier of 3 classes" in stderr_of(f"import torch, ghn_init; {fill}")


def test_logging_that_the_program_set_up_is_used_once():
    told = stderr_of(
        "import logging; logging.basicConfig(format='own %(message)s');"
        f"import ghn_init; ghn_init.logging.set_verbosity_info(); {APPLY}"
    )
    assert told.count("2 of 2 parameters") == 1
    assert told.startswith("own Linear")


def test_levels_are_those_of_logging():
    logger = logging.getLogger("ghn_init")
    before, handlers = logger.level, list(logger.handlers)
    try:
        for name, level in (("debug", 10), ("info", 20), ("warning", 30), ("error", 40)):
            getattr(ghn_init.logging, f"set_verbosity_{name}")()
            assert ghn_init.logging.get_verbosity() == logger.level == level
        with pytest.raises(ValueError, match="choose of debug, info"):
            ghn_init.logging.set_verbosity("loud")
    finally:
        logger.setLevel(before)
        logger.handlers[:] = handlers


BAR = "import ghn_init; {}\nwith ghn_init.logging.progress_bar(total=3, desc='busy') as bar: bar.update(3)"


@pytest.mark.parametrize(
    ("setting", "environment", "in_a_file", "on_a_terminal"),
    [
        ("", {}, False, True),
        ("", {"GHN_INIT_DISABLE_PROGRESS_BARS": "1"}, False, False),
        ("", {"HF_HUB_DISABLE_PROGRESS_BARS": "true"}, False, False),
        ("", {"RANK": "1"}, False, False),
        ("ghn_init.logging.disable_progress_bar()", {}, False, False),
        ("ghn_init.logging.enable_progress_bar()", {"GHN_INIT_DISABLE_PROGRESS_BARS": "1"}, True, True),
    ],
)
def test_progress_bars(setting, environment, in_a_file, on_a_terminal):
    assert ("busy" in stderr_of(BAR.format(setting), **environment)) == in_a_file
    assert ("busy" in terminal_of(BAR.format(setting), **environment)) == on_a_terminal


LONG = """
import torch, ghn_init
{}
ghn = ghn_init.GHN.from_pretrained(ghn_init.default.bundled_folder())
model = torch.nn.Sequential(*(torch.nn.Linear(300, 300) for _ in range(4)))
graph = ghn_init.trace(model, torch.zeros(1, 300))
import time
for tensors in ghn.iter_groups(graph):
    time.sleep({})
"""


@pytest.mark.parametrize(
    ("setting", "pause", "shown"),
    [("", 2.2, True), ("", 0, False), ("ghn_init.logging.disable_progress_bar()", 2.2, False)],
)
def test_a_prediction_shows_a_bar_where_it_takes_long(setting, pause, shown):
    script = "import ghn_init.default\n" + LONG.format(setting, pause)
    assert ("predicting weights" in terminal_of(script)) == shown


@pytest.mark.parametrize("off", [False, True])
def test_downloads_show_a_bar_unless_it_is_off(tmp_path, off):
    sys.path.insert(0, str(ROOT / "tests" / "hub"))
    try:
        from loopback import LoopbackHub
    finally:
        sys.path.pop(0)
    from states import tiny_ghn

    with LoopbackHub() as hub:
        environment = {**hub.environment(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
        environment.pop("HF_HUB_DISABLE_PROGRESS_BARS", None)
        tiny_ghn().save_pretrained(tmp_path / "ghn")
        push = (
            f"import ghn_init; ghn_init.GHN.from_pretrained({str(tmp_path / 'ghn')!r}).push_to_hub('me/tiny')"
        )
        subprocess.run([sys.executable, "-c", push], env={**os.environ, **environment}, check=True, cwd=ROOT)
        setting = "ghn_init.logging.disable_progress_bar();" if off else ""
        script = f"import ghn_init; {setting} ghn_init.GHN.from_pretrained('me/tiny')"
        assert ("%" in terminal_of(script, **environment)) == (not off)
