"""CIFAR-10's binary layout: a folder of the user's own, or the published archive from a real HTTP server."""

import dataclasses
import functools
import gzip
import hashlib
import io
import os
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from geovq.config import DataConfig
from geovq.data import load
from geovq.data.canonical import CIFAR10, load_canonical
from geovq.data.cifar import ARCHIVE, MEMBERS
from geovq.errors import DataError
from geovq.seeding import numpy_generator

ARCHIVE_FILE = f"{ARCHIVE}.gz"


def toy_images(n_images, purpose):
    """Images uint8 (n, 3, 32, 32) and labels uint8 (n,) with all ten classes."""
    pixels = numpy_generator(0, purpose).integers(0, 256, (n_images, 3, 32, 32), dtype=np.uint8)
    return pixels, (np.arange(n_images) % 10).astype(np.uint8)


def record_bytes(pixels, labels):
    """The format's own words: a label byte, then the red, the green and the blue plane row by row."""
    return b"".join(
        bytes([label]) + red.tobytes() + green.tobytes() + blue.tobytes()
        for label, (red, green, blue) in zip(labels, pixels, strict=True)
    )


TRAIN, TEST = toy_images(40, "train"), toy_images(10, "test")
CONTENTS = {
    "data_batch_1.bin": record_bytes(TRAIN[0][:20], TRAIN[1][:20]),
    "data_batch_2.bin": record_bytes(TRAIN[0][20:30], TRAIN[1][20:30]),
    "data_batch_10.bin": record_bytes(TRAIN[0][30:], TRAIN[1][30:]),
    "test_batch.bin": record_bytes(*TEST),
}


def write_folder(folder, contents=CONTENTS, compressed=()):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        if name in compressed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    return folder


def load_folder(folder):
    return load(DataConfig(f"cifar-bin:{folder}"))


def test_a_folder_is_read_channel_by_channel_in_the_order_of_its_numbers(tmp_path):
    splits = load_folder(write_folder(tmp_path / "photos"))
    assert splits.name == "cifar-bin:photos"  # never plain "cifar10": nobody checked a hash
    assert splits.image_shape == (3, 32, 32)
    assert splits.n_classes == 10
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [36, 4, 10]
    images = splits.train.images(slice(None))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, TRAIN[0][splits.train.rows] / np.float32(255))
    np.testing.assert_array_equal(splits.train.labels, TRAIN[1][splits.train.rows])
    np.testing.assert_array_equal(splits.test.images(slice(None)), TEST[0] / np.float32(255))
    np.testing.assert_array_equal(splits.test.labels, TEST[1])


@pytest.mark.parametrize("compressed", [["test_batch.bin"], ["data_batch_2.bin"], list(CONTENTS)])
def test_compression_and_place_do_not_change_the_fingerprint(tmp_path, compressed):
    plain = load_folder(write_folder(tmp_path / "plain"))
    other = load_folder(write_folder(tmp_path / "other", compressed=compressed))
    assert other.fingerprint == plain.fingerprint


def test_a_file_that_is_there_both_ways_counts_once(tmp_path):
    once = load_folder(write_folder(tmp_path / "once"))
    twice = write_folder(write_folder(tmp_path / "twice"), compressed=["data_batch_2.bin"])
    assert load_folder(twice).fingerprint == once.fingerprint


def test_other_files_in_the_folder_do_not_matter(tmp_path):
    folder = write_folder(tmp_path / "photos")
    fingerprint = load_folder(folder).fingerprint
    for name in ("batches.meta.txt", "data_batch_1", "data_batch_x.bin", "readme.html"):
        (folder / name).write_bytes(b"not read")
    assert load_folder(folder).fingerprint == fingerprint


def test_every_pixel_counts_in_the_fingerprint(tmp_path):
    changed = bytearray(CONTENTS["test_batch.bin"])
    changed[-1] ^= 1
    folder = write_folder(tmp_path / "changed", {**CONTENTS, "test_batch.bin": bytes(changed)})
    assert load_folder(folder).fingerprint != load_folder(write_folder(tmp_path / "as-it-was")).fingerprint


