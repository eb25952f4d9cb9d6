"""The runner: any model's failure is a row, rows outlive the process, a sample has all families."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import suite_of_wrecks
from states import tiny_ghn

from ghn_init.coverage import suites
from ghn_init.coverage.case import Case
from ghn_init.coverage.processes import Settings
from ghn_init.coverage.rows import Results, is_available, succeeded
from ghn_init.coverage.run import Choice, run
from ghn_init.coverage.sampling import sample

ROOT = Path(__file__).resolve().parents[2]
FAST = Choice(only="")


@pytest.fixture
def ghn(tmp_path):
    tiny_ghn().save_pretrained(tmp_path / "ghn")
    return str(tmp_path / "ghn")


@pytest.fixture
def wrecks(monkeypatch):
    """The suite ``wrecks``, as if it were one of the package's."""
    monkeypatch.setattr(suites, "SUITES", (*suites.SUITES, "wrecks"))
    monkeypatch.setitem(sys.modules, "ghn_init.coverage.suites.wrecks", suite_of_wrecks)
    yield
    suites.cases.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and forked suites")
def test_whatever_a_model_does_is_a_row(tmp_path, ghn, wrecks):
    names = {"fine", "alone", "raises", "dies", "leaves", "eats", "spins", "missing"}
    roomy, short = (Settings(ghn, seconds=seconds, memory=1.0) for seconds in (60.0, 2.0))
    outcome = [
        run(["wrecks"], tmp_path, choice=Choice(name), settings=short if name == "spins" else roomy, jobs=2)
        for name in sorted(names)
    ]
    rows = Results(tmp_path, "wrecks").rows
    assert rows.keys() == names
    assert sum(each.measured for each in outcome) == len(names)
    assert {name for name, row in rows.items() if succeeded(row)} == {"fine", "alone"}
    assert rows["fine"]["predicted"] == [rows["fine"]["parameters"], rows["fine"]["elements"]] == [2, 20]
    assert rows["alone"]["group"] == "special"
    assert not is_available(rows["missing"])
    errors = {name: row["error"] for name, row in rows.items() if "error" in row}
    assert errors["raises"]["stage"] == "trace"
    assert "no such layer" in errors["raises"]["message"]
    assert "SIGTERM" in errors["dies"]["message"]
    assert "exit code 3" in errors["leaves"]["message"]
    assert "MemoryError" in errors["eats"]["message"]
    assert "2 CPU seconds" in errors["spins"]["message"]
    assert sorted(name for each in outcome for name in each.failed) == [f"wrecks:{n}" for n in sorted(errors)]


@pytest.mark.skipif(sys.platform != "linux", reason="forked suites")
def test_what_torch_export_does_costs_no_row(tmp_path, ghn, wrecks):
    choice = Choice("e", uncompared=True)
    for name in ("cannot be exported", "fine"):
        run(["wrecks"], tmp_path, choice=Choice(name), settings=Settings(ghn, export=True))
    rows = Results(tmp_path, "wrecks").rows
    assert all(map(succeeded, rows.values()))
    assert rows["fine"]["export"] == "agrees"
    assert rows["cannot be exported"]["export"] == "fails"
    assert "SIGTERM" in rows["cannot be exported"]["export_refusal"]
    todo = choice.todo(suites.cases("wrecks").values(), rows)
    assert not rows.keys() & {case.name for case in todo}


@pytest.mark.skipif(sys.platform != "linux", reason="forked suites")
def test_models_of_one_program_are_compared_once(tmp_path, ghn, wrecks):
    run(["wrecks"], tmp_path, choice=Choice("fine"), settings=Settings(ghn, export=True))
    run(["wrecks"], tmp_path, choice=Choice("alone"), settings=Settings(ghn, export=True))
    rows = Results(tmp_path, "wrecks").rows
    assert rows["fine"]["program"] == rows["alone"]["program"]
    assert "export" not in rows["alone"]
    again = Choice("alone", again=True, uncompared=True)
    run(["wrecks"], tmp_path, choice=again, settings=Settings(ghn, export=True))
    assert Results(tmp_path, "wrecks").rows["alone"]["export"] == "agrees"


