"""Fashion-MNIST from its files and from the package."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from ghn_init import DataError
from ghn_init.assets import FASHION_MNIST_SUBSET
from ghn_init.training.data import ImageData, fashion_mnist, prepare, read_idx


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype(np.uint8).tobytes()


def write_split(folder: Path, stem: str, images: np.ndarray, labels: np.ndarray, zipped: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
        if zipped:
            (folder / f"{kind}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / kind).write_bytes(idx(array))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)


def test_the_bundled_subset_is_real_balanced_and_small():
    train, test = fashion_mnist("train", "bundled"), fashion_mnist("test", "bundled")
    assert torch.bincount(train.labels).tolist() == [400] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10
    assert FASHION_MNIST_SUBSET.stat().st_size < 2_500_000
    assert (FASHION_MNIST_SUBSET.parent / "LICENSE").is_file()
    pixels = train.images.float() / 255
    assert float(pixels.mean()) == pytest.approx(0.286, abs=0.01)  # the full set's, published
    assert float(pixels.std()) == pytest.approx(0.353, abs=0.01)
    seen = {image.numpy().tobytes() for image in train.images}
    assert seen.isdisjoint(image.numpy().tobytes() for image in test.images)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("layout", ["", "FashionMNIST/raw"])
def test_files_are_found_in_both_layouts(tmp_path: Path, images: np.ndarray, layout: str, zipped: bool):
    labels = np.arange(12) % 10
    write_split(tmp_path / layout, "t10k", images, labels, zipped)
    found = fashion_mnist("test", tmp_path)
    assert torch.equal(found.images, torch.from_numpy(images))
    assert found.labels.tolist() == labels.tolist()


def test_the_environment_names_a_folder(tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    write_split(tmp_path, "train", images, np.zeros(12), zipped=True)
    monkeypatch.setenv("GHN_INIT_DATA", str(tmp_path))
    assert len(fashion_mnist("train")) == 12
    with pytest.raises(DataError, match="no Fashion-MNIST files for the test split"):
        fashion_mnist("test")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda raw: raw[: len(raw) // 2], "cannot be read as an idx file"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:-5]), "values follow"),
        (
            lambda raw: gzip.compress(b"\0\0\x0d" + gzip.decompress(raw)[3:]),
            "not an idx file of unsigned bytes",
        ),
        (lambda raw: gzip.compress(b""), "not an idx file"),
        (lambda raw: gzip.compress(gzip.decompress(raw)[:9]), "truncated inside the header"),
    ],
)
def test_damaged_files_are_told(tmp_path: Path, images: np.ndarray, spoil, message: str):
    write_split(tmp_path, "train", images, np.zeros(12), zipped=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        read_idx(path)
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        fashion_mnist("train", tmp_path)


def test_sets_that_do_not_fit_are_refused(images: np.ndarray):
    x, y = torch.from_numpy(images), torch.zeros(12, dtype=torch.long)
    with pytest.raises(DataError, match="12 images but 11 labels"):
        ImageData(x, y[:11], ("a",), "set")
    with pytest.raises(DataError, match="labels run from 1 to 1, expected 0 to 0"):
        ImageData(x, y + 1, ("a",), "set")
    with pytest.raises(DataError, match="the set is empty"):
        ImageData(x[:0], y[:0], ("a",), "set")
    with pytest.raises(DataError, match="shape"):
        ImageData(x[:, None], y, ("a",), "set")
    with pytest.raises(DataError, match="larger than 32x32"):
        prepare(torch.zeros(1, 33, 33, dtype=torch.uint8))
    with pytest.raises(DataError, match="unknown split"):
        fashion_mnist("validation")  # type: ignore[arg-type]


def test_images_are_padded_standardised_and_have_three_equal_channels(images: np.ndarray):
    x = prepare(torch.from_numpy(images))
    assert x.shape == (12, 3, 32, 32)
    assert torch.equal(x[:, 0], x[:, 2])
    inner = (torch.from_numpy(images).float() / 255 - 0.2860) / 0.3530
    torch.testing.assert_close(x[:, 1, 2:30, 2:30], inner)
    assert float(x[0, 0, 0, 0]) == pytest.approx(-0.2860 / 0.3530)
    half = prepare(torch.from_numpy(images), 16)
    torch.testing.assert_close(half[0, 0, 5, 5], x[0, 0, 10:12, 10:12].mean())