@pytest.mark.parametrize(
    "content, message",
    [
        (CONTENTS["data_batch_2.bin"][:-1], r"30,729 bytes; expected a multiple of 3,073"),
        (CONTENTS["data_batch_2.bin"] + b"\0", r"30,731 bytes; expected a multiple of 3,073"),
        (b"", r"0 bytes; expected a multiple of 3,073"),
        (
            CONTENTS["data_batch_1.bin"][:3073] + b"\x0a" + CONTENTS["data_batch_1.bin"][3074:],
            r"record 1 has label 10; expected 0 to 9",
        ),
        (gzip.compress(CONTENTS["data_batch_2.bin"])[:-1], "damaged gzip file"),
        (gzip.compress(CONTENTS["data_batch_2.bin"])[:-8] + bytes(8), "damaged gzip file"),
        (gzip.compress(bytes(10**7)), "holds over 256 times the file's compressed size"),
    ],
)
@pytest.mark.parametrize("name", ["data_batch_2.bin", "test_batch.bin"])
def test_a_damaged_file_is_refused_by_its_name(tmp_path, name, content, message):
    folder = write_folder(tmp_path / "photos", {**CONTENTS, name: content})
    with pytest.raises(DataError, match=f"{folder / name}: {message}"):
        load_folder(folder)


def test_a_missing_test_file_is_named(tmp_path):
    folder = write_folder(tmp_path / "photos")
    (folder / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"photos: no test_batch.bin or test_batch.bin.gz; expected one"):
        load_folder(folder)


def test_pickled_batches_are_not_taken_for_binary_ones(tmp_path):
    folder = write_folder(
        tmp_path / "cifar-10-batches-py", {"data_batch_1": b"\x80\x02", "test_batch": b"\x80"}
    )
    with pytest.raises(DataError, match=r"no data_batch_1.bin .*; expected CIFAR-10's binary version"):
        load_folder(folder)


