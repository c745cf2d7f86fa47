"""MNIST and its like: only bytes whose hash is right, from a folder or from a real HTTP server."""

import dataclasses
import functools
import gzip
import os
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from geovq.config import DataConfig
from geovq.data import load
from geovq.data.canonical import FASHION_MNIST, MNIST, load_canonical
from geovq.data.mnist_layout import FILE_NAMES
from geovq.errors import DataError, StorageError
from geovq.storage.artifact import file_hash

FILES = [f"{name}.gz" for name in FILE_NAMES]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def published(tmp_path, write_mnist_layout, monkeypatch):
    """A folder with a small published data set, its description, and an empty cache."""
    monkeypatch.delenv("GEOVQ_DATA", raising=False)
    monkeypatch.setenv("GEOVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = write_mnist_layout(tmp_path / "published")
    plain = write_mnist_layout(tmp_path / "plain", compressed=False)
    dataset = dataclasses.replace(
        MNIST,
        name="toy",
        mirrors=(),
        compressed={name: file_hash(folder / f"{name}.gz") for name in FILE_NAMES},
        plain={name: file_hash(plain / name) for name in FILE_NAMES},
        n_validation=20,
    )
    return folder, dataset


@pytest.fixture
def data_folder(published, tmp_path, monkeypatch):
    """An empty folder that GEOVQ_DATA names."""
    monkeypatch.setenv("GEOVQ_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def serve():
    """Serve a folder over HTTP; the base URL comes back."""
    servers = []

    def start(folder):
        folder.mkdir(exist_ok=True)
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def cached_files():
    return sorted(path.name for path in Path(os.environ["GEOVQ_CACHE"]).rglob("*") if path.is_file())


def test_downloads_are_cached_and_used_without_the_network(published, serve, digit_pixels):
    folder, dataset = published
    online = load_canonical(dataclasses.replace(dataset, mirrors=(serve(folder),)))
    assert cached_files() == sorted(FILES)
    assert (online.name, len(online.train), len(online.validation), len(online.test)) == ("toy", 80, 20, 40)
    np.testing.assert_array_equal(
        online.test.images(slice(None))[:, 0], digit_pixels[100:140] / np.float32(255)
    )
    offline = load_canonical(dataclasses.replace(dataset, mirrors=("http://127.0.0.1:1/",)))
    assert offline.fingerprint == online.fingerprint


def test_a_missing_file_is_taken_from_the_next_mirror(published, serve, tmp_path):
    folder, dataset = published
    mirrors = (serve(tmp_path / "empty"), serve(folder))
    assert len(load_canonical(dataclasses.replace(dataset, mirrors=mirrors)).test) == 40


def test_wrong_bytes_are_taken_from_the_next_mirror(published, serve, write_mnist_layout, tmp_path):
    folder, dataset = published
    bad = write_mnist_layout(tmp_path / "bad")
    (bad / FILES[0]).write_bytes(b"<html>log in to this network</html>")
    mirrors = (serve(bad), serve(folder))
    assert len(load_canonical(dataclasses.replace(dataset, mirrors=mirrors)).test) == 40


def test_wrong_bytes_never_enter_the_cache(published, serve):
    folder, dataset = published
    (folder / FILES[0]).write_bytes((folder / FILES[0]).read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{FILES[0]} of toy cannot be downloaded .*: wrong SHA-256"):
        load_canonical(dataclasses.replace(dataset, mirrors=(serve(folder),)))
    assert cached_files() == []


def test_a_damaged_cache_is_mended(published, serve):
    folder, dataset = published
    dataset = dataclasses.replace(dataset, mirrors=(serve(folder),))
    fingerprint = load_canonical(dataset).fingerprint
    cached = Path(os.environ["GEOVQ_CACHE"], "toy", FILES[0])
    cached.write_bytes(cached.read_bytes()[:100])
    assert load_canonical(dataset).fingerprint == fingerprint
    assert file_hash(cached) == file_hash(folder / FILES[0])


def test_without_a_network_the_way_out_is_named(published, serve, tmp_path):
    _, dataset = published
    mirrors = (serve(tmp_path / "empty"), "http://127.0.0.1:1/")
    with pytest.raises(DataError) as caught:
        load_canonical(dataclasses.replace(dataset, mirrors=mirrors))
    message = str(caught.value)
    assert "status 404" in message
    assert f"http://127.0.0.1:1/{FILES[0]}: ConnectionError" in message
    assert f"set GEOVQ_DATA to a folder that holds toy/{FILES[0]}" in message
    assert "\n" not in message
    assert cached_files() == []


def test_a_cache_that_cannot_be_written_is_named(published, serve, tmp_path, monkeypatch):
    folder, dataset = published
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("GEOVQ_CACHE", str(tmp_path / "occupied"))
    with pytest.raises(StorageError, match="occupied"):
        load_canonical(dataclasses.replace(dataset, mirrors=(serve(folder),)))


@pytest.mark.parametrize("place", ["toy", "."])
@pytest.mark.parametrize("compressed", [True, False])
def test_files_are_found_in_the_data_folder(published, data_folder, write_mnist_layout, place, compressed):
    _, dataset = published
    write_mnist_layout(data_folder / place, compressed)
    assert len(load_canonical(dataset).train) == 80
    assert cached_files() == []


def test_a_data_folder_with_some_of_the_files_is_completed(published, serve, data_folder, write_mnist_layout):
    folder, dataset = published
    (write_mnist_layout(data_folder / "toy") / FILES[0]).unlink()
    load_canonical(dataclasses.replace(dataset, mirrors=(serve(folder),)))
    assert cached_files() == [FILES[0]]


@pytest.mark.parametrize("compressed", [True, False])
def test_other_bytes_under_the_same_name_are_refused(published, data_folder, write_mnist_layout, compressed):
    _, dataset = published
    folder = write_mnist_layout(data_folder / "toy", compressed)
    path = folder / (FILES[1] if compressed else FILE_NAMES[1])
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(DataError, match=rf"{path}: SHA-256 is .* of the published toy; .*idx:{folder}"):
        load_canonical(dataset)


def test_plain_files_without_a_published_hash_are_refused(published, data_folder, write_mnist_layout):
    _, dataset = published
    write_mnist_layout(data_folder, compressed=False)
    with pytest.raises(DataError, match=f"no published hash for unpacked files; expected {FILES[0]}"):
        load_canonical(dataclasses.replace(dataset, plain={}))


def test_a_data_folder_that_does_not_exist_is_named(published, monkeypatch, tmp_path):
    monkeypatch.setenv("GEOVQ_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load_canonical(published[1])


@pytest.mark.parametrize("dataset", [MNIST, FASHION_MNIST])
def test_every_file_has_a_hash_and_a_mirror(dataset):
    assert set(dataset.compressed) == set(FILE_NAMES)
    hashes = [*dataset.compressed.values(), *dataset.plain.values()]
    assert len(set(hashes)) == len(hashes)
    assert all(len(value) == 64 for value in hashes)
    assert all(mirror.endswith("/") for mirror in dataset.mirrors)


@pytest.fixture(scope="module")
def mnist():
    folder = os.environ.get("GEOVQ_DATA")
    if not folder or not (Path(folder) / "mnist" / FILES[0]).is_file():
        pytest.skip("set GEOVQ_DATA to a folder that holds mnist/*.gz to test the real MNIST")
    return load(DataConfig("mnist"))


def test_mnist(mnist):
    assert mnist.name == "mnist"
    assert mnist.image_shape == (1, 28, 28)
    assert mnist.n_classes == 10
    assert [len(part) for part in (mnist.train, mnist.validation, mnist.test)] == [55_000, 5_000, 10_000]
    assert mnist.test.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    train = np.bincount(np.concatenate([mnist.train.labels, mnist.validation.labels]))
    np.testing.assert_array_less(np.abs(np.bincount(mnist.validation.labels) - train / 12), 1)


def test_mnist_pixels(mnist):
    everything = mnist.test.images(slice(None))
    assert (everything.min(), everything.max()) == (0, 1)
    assert everything.mean(dtype=np.float64) == pytest.approx(0.13251, abs=1e-5)


def test_mnist_unpacked_is_the_same_data(mnist, tmp_path, monkeypatch):
    source = Path(os.environ["GEOVQ_DATA"]) / "mnist"
    for name in FILE_NAMES:
        (tmp_path / name).write_bytes(gzip.decompress((source / f"{name}.gz").read_bytes()))
    monkeypatch.setenv("GEOVQ_DATA", str(tmp_path))
    assert load(DataConfig("mnist")).fingerprint == mnist.fingerprint
