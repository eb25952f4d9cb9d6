"""The command line, called as a user calls it, over real models and files."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys

import pytest
import torch
from hub.loopback import LoopbackHub
from safetensors.torch import load_model
from torch import nn

import ghn_init
from ghn_init.cli import main

NET = """
import torch
from torch import nn

def make(width=8, classes=10):
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes),
    )

def fails():
    raise KeyError("width")

class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)
    def forward(self, x):
        return self.fc(x).view(7, 7)

def needs_values():
    return nn.Linear(4, int(torch.ones(3).sum().item()))

number = int
"""


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working directory with a module of models and an untrained GHN; the log level is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "clinets.py").write_text(NET)
    torch.manual_seed(0)
    config = ghn_init.GHNConfig(hid=16, layers=1, heads=2, num_classes=10, max_shape=(16, 16, 3, 3))
    ghn_init.GHN(config).save_pretrained(tmp_path / "ghn")
    level = logging.getLogger("ghn_init").level
    yield tmp_path
    logging.getLogger("ghn_init").setLevel(level)
    sys.modules.pop("clinets", None)


def run(capsys, *words):
    """Exit code, stdout, stderr of a command."""
    code = main([str(word) for word in words])
    return code, *capsys.readouterr()


def error_of(capsys, *words):
    """The one line that a failing command writes."""
    code, out, err = run(capsys, *words)
    assert code == 1
    assert out == ""
    assert err.startswith("ghn-init: error: ")
    assert err.count("\n") == 1, err
    return err


NET_MODEL = ["clinets:make", "--input", "1,3,16,16"]


def test_apply_writes_the_model_and_its_report(work, capsys):
    code, out, err = run(capsys, "apply", *NET_MODEL, "--ghn", "ghn", "--out", "out")
    assert (code, err) == (0, "")
    assert "6 of 6 parameters" in out
    import clinets

    model = clinets.make()
    load_model(model, str(work / "out" / "model.safetensors"))
    expected = ghn_init.predict(clinets.make(), "ghn", example_inputs=(torch.zeros(1, 3, 16, 16),))
    for name, value in model.named_parameters():
        assert torch.equal(value, expected[name]), name
    report = json.loads((work / "out" / "report.json").read_text())
    assert set(report["predicted"]) == set(dict(model.named_parameters()))


def test_apply_does_not_replace_files_unasked(work, capsys):
    assert run(capsys, "apply", *NET_MODEL, "--ghn", "ghn", "--out", "out")[0] == 0
    before = (work / "out" / "model.safetensors").read_bytes()
    command = ["apply", *NET_MODEL, "--ghn", "ghn", "--out", "out", "--set", "width=4"]
    assert "use --overwrite" in error_of(capsys, *command)
    assert (work / "out" / "model.safetensors").read_bytes() == before
    assert run(capsys, *command, "--overwrite")[0] == 0
    assert (work / "out" / "model.safetensors").read_bytes() != before


def test_apply_keeps_or_predicts_the_head(work, capsys):
    small = ["apply", *NET_MODEL, "--set", "classes=3", "--ghn", "ghn"]
    assert run(capsys, *small, "--out", "auto")[0] == 0
    assert run(capsys, *small, "--out", "forced", "--head", "predict")[0] == 0
    kept, forced = (
        json.loads((work / name / "report.json").read_text())["kept"] for name in ("auto", "forced")
    )
    assert set(kept) == {"5.weight", "5.bias"}
    assert forced == {}


def test_apply_on_transformers_writes_a_folder_that_loads(work, capsys):
    from transformers import AutoModel

    sizes = [
        "hidden_size=16",
        "num_hidden_layers=1",
        "num_attention_heads=2",
        "intermediate_size=32",
        "vocab_size=50",
    ]
    options = [word for size in sizes for word in ("--set", size)]
    code, out, _ = run(capsys, "apply", "transformers:bert", *options, "--ghn", "ghn", "--out", "bert")
    assert code == 0, out
    model = AutoModel.from_pretrained(work / "bert", local_files_only=True)
    assert model.config.hidden_size == 16
    code, out, _ = run(capsys, "trace", "transformers:bert/config.json")
    assert code == 0
    assert "msa" in out


def test_trace_prints_a_table_json_and_a_picture(work, capsys):
    code, out, _ = run(capsys, "trace", *NET_MODEL, "--picture", "net.svg", "--out", "net.json")
    assert code == 0
    assert re.search(r"^  conv +2$", out, re.M)
    assert (work / "net.svg").read_text().startswith("<?xml")
    graph = ghn_init.ArchGraph.from_dict(json.loads((work / "net.json").read_text()))
    code, out, _ = run(capsys, "trace", *NET_MODEL, "--format", "json")
    assert ghn_init.ArchGraph.from_dict(json.loads(out)).to_dict() == graph.to_dict()
    code, out, _ = run(capsys, "trace", *NET_MODEL, "--format", "table")
    assert re.search(r"^3 +bn +8 +2 +1\.weight, 1\.bias$", out, re.M), out


@pytest.mark.parametrize("spec", ["timm:test_vit", "test_vit", "torchvision:squeezenet1_1"])
def test_trace_finds_models_by_name(work, capsys, spec):
    code, out, err = run(capsys, "trace", spec)
    assert code == 0, err
    assert "conv" in out


def test_parts_that_cannot_be_traced_are_left_out_or_kept(work, capsys):
    broken = ("clinets:Broken", "--input", "2,4")
    assert "view on shapes" in error_of(capsys, "trace", *broken)
    code, out, _ = run(capsys, "trace", *broken, "--keep-untraceable")
    assert (code, "conv" in out) == (0, True)
    code, out, _ = run(capsys, "trace", "clinets:make", "--input", "2,3,9,9", "--leaf", "1")
    assert (code, "1.weight: inside leaf module '1'" in out) == (0, True)
    code, _, _ = run(capsys, "apply", *broken, "--ghn", "ghn", "--out", "kept", "--keep-untraceable")
    report = json.loads((work / "kept" / "report.json").read_text())
    assert (code, set(report["predicted"])) == (0, {"fc.weight", "fc.bias"})


def test_trace_takes_no_memory_for_weights(work, capsys):
    """Seven billion parameters, and a factory that cannot run on the meta device."""
    sizes = ["--set", "num_hidden_layers=2", "--set", "hidden_size=65536", "--set", "num_attention_heads=64"]
    code, out, err = run(capsys, "trace", "transformers:bert", *sizes, "--set", "intermediate_size=100000")
    assert code == 0, err
    assert "msa" in out
    code, out, err = run(capsys, "trace", "clinets:needs_values", "--input", "1,4")
    assert (code, err) == (0, "")


def test_show_reads_reports_and_graphs(work, capsys):
    _, printed, _ = run(capsys, "apply", *NET_MODEL, "--ghn", "ghn", "--out", "out")
    code, shown, _ = run(capsys, "show", "out")
    assert code == 0
    assert shown.strip() == printed.split("\n\nwritten:")[0].strip()
    _, traced, _ = run(capsys, "trace", *NET_MODEL, "--out", "net.json", "--html", "net.html")
    assert traced.endswith("\nwritten: net.json, net.html\n")
    code, shown, _ = run(capsys, "show", "net.json", "--nodes", "--picture", "net.png")
    assert code == 0
    assert "0.weight" in shown
    assert (work / "net.png").read_bytes().startswith(b"\x89PNG")


def test_convert_writes_a_safe_folder(work, capsys):
    import parity

    code, out, _ = run(capsys, "convert", parity.PARITY / "checkpoints" / "ghn3-tiny.joblib.pt", "safe")
    assert code == 0
    assert "graphormer" in out
    assert {path.name for path in (work / "safe").iterdir()} == {
        "config.json",
        "model.safetensors",
        "README.md",
    }
    assert ghn_init.GHN.from_pretrained(work / "safe").config.graph_convention == "ghn3"


def test_convert_takes_the_arguments_of_a_file_that_holds_none(work, capsys):
    import joblib
    import parity
    import torch

    stored = torch.load(parity.PARITY / "checkpoints" / "ghn1-tiny.torch.pt", weights_only=True)
    joblib.dump(stored["state_dict"], work / "ghn1.pt")
    assert "--config" in error_of(capsys, "convert", "ghn1.pt", "safe")
    (work / "list.json").write_text("[]")
    assert "no JSON object" in error_of(capsys, "convert", "ghn1.pt", "safe", "--config", "list.json")
    assert not (work / "safe").exists()
    (work / "arguments.json").write_text(json.dumps(stored["config"]))
    code, out, _ = run(capsys, "convert", "ghn1.pt", "safe", "--config", "arguments.json")
    assert code == 0
    assert "gated_gnn" in out
    converted = ghn_init.GHN.from_pretrained(work / "safe")
    original = ghn_init.GHN.from_pretrained(parity.PARITY / "checkpoints" / "ghn1-tiny.torch.pt")
    assert converted.config == original.config
    assert all(
        torch.equal(value, original.get_parameter(name)) for name, value in converted.named_parameters()
    )


def test_push_publishes_and_apply_reads_the_revision(work):
    with LoopbackHub() as hub:
        environment = {**os.environ, **hub.environment(work / "home"), "HF_HUB_OFFLINE": "0"}

        def command(*words):
            return subprocess.run(
                [sys.executable, "-m", "ghn_init", *words],
                env=environment, capture_output=True, text=True, cwd=work, check=False,
            )  # fmt: skip

        pushed = command("push", "ghn", "me/my-ghn", "--private", "--message", "First GHN")
        assert pushed.returncode == 0, pushed.stderr
        commit = re.fullmatch(r"published: me/my-ghn at (\w{40})\n", pushed.stdout)[1]
        assert hub.repos["me/my-ghn"].private
        applied = command("apply", *NET_MODEL, "--ghn", "me/my-ghn", "--revision", commit, "--out", "out")
        assert applied.returncode == 0, applied.stderr
        assert json.loads((work / "out" / "report.json").read_text())["ghn"]["commit"] == commit
        again = command("push", "ghn", "me/my-ghn")
        assert again.returncode == 1
        assert again.stderr.startswith("ghn-init: error: ")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["trace", "resnet19"], "timm has no model 'resnet19'; did you mean"),
        (["trace", "torchvision:resnet19"], "torchvision has no model 'resnet19'"),
        (["trace", "transformers:bertt"], "transformers has no model type 'bertt'; did you mean"),
        (["trace", "transformers:no/config.json"], "the configuration no/config.json does not exist"),
        (["trace", "clinets:fails"], "cannot build clinets:fails: KeyError: 'width'"),
        (["trace", "clinets:missing"], "cannot build clinets:missing: AttributeError"),
        (["trace", "nosuchmodule:net"], "cannot build nosuchmodule:net: ModuleNotFoundError"),
        (["trace", "clinets:number"], "clinets:number gave a int, not a torch.nn.Module"),
        (["trace", "clinets:make", "--input", "3,x"], "--input 3,x: expected sizes"),
        (["trace", "clinets:make", "--set", "width"], "--set width: expected NAME=VALUE"),
        (["trace", "clinets:Broken", "--input", "1,4"], "Broken"),
        (["apply", "clinets:make", "--revision", "main"], "--filename and --revision belong to a GHN"),
        (["apply", *NET_MODEL, "--ghn", "./nowhere"], "./nowhere does not exist"),
        (["convert", "./nowhere.pt", "out"], "./nowhere.pt does not exist"),
        (["show", "nowhere.json"], "nowhere.json does not exist"),
        (["show", "clinets.py"], "clinets.py is not a JSON file"),
        (["show", "ghn/config.json"], "is neither a report nor a graph"),
        (["trace", *NET_MODEL, "--picture", "net.nonsense"], "cannot write the picture"),
    ],
)
def test_errors_are_one_line(work, capsys, command, message):
    line = error_of(capsys, *command) if command[-1] != "net.nonsense" else run(capsys, *command)[2]
    assert message in line


def test_a_damaged_report_is_told(work, capsys):
    run(capsys, "trace", *NET_MODEL, "--out", "net.json")
    data = json.loads((work / "net.json").read_text())
    del data["nodes"][1]["primitive"]
    (work / "net.json").write_text(json.dumps(data))
    assert "net.json is damaged: KeyError" in error_of(capsys, "show", "net.json")


def test_twice_verbose_shows_the_traceback(work):
    with pytest.raises(Exception, match="resnet19"):
        main(["trace", "resnet19", "-vv"])


def test_demo_measures_both_initialisations(work, capsys):
    few = ["--steps", "2", "--train-images", "128", "--test-images", "50", "--data", "bundled"]
    code, out, _ = run(capsys, "demo", "resnet10t", "--ghn", "ghn", *few, "--out", "demo")
    assert code == 0
    assert len(re.findall(r"^(?:GHN prediction|timm's own init)(?: +\d+\.\d%){2}$", out, re.M)) == 2
    assert (work / "demo" / "curves.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run(capsys, "demo", "--steps", "0")
    assert (code, err) == (1, "ghn-init: error: --steps must be at least 1\n")


def test_train_and_evaluate(work, capsys):
    code, _, err = run(capsys, "train", "quick", "run", "--steps", "2", "--data", "bundled")
    assert code == 0, err
    code, out, err = run(capsys, "evaluate", "run/ghn", "--images", "64", "--nets", "1", "--data", "bundled")
    assert code == 0, err
    assert re.search(r"^\| cells \| 1 \| \d+\.\d ", out, re.M), out


COMMANDS = (
    "apply",
    "trace",
    "show",
    "convert",
    "push",
    "demo",
    "train",
    "evaluate",
    "card",
    "rank",
    "coverage",
)


@pytest.mark.parametrize("command", [[], *([each] for each in COMMANDS)])
def test_help_and_wrong_usage(capsys, command):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    assert "usage: ghn-init" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main([*command, "--no-such-option"])
    assert left.value.code == 2


def test_as_a_module_in_a_process_of_its_own(work):
    command = [sys.executable, "-m", "ghn_init"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"ghn-init {ghn_init.__version__}"
    done = subprocess.run(
        [*command, "trace", "clinets:fails"], capture_output=True, text=True, check=False, cwd=work
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_options_are_literals_or_text():
    from ghn_init.cli.models import build, parse_options

    assert parse_options(["a=1", "b=0.5", "c=relu", "d=[1, 2]", "e=None", "f=x=y"]) == {
        "a": 1,
        "b": 0.5,
        "c": "relu",
        "d": [1, 2],
        "e": None,
        "f": "x=y",
    }
    model = build("torch.nn:Linear", {"in_features": 3, "out_features": 2})
    assert isinstance(model, nn.Linear)
