"""``apply`` and ``predict`` end to end: what is written, what is left alone, what stays as it was."""

from __future__ import annotations

import copy
import logging
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from states import IMAGE, ConvNet, Snapshot, tiny_ghn
from torch import nn
from torchvision.models import VisionTransformer, resnet18

import ghn_init

GHN = tiny_ghn()


def small_vit() -> VisionTransformer:
    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, dropout=0.1
    )


@pytest.mark.parametrize("build", [lambda: resnet18(num_classes=10), small_vit])
def test_apply_writes_what_predict_gives(build):
    model = build()
    values = ghn_init.predict(model, GHN)
    report = ghn_init.apply(model, GHN)
    assert set(values) == set(report.predicted)
    for name, parameter in model.named_parameters():
        if name in values:
            assert torch.equal(parameter, values[name]), name


def test_predict_leaves_the_model_alone_and_takes_graphs_and_meta_models():
    model = ConvNet()
    before = Snapshot(model)
    values = ghn_init.predict(model, GHN, example_inputs=IMAGE)
    assert before.changed() == []
    of_graph = ghn_init.predict(ghn_init.trace(model, IMAGE), GHN)
    of_meta = ghn_init.predict(copy.deepcopy(model).to("meta"), GHN, example_inputs=IMAGE)
    for name, value in values.items():
        assert torch.equal(value, of_graph[name])
        assert torch.equal(value, of_meta[name])


def test_same_bits_on_repeat_on_a_rebuilt_model_and_whatever_the_old_values_are():
    first, second = ConvNet(), ConvNet().eval()
    ghn_init.apply(first, GHN, example_inputs=IMAGE)
    for _ in range(2):
        ghn_init.apply(second, GHN, example_inputs=IMAGE)
    for (name, a), b in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b), name


def test_same_bits_on_another_number_of_threads_in_another_process(tmp_path):
    GHN.save_pretrained(tmp_path)
    script = (
        "import sys, torch, ghn_init; from torchvision.models import resnet18; torch.set_num_threads(3);"
        "values = ghn_init.predict(resnet18(), sys.argv[1]);"
        "torch.save(values, sys.argv[2])"
    )
    saved = tmp_path / "values.pt"
    root = Path(__file__).resolve().parents[1]
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(saved)], check=True, timeout=300, cwd=root
    )
    elsewhere = torch.load(saved, weights_only=True)
    here = ghn_init.predict(resnet18(), GHN)
    assert here.keys() == elsewhere.keys()
    assert all(torch.equal(here[name], elsewhere[name]) for name in here)


@pytest.mark.parametrize(
    ("head", "classes", "predicted"),
    [("auto", 10, True), ("auto", 7, False), ("predict", 7, True), ("keep", 10, False)],
)
def test_the_classifier_is_predicted_as_asked(head, classes, predicted):
    model = ConvNet(classes)
    before = model.head.weight.detach().clone()
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE, head=head)
    assert ("head.weight" in report.predicted) == ("head.bias" in report.predicted) == predicted
    assert ("head.weight" in report.kept) != predicted
    assert torch.equal(model.head.weight, before) != predicted


@pytest.mark.parametrize(
    "only", [{"conv.weight", "norm.bias"}, lambda name: name in ("conv.weight", "norm.bias")]
)
def test_only_the_named_parameters_change(only):
    model = ConvNet()
    before = Snapshot(model)
    report = ghn_init.apply(model, GHN, example_inputs=IMAGE, only=only)
    assert before.changed() == ["norm.bias", "conv.weight"]
    assert set(report.predicted) == {"conv.weight", "norm.bias"}
    assert set(ghn_init.predict(model, GHN, example_inputs=IMAGE, only=only)) == set(report.predicted)


def test_original_checkpoints_are_read_from_their_files():
    checkpoint = Path(__file__).parent / "data" / "parity" / "checkpoints" / "ghn3-tiny.joblib.pt"
    model = resnet18()
    report = ghn_init.apply(model, checkpoint)
    assert len(report.predicted) == 62
    assert report.ghn.id == str(checkpoint)
    assert torch.isfinite(model(torch.zeros(2, 3, 64, 64))).all()


def generators() -> tuple:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_random_generators_are_untouched_even_on_an_error():
    model = small_vit()
    torch.manual_seed(3)
    before = generators()
    ghn_init.apply(model, GHN)
    with pytest.raises(ghn_init.GHNInitError):
        ghn_init.apply(model, GHN, example_inputs=torch.zeros(1, 5, 8, 8))
    assert generators() == before


