"""``python -m ghn_init.launch``: real scripts, run as Python runs them, with a GHN on."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from states import tiny_ghn

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("launch")
    tiny_ghn().save_pretrained(where / "ghn")
    return where


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text))
    return folder / name


def run(folder: Path, *words: object, before: tuple[str, ...] = (), **environment: str):
    return subprocess.run(
        [sys.executable, *before, *map(str, words)],
        capture_output=True, text=True, cwd=folder, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **environment},
    )  # fmt: skip


def launch(folder: Path, *words: object, **environment: str):
    return run(folder, "-m", "ghn_init.launch", "--ghn", folder / "ghn", *words, **environment)


SURROUNDINGS = """
    import os, sys, pickle, inspect
    class Mine: pass
    def public(module):
        return sorted(name for name in vars(module) if name.startswith("__"))
    print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__ and __spec__.name)
    print(sys.modules["__main__"].Mine is Mine, pickle.loads(pickle.dumps(Mine())).__class__ is Mine)
    print(inspect.getsource(Mine).strip(), __builtins__.__name__, os.getcwd(), __doc__)
    import beside
    print(beside.__file__)
"""


@pytest.mark.parametrize("form", ["script", "path", "module", "package"])
def test_a_script_sees_what_it_would_see_without(folder, form):
    write(folder, "sub/beside.py", "")
    write(folder, "beside.py", "")
    write(folder, "sub/see.py", SURROUNDINGS)
    write(folder, "see.py", SURROUNDINGS)
    write(folder, "parts/__init__.py", "")
    write(folder, "parts/__main__.py", SURROUNDINGS)
    words = {
        "script": ["see.py"],
        "path": [folder / "sub" / "see.py"],
        "module": ["-m", "see"],
        "package": ["-m", "parts"],
    }[form]
    options = ["--lr", "1", "-m", "x", "--ghn", "y", "--help"]
    plain, launched = run(folder, *words, *options), launch(folder, *words, *options)
    assert plain.returncode == launched.returncode == 0, launched.stderr
    assert launched.stdout == plain.stdout


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('a reason')", 1),
        ("raise SystemExit", 0),
        (
            "def f():\n    raise KeyError\ntry:\n    f()\nexcept KeyError as e:\n    raise ValueError from e",
            1,
        ),
        ("import sys\nsys.excepthook = lambda *a: print('mine', a[2].tb_frame.f_code.co_name)\n1 / 0", 1),
        ("def (", 1),
        ("import nothing_of_this_name", 1),
        ("import atexit\natexit.register(print, 'at the end')\nraise RuntimeError('x')", 1),
        (
            "import threading, time\nthreading.Timer(0.2, print, ['late']).start()",
            0,
        ),
    ],
)
def test_it_ends_as_it_would_without(folder, text, code):
    write(folder, "ends.py", text)
    plain, launched = run(folder, "ends.py"), launch(folder, "--quiet", "ends.py")
    assert plain.returncode == launched.returncode == code
    assert launched.stdout == plain.stdout
    lines = [line for line in launched.stderr.splitlines() if not line.startswith("nothing was initialised")]
    assert lines == plain.stderr.splitlines()


def test_an_interrupt_ends_it_as_it_ends_python(folder):
    write(folder, "waits.py", "import time\nprint('ready', flush=True)\ntime.sleep(60)")
    ends = []
    for words in ([], ["-m", "ghn_init.launch", "--ghn", str(folder / "ghn")]):
        command = [sys.executable, *words, "waits.py"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            ends.append((process.stderr.read(), process.wait(60)))
    assert ends[0] == ends[1]


def test_what_is_not_there_and_wrong_usage(folder):
    plain, launched = run(folder, "nowhere.py"), launch(folder, "nowhere.py")
    assert (launched.returncode, launched.stderr) == (plain.returncode, plain.stderr)
    assert launch(folder).returncode == 2
    assert "usage: python -m ghn_init.launch" in launch(folder, "--help").stdout
    assert launch(folder, "-m", "nothing_of_this_name").returncode == 1


TIMM = """
    import argparse, timm, torch
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="resnet10t")
    args = parser.parse_args()
    torch.manual_seed(0)
    def train():
        model = timm.create_model(args.model, num_classes=10)
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
        print(float(model.conv1[0].weight.sum()) if hasattr(model, "conv1") else 0.0)
        loss = torch.nn.functional.cross_entropy(model(torch.randn(4, 3, 32, 32)), torch.arange(4))
        loss.backward()
        optimiser.step()
    if __name__ == "__main__":
        train()
