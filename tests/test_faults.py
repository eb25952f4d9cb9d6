"""All or nothing wherever an interrupt arrives: at any line of the library, in the undo, on a full disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from line_faults import LineFaults
from states import IMAGE, ConvNet, Snapshot, TiedNet, tiny_ghn
from torch import nn

import ghn_init
from ghn_init import AssignError
from ghn_init.assign import Journal, write
from ghn_init.report import report_of

pytestmark = pytest.mark.usefixtures("quiet_log")

WRITE_ROOM = ("assign", "api", "isolation", "report", "accounting")
LAST_LINES = ("journal.py:", "api.py:")
"""Where an interrupt can arrive when everything is written: the journal closes, and apply returns."""


def modes() -> tuple:
    return (
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch._C._len_torch_function_stack(),
    )


def fault_at_every_line(
    rooms: tuple[str, ...], step: int, fault: Callable[[], BaseException], **options: bool
) -> int:
    """Raise at every ``step``-th line of some rooms; returns the number of faults."""
    ghn = tiny_ghn()
    complete = ConvNet()
    for _ in range(2):  # the first call imports modules
        ghn_init.apply(complete, ghn, example_inputs=IMAGE, **options)
    counted = LineFaults(rooms)
    with counted.active():
        ghn_init.apply(ConvNet(), ghn, example_inputs=IMAGE, **options)
    model = ConvNet()
    before = Snapshot(model)
    around = modes()
    for at in range(1, counted.count + 1, step):
        faults = LineFaults(rooms, at, fault)
        try:
            with faults.active():
                ghn_init.apply(model, ghn, example_inputs=IMAGE, **options)
        except type(fault()):
            pass
        else:
            # No memory for the one call that writes: it was finished without.
            assert faults.where[0].endswith("in _write_deferred"), faults.where
            assert isinstance(fault(), Exception)
            assert before.changed()
        assert modes() == around, faults.where
        if before.changed():
            # Arrived after the last step: then all of it is there, and the report too.
            assert faults.where[0].startswith(LAST_LINES), faults.where
            assert at > 0.95 * counted.count, faults.where
            assert report_of(model) is not None
            predicted = report_of(model).predicted
            assert all(torch.equal(model.get_parameter(n), complete.get_parameter(n)) for n in predicted)
            model = ConvNet()
            before, around = Snapshot(model), modes()
        else:
            assert report_of(model) is None, faults.where
    ghn_init.apply(model, ghn, example_inputs=IMAGE)
    assert torch.equal(model.conv.weight, complete.conv.weight)
    return len(range(1, counted.count + 1, step))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, SystemExit, MemoryError])
def test_a_fault_at_lines_of_the_write_room_leaves_the_model_as_it_was(fault):
    assert fault_at_every_line(WRITE_ROOM, 23, fault) > 50


def test_a_fault_at_lines_of_a_write_in_place_leaves_the_model_as_it_was():
    assert fault_at_every_line(WRITE_ROOM, 23, KeyboardInterrupt, statistics=True) > 50


@pytest.mark.slow
@pytest.mark.parametrize("statistics", [False, True])
def test_an_interrupt_at_every_line_of_the_write_room_leaves_the_model_as_it_was(statistics):
    assert fault_at_every_line(WRITE_ROOM, 1, KeyboardInterrupt, statistics=statistics) > 1500


def test_an_interrupt_at_every_line_of_the_undo_does_not_stop_it():
    model = TiedNet()
    values = {name: torch.full(p.shape, 0.5) for name, p in model.named_parameters()}
    before = Snapshot(model)

    def run(faults: LineFaults) -> None:
        with Journal(0) as journal, journal:
            write(model, [values], journal=journal)
            sys.settrace(faults._call)
            raise ZeroDivisionError

    counted = LineFaults(("assigning/journal",))
    try:
        with pytest.raises(ZeroDivisionError):
            run(counted)
    finally:
        sys.settrace(None)
    assert counted.count > 50
    for at in range(1, counted.count + 1):
        try:
            with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
                run(LineFaults(("assigning/journal",), at))
        finally:
            sys.settrace(None)
        assert before.changed() == [], at


def test_interrupts_that_are_really_delivered_leave_a_model_old_or_new():
    # What starts the tests may ignore interrupts (a shell's background jobs do), and Python inherits it.
    before_tests = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        deliver_interrupts()
    finally:
        signal.signal(signal.SIGINT, before_tests)


def deliver_interrupts():
    ghn, complete, model = tiny_ghn(), ConvNet(), ConvNet()
    ghn_init.apply(complete, ghn, example_inputs=IMAGE)
    before, done, interrupted = Snapshot(model), 0, 0
    for number in range(60):
        delay = 0.0005 * (number + 1)
        timer = threading.Thread(
            target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGINT)), daemon=True
        )
        try:
            timer.start()
            ghn_init.apply(model, ghn, example_inputs=IMAGE)
            done += 1
            timer.join()
            time.sleep(0.01)
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
        changed = before.changed()
        if changed:
            predicted = report_of(model).predicted
            assert all(torch.equal(model.get_parameter(n), complete.get_parameter(n)) for n in predicted)
            model = ConvNet()
            before = Snapshot(model)
    assert interrupted


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are those of POSIX")
def test_a_full_disk_leaves_the_model_as_it_was():
    script = """
        import resource, signal, tempfile, torch
        from states import Snapshot
        from ghn_init import AssignError
        from ghn_init.assign import Journal, write

        model = torch.nn.Sequential(*(torch.nn.Linear(40, 40) for _ in range(30)))
        before = Snapshot(model)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        values = {name: torch.ones(p.shape) for name, p in model.named_parameters()}
        try:
            with Journal(1000) as journal, journal:
                write(model, [values], journal=journal)
        except AssignError as error:
            assert "TMPDIR" in str(error), error
        else:
            raise SystemExit("written")
        assert before.changed() == []
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


class Refusing(nn.Parameter):
    """A parameter that does not let itself be written."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.copy_:
            raise RuntimeError("this parameter refuses the write")
        # As a plain tensor would, but a view of it is one of these too.
        return torch.Tensor.__torch_function__.__func__(cls, func, types, args, kwargs or {})


def test_a_parameter_that_refuses_the_write_leaves_the_model_as_it_was():
    model = ConvNet()
    model.head.weight = Refusing(model.head.weight.detach().clone())
    before = Snapshot(model)
    with pytest.raises(AssignError, match=r"head\.weight"):
        ghn_init.apply(model, tiny_ghn(), example_inputs=IMAGE)
    assert before.changed() == []
    assert report_of(model) is None
