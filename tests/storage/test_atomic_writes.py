"""Files and folders are whole or absent: after an error, on a full disk, after SIGKILL."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import geovq
from geovq.errors import StorageError
from geovq.storage.atomic import new_folder, remove_leftovers, write_bytes, write_json, write_text

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(geovq.__file__).parents[1])}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def full_disk(monkeypatch):
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)


def test_a_file_is_written_with_its_folders(tmp_path):
    write_bytes(tmp_path / "a" / "b" / "c.bin", b"\x00one")
    assert tree(tmp_path) == {"a/b/c.bin": b"\x00one"}


def test_a_file_is_replaced(tmp_path):
    write_text(tmp_path / "x", "old")
    write_text(tmp_path / "x", "nëw")
    assert tree(tmp_path) == {"x": "nëw".encode()}


def test_json_has_the_same_bytes_for_the_same_value(tmp_path):
    write_json(tmp_path / "a", {"b": [1, 2.5], "a": None})
    write_json(tmp_path / "b", {"a": None, "b": [1, 2.5]})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [-float("inf")]}])
def test_json_refuses_what_json_does_not_have(tmp_path, value):
    write_json(tmp_path / "a", 1)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a", value)
    assert tree(tmp_path) == {"a": b"1\n"}


def test_a_full_disk_leaves_the_old_file(tmp_path, full_disk):
    (tmp_path / "x").write_text("old")
    with pytest.raises(
        StorageError, match=r"x: the disk is full \(\d+\.\d MB free\) and this was not written"
    ) as caught:
        write_text(tmp_path / "x", "new")
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert tree(tmp_path) == {"x": b"old"}


def test_a_full_disk_leaves_the_old_folder(tmp_path, full_disk):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "x").write_text("old")
    with pytest.raises(StorageError, match="x: the disk is full"), new_folder(tmp_path / "f") as scratch:
        write_text(scratch / "x", "new")
    assert tree(tmp_path) == {"f/x": b"old"}


def test_a_file_size_limit_is_a_full_disk(tmp_path):
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from geovq.errors import StorageError\n"
        "from geovq.storage.atomic import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(Path(sys.argv[1]), b'x' * 5000)\n"
        "except StorageError as error: sys.exit(f'{error.exit_code} {error}')\n"
    )
    (tmp_path / "x").write_text("old")
    result = python(code, tmp_path / "x")
    assert result.stderr.startswith(f"2 {tmp_path / 'x'}: the disk is full"), result.stderr
    assert tree(tmp_path) == {"x": b"old"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="x: cannot be written: Permission denied"):
            write_text(tmp_path / "x", "new")
    finally:
        tmp_path.chmod(0o700)


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StorageError, match="file/x: cannot be written"):
        write_text(tmp_path / "file" / "x", "new")
    with pytest.raises(StorageError, match="file/f: cannot be written"), new_folder(tmp_path / "file" / "f"):
        pass
    assert tree(tmp_path) == {"file": b"mine"}


def test_a_folder_appears_whole(tmp_path):
    with new_folder(tmp_path / "a" / "f") as scratch:
        (scratch / "x").write_text("1")
        assert not (tmp_path / "a" / "f").exists()
    assert tree(tmp_path) == {"a/f/x": b"1"}


def test_a_folder_is_replaced_and_not_merged(tmp_path):
    for name in ("x", "y"):
        with new_folder(tmp_path / "f") as scratch:
            (scratch / name).write_text(name)
    assert tree(tmp_path) == {"f/y": b"y"}


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path):
    with new_folder(tmp_path / "f") as scratch:
        (scratch / "x").write_text("old")
    with pytest.raises(KeyError), new_folder(tmp_path / "f") as scratch:
        (scratch / "x").write_text("new")
        raise KeyError
    assert tree(tmp_path) == {"f/x": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_rename_that_fails_leaves_the_old_folder(tmp_path, monkeypatch):
    with new_folder(tmp_path / "f") as scratch:
        (scratch / "x").write_text("old")
    rename = Path.replace

    def refuse_new(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse_new)
    with (
        pytest.raises(StorageError, match="cannot be written: Input/output error"),
        new_folder(tmp_path / "f") as s,
    ):
        (s / "x").write_text("new")
    assert tree(tmp_path) == {"f/x": b"old"}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


KILLED = """
import os, signal, sys
from pathlib import Path
from geovq.storage.atomic import new_folder

root, point = Path(sys.argv[1]), sys.argv[2]
renames, rename = [], Path.replace

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def replace(path, target):
    if point == f"before rename {len(renames)}":
        die()
    renames.append(rename(path, target))
    if point == f"after rename {len(renames) - 1}":
        die()

Path.replace = replace
with new_folder(root / "f") as scratch:
    (scratch / "x").write_text("new")
    (scratch / "sub").mkdir()
    if point == "in the block":
        die()
"""


@pytest.mark.parametrize(
    ("point", "content"),
    [
        ("in the block", "old"),
        ("before rename 0", "old"),
        ("after rename 0", "old"),
        ("before rename 1", "old"),
        ("after rename 1", "new"),
    ],
)
def test_sigkill_leaves_one_whole_folder(tmp_path, point, content):
    with new_folder(tmp_path / "f") as scratch:
        (scratch / "x").write_text("old")
    result = python(KILLED, tmp_path, point)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert len(list(tmp_path.iterdir())) > 1
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == {"f/x": content.encode()}
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_leftovers_of_every_kind_are_removed_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / ".model.bin.123.tmp").write_text("half")
    (tmp_path / ".step.1.tmp").mkdir()
    (tmp_path / ".step.1.tmp" / "x").write_text("half")
    (tmp_path / ".gitignore").write_text("kept")
    (tmp_path / "notes.tmp").write_text("kept")
    remove_leftovers(tmp_path)
    assert tree(tmp_path) == {".gitignore": b"kept", "notes.tmp": b"kept"}