@pytest.mark.skipif(sys.platform != "linux", reason="forked suites")
def test_a_comparison_stays_while_the_program_does(tmp_path, ghn, wrecks):
    run(["wrecks"], tmp_path, choice=Choice("fine"), settings=Settings(ghn, export=True))
    results = Results(tmp_path, "wrecks")
    run(["wrecks"], tmp_path, choice=Choice("fine", again=True), settings=Settings(ghn))
    assert Results(tmp_path, "wrecks").rows["fine"]["export"] == "agrees"
    results.add({**results.rows["fine"], "program": "another"})
    run(["wrecks"], tmp_path, choice=Choice("fine", again=True), settings=Settings(ghn))
    assert "export" not in Results(tmp_path, "wrecks").rows["fine"]


def test_only_what_has_no_row_is_measured_unless_asked(tmp_path, ghn):
    def measured(choice):
        return run(["torchvision"], tmp_path, choice=choice, settings=Settings(ghn)).measured

    assert measured(Choice(only="squeezenet")) == 2
    assert measured(Choice(only="squeezenet")) == 0
    assert measured(Choice(only="squeezenet1_1", again=True)) == 1
    results = Results(tmp_path, "torchvision")
    results.add({**results.rows["squeezenet1_0"], "problems": [1, "made up"]})
    assert measured(Choice(only="squeezenet", failed=True)) == 1
    rows = Results(tmp_path, "torchvision").rows
    assert list(rows) == ["squeezenet1_0", "squeezenet1_1"]
    assert all(map(succeeded, rows.values()))


def test_a_killed_run_continues(tmp_path, ghn):
    words = ["coverage", "torchvision", "--only", "shufflenet", "--results", str(tmp_path), "--ghn", ghn]
    command = [sys.executable, "-m", "ghn_init", *words, "--jobs", "1"]
    file = tmp_path / "torchvision.jsonl"
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    try:
        for _ in range(2400):
            if file.exists() and len(file.read_text().splitlines()) >= 2:
                break
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with file.open("a") as cut:
        cut.write('{"model":"shufflenet_v2_x0_5","fam')
    done = [line for line in file.read_text().splitlines() if line.endswith("}")]
    assert len(done) >= 2
    rest = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert rest.returncode == 0, rest.stderr
    total = sum("shufflenet" in n for n in suites.cases("torchvision"))
    left = total - len({json.loads(line)["model"] for line in done})
    assert rest.stdout == f"{left} models measured, 0 failed\n"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(rows) == len({row["model"] for row in rows}) == total


def test_a_sample_has_every_family_first():
    cases = [
        Case(f"{family}{i}", family, lambda: None)
        for family, n in (("a", 9), ("b", 2), ("c", 1))
        for i in range(n)
    ]
    drawn = {count: [case.name for case in sample(cases, count, seed=3)] for count in (0, 3, 5, 100)}
    assert {name[0] for name in drawn[3]} == {"a", "b", "c"}
    assert [name[0] for name in drawn[5]] == ["a", "a", "b", "b", "c"]
    assert set(drawn[3]) < set(drawn[5])
    assert drawn[100] == [case.name for case in cases]
    assert drawn[5] == [case.name for case in sample(cases, 5, seed=3)]
    assert drawn[0] == []


@pytest.mark.parametrize("suite", suites.SUITES)
def test_suites_are_lists_of_distinct_cases(suite):
    try:
        suites.load(suite)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    groups = {case.group for case in suites.cases(suite).values()}
    assert groups <= suites.targets(suite).keys()


@pytest.mark.parametrize(
    ("suite", "count"), [("timm", 16), ("torchvision", 10), ("transformers", 12), ("plain", 12)]
)
def test_a_sample_of_all_families_is_covered(tmp_path, suite, count):
    """Nothing fails that did not fail in the committed results."""
    try:
        suites.load(suite)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    outcome = run([suite], tmp_path, choice=Choice(sample=count), jobs=2)
    known = Results(ROOT / "benchmarks" / "results" / "coverage", suite).rows
    rows = Results(tmp_path, suite).rows
    new = {name: row.get("error") or row.get("problems") for name, row in rows.items() if is_available(row)}
    new = {n: why for n, why in new.items() if why and not (n in known and not succeeded(known[n]))}
    assert outcome.measured == min(count, len(suites.cases(suite)))
    assert new == {}
