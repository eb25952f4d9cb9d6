"""Images by name."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hub.loopback import LoopbackHub
from PIL import Image

from ghn_init import DataError
from ghn_init.training.data import ImageData, fashion_mnist
from ghn_init.training.datasets import load_images
from ghn_init.training.fractals import fractals


def test_digits_are_split_enlarged_and_standardised():
    train, test = load_images("digits", "train"), load_images("digits", "test")
    assert len(train) + len(test) == 1797
    assert train.images.shape[1:] == (32, 32)
    assert train.classes == tuple("0123456789")
    x, _ = train.batch(torch.arange(len(train)))
    assert float(x.mean()) == pytest.approx(0, abs=1e-3)
    assert float(x.std()) == pytest.approx(1, abs=1e-2)


def test_fractals_are_coloured_repeatable_and_can_be_told_apart():
    data = fractals("train", images=300, classes=3, size=16)
    again, test = (
        fractals("train", images=300, classes=3, size=16),
        fractals("test", images=150, classes=3, size=16),
    )
    assert torch.equal(data.images, again.images)
    assert data.images.shape == (300, 3, 16, 16)
    assert torch.bincount(data.labels).tolist() == [100] * 3
    assert not torch.equal(data.images[:, 0], data.images[:, 1])
    grey = [each.images.float().mean(1).flatten(1) for each in (data, test)]
    centres = torch.stack([grey[0][data.labels == k].mean(0) for k in range(3)])
    nearest = torch.cdist(grey[1], centres).argmin(1)
    assert float((nearest == test.labels).float().mean()) > 0.6  # chance is one third
    with pytest.raises(DataError, match="numbers must be positive"):
        fractals(images=0)
    with pytest.raises(DataError, match="number of classes"):
        load_images("fractals:many")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for kind in ("cat", "dog"):
            (tmp_path / split / kind).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / kind / f"{index}.png")
    return tmp_path


def test_a_folder_of_images_is_read_in_colour_and_scaled(folder: Path):
    data = load_images(f"folder:{folder}")
    assert data.images.shape == (6, 3, 32, 32)
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert len(data.mean) == 3
    assert len(load_images(f"folder:{folder}", "test")) == 2


def test_a_torchvision_set_is_read_from_its_files(tmp_path: Path):
    with pytest.raises(DataError, match="download=True"):
        load_images("torchvision:CIFAR10", root=tmp_path)
    with pytest.raises(DataError, match="no data set 'Cifar'"):
        load_images("torchvision:Cifar", root=tmp_path)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    for kind, array in (("images-idx3", pixels), ("labels-idx1", np.arange(5, dtype=np.uint8))):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        for stem in ("train", "t10k"):
            (raw / f"{stem}-{kind}-ubyte").write_bytes(header + array.tobytes())
    found = load_images("torchvision:MNIST", root=tmp_path)
    assert torch.equal(found.images, torch.from_numpy(pixels))
    assert found.labels.tolist() == [0, 1, 2, 3, 4]
    assert len(found.classes) == 10


def test_a_set_of_the_hub_is_read(folder: Path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    data = load_images(f"hub:{folder}")
    assert data.images.shape == (6, 3, 32, 32)
    assert data.classes == ("cat", "dog")
    assert len(load_images(f"hub:{folder}", "test")) == 2
    with pytest.raises(DataError, match="cannot be loaded"):
        load_images(f"hub:{folder / 'train' / 'cat' / 'nothing'}")


def test_a_set_is_fetched_from_a_hub_and_validation_stands_in_for_test(folder: Path):
    pytest.importorskip("datasets")
    names = {path.relative_to(folder): path for path in folder.rglob("*.png")}
    files = {str(name).replace("test/", "validation/"): path.read_bytes() for name, path in names.items()}
    code = (
        "from ghn_init.training.datasets import load_images\n"
        "train, test = load_images('hub:me/pets'), load_images('hub:me/pets', 'test')\n"
        "print(tuple(train.images.shape), train.classes, train.labels.tolist(), len(test))\n"
        "for name in ('me/none', 'me/pets', 'me/text'):\n"
        "    try:\n"
        "        load_images(f'hub:{name}', 'train' if name != 'me/pets' else 'training')\n"
        "    except ValueError as error:\n"
        "        print(type(error).__name__, str(error).splitlines()[0])\n"
    )
    with LoopbackHub() as hub, tempfile.TemporaryDirectory() as home:
        hub.add("me/pets", files)
        hub.add("me/text", {"train.csv": b"text,label\nhello,1\n"})
        environment = {**os.environ, **hub.environment(home), "HF_DATASETS_CACHE": f"{home}/datasets"}
        environment |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, "-c", code]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    lines = told.splitlines()
    assert lines[0] == "(6, 3, 32, 32) ('cat', 'dog') [0, 0, 0, 1, 1, 1] 2"
    assert lines[1].startswith("DataError hub:me/none: cannot be loaded (DatasetNotFoundError")
    assert lines[2].startswith("DataError unknown split 'training'")
    assert lines[3].startswith("DataError hub:me/text: no Image column among text, label")


def test_fashion_mnist_of_torchvision_is_that_of_its_files(tmp_path: Path):
    full = fashion_mnist("test")
    if len(full) != 10_000:
        pytest.skip("needs the files of Fashion-MNIST")
    (tmp_path / "FashionMNIST").mkdir()
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir()
    for path in Path(full.source).glob("*ubyte*"):
        opened = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (raw / path.name.removesuffix(".gz")).write_bytes(opened)
    found = load_images("torchvision:FashionMNIST", "test", tmp_path)
    assert torch.equal(found.images, full.images)
    assert torch.equal(found.labels, full.labels)
    assert found.classes[1:] == full.classes[1:]


def test_empty_splits_are_refused(tmp_path: Path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="cat"):
        load_images(f"folder:{tmp_path}")
    (tmp_path / "train" / "cat").rmdir()
    with pytest.raises(DataError, match="Couldn't find any class folder"):
        load_images(f"folder:{tmp_path}")
    with pytest.raises(DataError, match="the set is empty"):
        fashion_mnist("train", "bundled").head(0)


def test_what_is_no_set_of_labelled_images_is_refused(folder: Path):
    with pytest.raises(DataError, match="unknown data set 'mnits'"):
        load_images("mnits")
    with pytest.raises(DataError, match="unknown split"):
        load_images("digits", "validation")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"expected .*CLASS"):
        load_images(f"folder:{folder / 'nothing'}")
    small = torch.zeros(2, 4, 8, 8, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"\(N, 3, H, W\)"):
        ImageData(small, torch.zeros(2).long(), ("a",), "set")