def test_settings_of_the_caller_neither_change_the_bits_nor_are_changed():
    expected = ghn_init.predict(ConvNet(), GHN, example_inputs=IMAGE)
    torch.set_default_dtype(torch.bfloat16)
    try:
        model = ConvNet().float()
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.device("meta"), torch.inference_mode():
            ghn_init.apply(model, GHN, example_inputs=IMAGE)
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_inference_mode_enabled()
            assert torch.empty(0).device.type == "meta"
        assert torch.get_default_dtype() == torch.bfloat16
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.is_grad_enabled()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected[name])


def test_a_ghn_in_training_mode_predicts_the_same_and_stays_in_it():
    ghn = copy.deepcopy(GHN).train()
    ghn.decoder.eval()
    modes = [module.training for module in ghn.modules()]
    values = ghn_init.predict(ConvNet(), ghn, example_inputs=IMAGE)
    assert [module.training for module in ghn.modules()] == modes
    expected = ghn_init.predict(ConvNet(), GHN, example_inputs=IMAGE)
    assert all(torch.equal(values[name], expected[name]) for name in expected)


def test_one_line_of_info_and_one_warning_that_lists_what_was_kept(caplog):
    caplog.set_level(logging.INFO, "ghn_init")
    ghn_init.apply(ConvNet(classes=7), GHN, example_inputs=IMAGE)
    info, warning = (
        [record.getMessage() for record in caplog.records if record.levelno == level]
        for level in (logging.INFO, logging.WARNING)
    )
    assert len(info) == len(warning) == 1
    assert "ConvNet: 5 of 7 parameters" in info[0]
    assert "head.weight, head.bias" in warning[0]
    assert "7 classes" in warning[0]


def test_nothing_is_warned_of_when_all_is_predicted_or_left_out_on_request(caplog):
    ghn_init.apply(ConvNet(), GHN, example_inputs=IMAGE)
    ghn_init.apply(ConvNet(), GHN, example_inputs=IMAGE, only={"conv.weight"})
    assert not caplog.records


def test_the_model_can_be_trained_copied_and_saved_afterwards(tmp_path):
    model = ConvNet()
    keys = list(model.state_dict())
    ghn_init.apply(model, GHN, example_inputs=IMAGE)
    assert list(model.state_dict()) == keys
    torch.save(model, tmp_path / "model.pt")
    for twin in (copy.deepcopy(model), torch.load(tmp_path / "model.pt", weights_only=False)):
        assert vars(twin).keys() == vars(ConvNet()).keys()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    nn.functional.cross_entropy(model(torch.randn(4, 3, 8, 8)), torch.arange(4)).backward()
    optimiser.step()


def test_a_name_in_only_that_the_model_does_not_have_is_an_error():
    model = ConvNet()
    before = Snapshot(model)
    with pytest.raises(ghn_init.ConfigError, match=r"'conv\.wieght'"):
        ghn_init.apply(model, GHN, example_inputs=IMAGE, only=["conv.wieght", "head.bias"])
    assert before.changed() == []


def test_threads_get_the_same_bits_and_leave_the_generators_alone():
    models = [ConvNet() for _ in range(8)]
    torch.manual_seed(1)
    before = generators()
    threads = [
        threading.Thread(target=ghn_init.apply, args=(model, GHN), kwargs={"example_inputs": IMAGE})
        for model in models
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert generators() == before
    expected = ghn_init.predict(models[0], GHN, example_inputs=IMAGE)
    for model in models:
        assert all(torch.equal(parameter, expected[name]) for name, parameter in model.named_parameters())


PEAK = """
import sys, torch, ghn_init
from torch import nn

def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) // 1024

ghn = ghn_init.GHN.from_pretrained(sys.argv[1])
ghn_init.apply(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)), ghn, example_inputs=torch.zeros(1, 8))
model = nn.Sequential(*(nn.Linear(2048, 2048) for _ in range(16)))
before = memory("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
ghn_init.apply(model, ghn, example_inputs=torch.zeros(1, 2048))
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's peak memory counter"
)
def test_memory_beside_the_model_is_a_group_and_a_bounded_journal(tmp_path):
    GHN.save_pretrained(tmp_path)
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], capture_output=True, text=True, timeout=300, cwd=root
    )
    assert done.returncode == 0, done.stderr
    extra = int(done.stdout.splitlines()[-1])
    assert extra < 64, f"{extra} MiB beside a model of 256 MiB"
