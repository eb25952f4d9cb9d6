"""Which GHN ``ghn=`` means: environment, Hub, cache, the bundled one, and one copy per process."""

from __future__ import annotations

import logging
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from states import IMAGE, ConvNet, tiny_ghn

import ghn_init
from ghn_init import CheckpointError, HubError, default


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("GHN_INIT_DEFAULT", raising=False)
    default.forget()
    yield
    default.forget()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network and an empty cache; returns the cache."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def bundled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small GHN in the place of the bundled one."""
    folder = tiny_ghn(1).save_pretrained(tmp_path / "bundled")
    monkeypatch.setattr(default, "bundled_folder", lambda: folder)
    return folder


def test_offline_default_is_the_bundled_ghn_with_one_warning(offline, bundled, caplog):
    reports = [ghn_init.apply(ConvNet(), cache_dir=offline, example_inputs=IMAGE) for _ in range(3)]
    assert all(report.ghn == ("bundled", None) for report in reports)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "bundled" in warning
    assert "ghn3tm8.pt of SamsungSAILMontreal/ghn3" in warning
    assert "GHN_INIT_DEFAULT" in warning


def test_bundled_by_name_warns_of_nothing(offline, bundled, caplog):
    assert default.resolve_ghn("bundled").source == "bundled"
    assert not caplog.records


def test_offline_without_a_bundled_ghn_is_an_error(offline, monkeypatch, tmp_path):
    monkeypatch.setattr(default, "bundled_folder", lambda: tmp_path / "absent")
    with pytest.raises(HubError, match="ghn3"):
        default.resolve_ghn(True, cache_dir=offline)
    with pytest.raises(CheckpointError, match="no bundled GHN"):
        default.resolve_ghn("bundled")


def test_an_explicit_id_never_falls_back(offline, bundled, monkeypatch):
    with pytest.raises(HubError, match="me/my-ghn"):
        default.resolve_ghn("me/my-ghn", cache_dir=offline)
    monkeypatch.setenv("GHN_INIT_DEFAULT", "me/other-ghn")
    with pytest.raises(HubError, match="me/other-ghn"):
        default.resolve_ghn(True, cache_dir=offline)


def test_the_environment_names_the_default(tmp_path, monkeypatch):
    folder = tiny_ghn(2).save_pretrained(tmp_path / "mine")
    monkeypatch.setenv("GHN_INIT_DEFAULT", str(folder))
    assert default.resolve_ghn(True).source == str(folder)


def test_the_default_in_the_cache_is_used_without_asking_the_hub(offline, bundled, parity_checkpoint):
    commit = "0" * 39 + "1"
    snapshot = offline / "models--SamsungSAILMontreal--ghn3" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    shutil.copy(parity_checkpoint, snapshot / "ghn3tm8.pt")
    refs = offline / "models--SamsungSAILMontreal--ghn3" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    loaded = default.resolve_ghn(True, cache_dir=offline)
    assert loaded.commit == commit
    assert loaded.source == "SamsungSAILMontreal/ghn3:ghn3tm8.pt"


@pytest.fixture
def parity_checkpoint() -> Path:
    return Path(__file__).parent / "data" / "parity" / "checkpoints" / "ghn3-tiny.joblib.pt"


@pytest.mark.timeout(120)
def test_a_hub_that_takes_connections_and_never_answers_does_not_hang(bundled, monkeypatch, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr("ghn_init.hub.reach.TIMEOUT", 0.2)
        assert default.resolve_ghn(True, cache_dir=tmp_path / "cache").source == "bundled"


def test_a_ghn_is_loaded_once_and_again_when_its_file_changes(tmp_path):
    folder = tiny_ghn(3).save_pretrained(tmp_path)
    first = default.resolve_ghn(folder)
    assert default.resolve_ghn(str(folder)) is first
    assert not first.training
    assert not any(parameter.requires_grad for parameter in first.parameters())
    tiny_ghn(4).save_pretrained(folder)
    second = default.resolve_ghn(folder)
    assert not torch.equal(second.embedding.primitive.weight, first.embedding.primitive.weight)


def test_a_dangling_link_beside_the_files_does_no_harm(tmp_path):
    """As editors leave one for a lock."""
    folder = tiny_ghn(3).save_pretrained(tmp_path)
    (folder / ".#lock").symlink_to(tmp_path / "nowhere")
    assert default.resolve_ghn(folder).source == str(folder)


def test_a_name_too_long_for_a_path_is_told(offline):
    with pytest.raises(HubError, match="neither a local folder or file nor a valid Hub id"):
        default.resolve_ghn("x" * 5000, cache_dir=offline)


def test_threads_share_one_copy(tmp_path):
    folder = tiny_ghn(5).save_pretrained(tmp_path)
    found: list[ghn_init.GHN] = []
    threads = [threading.Thread(target=lambda: found.append(default.resolve_ghn(folder))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_ghn_object_is_used_as_it_is():
    ghn = tiny_ghn()
    assert default.resolve_ghn(ghn) is ghn