def test_a_path_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_bytes(CONTENTS["test_batch.bin"])
    with pytest.raises(DataError, match="file: not a folder; expected one"):
        load_folder(tmp_path / "file")
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load_folder(tmp_path / "nowhere")


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Serve a folder over HTTP; the base URL comes back."""
    servers = []

    def start(folder):
        handler = functools.partial(QuietHandler, directory=str(folder))
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def archive_bytes(contents, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


MEMBER_CONTENTS = {
    name: record_bytes(TRAIN[0][8 * i : 8 * i + 8], TRAIN[1][8 * i : 8 * i + 8])
    for i, name in enumerate(MEMBERS[:-1])
} | {MEMBERS[-1]: CONTENTS["test_batch.bin"]}


@pytest.fixture
def publish(tmp_path, monkeypatch):
    """Write an archive of the given bytes and describe it as published; an empty cache, no data folder."""
    monkeypatch.delenv("GEOVQ_DATA", raising=False)
    monkeypatch.setenv("GEOVQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def write(content, mirrors=()):
        (tmp_path / "published").mkdir(exist_ok=True)
        (tmp_path / "published" / ARCHIVE_FILE).write_bytes(content)
        return dataclasses.replace(
            CIFAR10,
            name="toy",
            mirrors=mirrors,
            compressed={ARCHIVE: hashlib.sha256(content).hexdigest()},
            n_validation=10,
        )

    return write


def test_the_archive_is_downloaded_once_and_its_files_are_read_by_name(publish, serve, tmp_path):
    # Listed in another order, with files of other names and one that would land outside the folder.
    contents = {"../outside.bin": b"x", **dict(reversed(MEMBER_CONTENTS.items())), "readme.html": b"x"}
    content = archive_bytes(contents)
    dataset = publish(content)
    online = load_canonical(dataclasses.replace(dataset, mirrors=(serve(tmp_path / "published"),)))
    assert (online.name, online.image_shape, online.n_classes) == ("toy", (3, 32, 32), 10)
    assert [len(part) for part in (online.train, online.validation, online.test)] == [30, 10, 10]
    np.testing.assert_array_equal(
        online.train.images(slice(None)), TRAIN[0][online.train.rows] / np.float32(255)
    )
    np.testing.assert_array_equal(online.test.labels, TEST[1])
    cached = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert [path.name for path in cached] == [ARCHIVE_FILE]
    assert not (tmp_path / "outside.bin").exists()
    offline = load_canonical(dataclasses.replace(dataset, mirrors=("http://127.0.0.1:1/",)))
    assert offline.fingerprint == online.fingerprint


def test_the_archive_and_a_folder_of_its_files_are_the_same_images(publish, serve, tmp_path):
    dataset = publish(archive_bytes(MEMBER_CONTENTS))
    packed = load_canonical(dataclasses.replace(dataset, mirrors=(serve(tmp_path / "published"),)))
    names = {name.rpartition("/")[2]: content for name, content in MEMBER_CONTENTS.items()}
    unpacked = load_folder(write_folder(tmp_path / "unpacked", names))
    everything = np.arange(50)
    np.testing.assert_array_equal(packed.test.store.read(everything), unpacked.test.store.read(everything))
    np.testing.assert_array_equal(packed.test.labels, unpacked.test.labels)


@pytest.mark.parametrize("place", ["toy", "."])
def test_the_archive_is_found_in_the_data_folder(publish, tmp_path, monkeypatch, place):
    content = archive_bytes(MEMBER_CONTENTS)
    dataset = publish(content)
    (tmp_path / "data" / place).mkdir(parents=True, exist_ok=True)
    (tmp_path / "data" / place / ARCHIVE_FILE).write_bytes(content)
    monkeypatch.setenv("GEOVQ_DATA", str(tmp_path / "data"))
    assert len(load_canonical(dataset).test) == 10
    (tmp_path / "data" / place / ARCHIVE_FILE).write_bytes(content + b"\0")
    with pytest.raises(
        DataError, match=r"SHA-256 is .* of the published toy; .* cifar-bin:PATH once unpacked"
    ):
        load_canonical(dataset)


@pytest.mark.parametrize(
    "content, message",
    [
        (archive_bytes({name: MEMBER_CONTENTS[name] for name in MEMBERS[1:]}), f"no {MEMBERS[0]}; expected"),
        (archive_bytes({**MEMBER_CONTENTS, MEMBERS[2]: b"\x01" * 3074}), f"{MEMBERS[2]}: 3,074 bytes"),
        (archive_bytes(MEMBER_CONTENTS)[:-5000], "damaged archive"),
        (b"not an archive", "damaged archive"),
    ],
)
def test_an_archive_of_other_content_is_refused(publish, serve, tmp_path, content, message):
    dataset = publish(content)
    with pytest.raises(DataError, match=message):
        load_canonical(dataclasses.replace(dataset, mirrors=(serve(tmp_path / "published"),)))


def test_the_published_archive_has_a_hash_and_a_mirror():
    assert set(CIFAR10.compressed) == {ARCHIVE}
    assert len(CIFAR10.compressed[ARCHIVE]) == 64
    assert CIFAR10.mirrors
    assert all(mirror.endswith("/") for mirror in CIFAR10.mirrors)


def test_a_batch_of_colour_photographs_is_read_whole():
    folder = Path(os.environ.get("GEOVQ_DATA", "/nowhere")) / "cifar10-jpegq75"
    if not (folder / "test_batch.bin.gz").is_file():
        pytest.skip("set GEOVQ_DATA to a folder that holds cifar10-jpegq75/*.bin.gz to test real photographs")
    splits = load_folder(folder)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [18_000, 2_000, 10_000]
    np.testing.assert_array_equal(np.bincount(splits.test.labels), np.full(10, 1000))
    # Neighbours in a photograph are alike in both directions; those of channels last, as read here, are not.
    images = splits.test.images(slice(0, 500))
    interleaved = images.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)
    for axis in (2, 3):
        assert np.abs(np.diff(images, axis=axis)).mean() < 0.07
        assert np.abs(np.diff(interleaved, axis=axis)).mean() > 0.08
