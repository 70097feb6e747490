"""MNIST: the subset, the full set from a folder, and the download (from a server of our own)."""

import functools
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from diglot.data import download_mnist, load_mnist, mnist, mnist_subset
from diglot.data.idx import read_bytes, write_idx
from diglot.errors import BadInput

# Read before the fixture below hides it.
FOLDER = os.environ.get(mnist.FOLDER_VARIABLE)


@pytest.fixture(autouse=True)
def _no_folder_from_outside(monkeypatch, tmp_path):
    monkeypatch.delenv(mnist.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A folder with four small files that pass for the published ones."""
    folder = tmp_path / "published"
    folder.mkdir()
    random = np.random.default_rng(0)
    sizes = [(6, 28, 28), (6,), (4, 28, 28), (4,)]
    checksums = {}
    for name, size in zip(mnist.FILES, sizes, strict=True):
        path = folder / f"{name}.gz"
        write_idx(path, random.integers(0, 10, size).astype(np.uint8))
        checksums[name] = hashlib.sha256(read_bytes(path)).hexdigest()
    monkeypatch.setattr(mnist, "CHECKSUMS", checksums)
    return folder


@pytest.fixture
def server(published, monkeypatch):
    """A web server over the published files; the first mirror of two answers 404."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        address = f"http://127.0.0.1:{running.server_port}"
        monkeypatch.setattr(mnist, "MIRRORS", (f"{address}/nothing", address))
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield published
        running.shutdown()


def test_the_subset_is_real_and_small():
    data = mnist_subset()
    assert data.train_images.shape == (12_000, 28, 28)
    assert data.test_images.shape == (4_000, 28, 28)
    assert data.train_images.dtype == data.test_labels.dtype == np.uint8
    for labels in (data.train_labels, data.test_labels):
        share = np.bincount(labels, minlength=10) / len(labels)
        assert share.min() > 0.08 and share.max() < 0.13
    # Digits, not noise: dark margins, bright middle.
    assert data.train_images[:, :2].mean() < 1 < 80 < data.train_images[:, 12:16, 12:16].mean()
    size = sum(path.stat().st_size for path in mnist._SUBSET.iterdir())
    assert size <= 3_000_000


@pytest.mark.skipif(not FOLDER, reason=f"{mnist.FOLDER_VARIABLE} names no folder with MNIST")
def test_the_subset_is_part_of_the_full_set():
    full, subset = load_mnist(FOLDER), mnist_subset()
    assert full.train_images.shape == (60_000, 28, 28)
    rows = np.linspace(0, 9_999, 4_000).round().astype(int)
    assert np.array_equal(full.test_images[rows], subset.test_images)
    assert np.array_equal(full.test_labels[rows], subset.test_labels)


def test_a_folder_is_read(published, monkeypatch):
    data = load_mnist(published)
    assert data.train_images.shape == (6, 28, 28)
    assert data.test_labels.shape == (4,)
    monkeypatch.setenv(mnist.FOLDER_VARIABLE, str(published))
    assert np.array_equal(load_mnist().test_labels, data.test_labels)


def test_the_files_may_lie_in_mnist_below_and_may_be_plain(published, tmp_path, monkeypatch):
    place = tmp_path / "data" / "mnist"
    place.mkdir(parents=True)
    for name in mnist.FILES:
        (place / name).write_bytes(read_bytes(published / f"{name}.gz"))
    monkeypatch.setenv(mnist.FOLDER_VARIABLE, str(place.parent))
    assert load_mnist().train_labels.shape == (6,)


def test_a_missing_file_is_named(published):
    (published / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(BadInput, match=r"t10k-labels-idx1-ubyte\.gz is missing from") as caught:
        load_mnist(published)
    assert "https://" in str(caught.value)


def test_an_empty_folder_says_where_the_files_are_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv(mnist.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(BadInput, match="which DIGLOT_DATA names, holds no MNIST file"):
        load_mnist()


def test_another_content_is_refused(published):
    write_idx(published / "train-labels-idx1-ubyte.gz", np.zeros(6, np.uint8))
    with pytest.raises(BadInput, match="its checksum differs"):
        load_mnist(published)


def test_the_download_is_kept_and_shows_progress(server, tmp_path):
    seen = []
    data = load_mnist(progress=lambda *step: seen.append(step))
    assert data.train_images.shape == (6, 28, 28)
    assert {name for name, _, _ in seen} == {f"{name}.gz" for name in mnist.FILES}
    assert all(done <= total for _, done, total in seen)
    kept = tmp_path / "cache" / "diglot" / "mnist"
    assert sorted(path.name for path in kept.iterdir()) == sorted(
        f"{name}.gz" for name in mnist.FILES
    )
    seen.clear()
    load_mnist(progress=lambda *step: seen.append(step))
    assert not seen, "a second call fetched again"


def test_damage_on_the_way_leaves_nothing_behind(server, tmp_path):
    (server / "t10k-images-idx3-ubyte.gz").write_bytes(b"<html>Not found</html>")
    target = tmp_path / "target"
    with pytest.raises(BadInput, match="checksum differs"):
        download_mnist(target)
    assert sorted(path.name for path in target.iterdir()) == [
        "train-images-idx3-ubyte.gz",
        "train-labels-idx1-ubyte.gz",
    ]


def test_without_a_network_the_way_out_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/mnist", "no-such-scheme://x"))
    with pytest.raises(BadInput, match="cannot be downloaded") as caught:
        load_mnist()
    assert "DIGLOT_DATA" in str(caught.value) and "mnist_subset" in str(caught.value)
    assert not list((tmp_path / "cache" / "diglot" / "mnist").iterdir())


def test_a_full_disk_is_told_apart_from_a_missing_network(server, monkeypatch, tmp_path):
    def refuse(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    target = tmp_path / "target"
    with pytest.raises(BadInput, match="No space left on device"):
        download_mnist(target)
    assert not list(target.iterdir())