"""


def test_an_unchanged_timm_script_gets_predicted_weights(folder):
    write(folder, "train.py", TIMM)
    plain, launched = run(folder, "train.py"), launch(folder, "train.py", "--model", "resnet10t")
    again = launch(folder, "--quiet", "train.py")
    assert launched.returncode == 0, launched.stderr
    assert launched.stdout != plain.stdout
    assert launched.stdout == again.stdout
    assert re.search(r"ghn_init: ResNet: 44 of 44 parameters .* predicted by", launched.stderr), (
        launched.stderr
    )
    assert "ghn_init" not in again.stderr


def test_an_unchanged_transformers_script_gets_predicted_weights(folder):
    pytest.importorskip("transformers")
    write(
        folder,
        "trainer.py",
        """
        import torch
        from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
        config = BertConfig(vocab_size=50, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
                            intermediate_size=64, num_labels=10)
        model = BertForSequenceClassification(config)
        data = [{"input_ids": torch.arange(8), "labels": i % 10} for i in range(8)]
        arguments = TrainingArguments("out", max_steps=2, report_to=[], use_cpu=True, save_strategy="no")
        print(Trainer(model, arguments, train_dataset=data).train().global_step)
        """,
    )
    launched = launch(folder, "trainer.py")
    assert launched.returncode == 0, launched.stderr
    assert "2" in launched.stdout.split()
    assert "ghn_init: BertForSequenceClassification: " in launched.stderr


def test_models_of_threads_and_workers(folder):
    write(
        folder,
        "threads.py",
        """
        import threading, timm, torch
        from torch.utils.data import DataLoader, Dataset
        class Images(Dataset):
            def __len__(self): return 4
            def __getitem__(self, i): return torch.zeros(3)
        if __name__ == "__main__":
            thread = threading.Thread(target=lambda: timm.create_model("resnet10t", num_classes=10))
            thread.start()
            thread.join()
            print(sum(1 for _ in DataLoader(Images(), num_workers=1, multiprocessing_context="spawn")))
        """,
    )
    launched = launch(folder, "threads.py")
    assert (launched.returncode, launched.stdout) == (0, "4\n"), launched.stderr
    assert launched.stderr.count("parameters") == 1


def test_a_script_that_builds_nothing_is_told(folder):
    write(folder, "nothing.py", "print(1)")
    assert "nothing was initialised" in launch(folder, "nothing.py").stderr


def test_a_script_whose_checkpoint_gives_everything_is_told_so(folder):
    write(
        folder,
        "complete.py",
        """
        from transformers import BertConfig, BertForSequenceClassification
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
        BertForSequenceClassification(BertConfig(**sizes), ghn_init=False).save_pretrained("bert")
        BertForSequenceClassification.from_pretrained("bert")
        """,
    )
    told = launch(folder, "complete.py").stderr
    assert "the checkpoint gives every parameter of BertForSequenceClassification" in told
    assert "nothing was initialised" not in told


def test_the_scripts_own_wish_wins(folder):
    write(
        folder,
        "own.py",
        """
        import ghn_init, timm
        with ghn_init.enabled(False):
            print(ghn_init.report_of(timm.create_model("resnet10t")))
        print(ghn_init.report_of(timm.create_model("resnet10t", ghn_init=False)))
        """,
    )
    assert launch(folder, "own.py").stdout == "None\nNone\n"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_under_launchers_of_several_processes(folder, launcher):
    write(
        folder,
        "distributed.py",
        """
        import os, timm, torch, torch.distributed as dist
        dist.init_process_group("gloo")
        model = timm.create_model("resnet10t", num_classes=10)
        sums = [None] * dist.get_world_size()
        dist.all_gather_object(sums, [float(p.sum()) for p in model.parameters()])
        print(dist.get_world_size(), sums[0] == sums[-1])
        dist.destroy_process_group()
        """,
    )
    words = {
        "torchrun": ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29731", "-m"],
        "accelerate": [
            *("accelerate.commands.launch", "--multi_gpu", "--gpu_ids", "all", "--num_processes", "2"),
            *("--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"),
            *("--main_process_port", "29732", "-m"),
        ],
    }[launcher]
    done = run(folder, "-m", *words, "ghn_init.launch", "--ghn", folder / "ghn", "distributed.py")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 True") == 2
    assert done.stderr.count("ghn_init: ResNet: ") == 1
