"""A stored artefact comes back as it was, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from geovq.errors import CorruptArtifactError
from geovq.storage.artifact import (
    CONFIG,
    MANIFEST,
    TENSORS,
    file_hash,
    fingerprint,
    load_artifact,
    read_json,
    save_artifact,
    seal,
    verify,
)

DTYPES = [np.float32, np.float64, np.float16, np.int64, np.int32, np.uint8, np.bool_]
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
        elements=None if np.dtype(dtype).kind != "f" else {"allow_nan": False, "allow_infinity": False},
    )
)


@pytest.fixture
def stored(tmp_path):
    tensors = {"a": np.arange(3, dtype=np.float32), "b": np.array([[7]])}
    save_artifact(tmp_path / "art", {"kind": "test", "values": [1, 2.5, None]}, tensors)
    return tmp_path / "art"


@given(tensors=st.dictionaries(st.text("abc._", min_size=1, max_size=4), arrays, max_size=3))
def test_tensors_come_back_to_the_bit(tmp_path_factory, tensors):
    folder = tmp_path_factory.mktemp("artifact") / "x"
    save_artifact(folder, {"kind": "test"}, tensors)
    config, loaded = load_artifact(folder)
    assert config == {"schema": 1, "kind": "test"}
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_come_back(tmp_path):
    array = np.arange(12).reshape(3, 4)
    save_artifact(tmp_path / "x", {}, {"t": array.T, "step": array[:, ::2], "number": np.float64(3)})
    _, loaded = load_artifact(tmp_path / "x")
    assert np.array_equal(loaded["t"], array.T)
    assert np.array_equal(loaded["step"], array[:, ::2])
    assert loaded["number"].shape == ()


def test_the_same_content_has_the_same_bytes(tmp_path, stored):
    config, tensors = load_artifact(stored)
    save_artifact(tmp_path / "again", config, tensors)
    for name in (CONFIG, TENSORS, MANIFEST):
        assert (tmp_path / "again" / name).read_bytes() == (stored / name).read_bytes()


def test_the_manifest_lists_every_file_with_its_hash(stored):
    (stored / "figures").mkdir()
    (stored / "figures" / "a.png").write_bytes(b"png")
    seal(stored, "stage")
    manifest = verify(stored)
    assert manifest["stage"] == "stage"
    assert manifest["files"] == {
        name: file_hash(stored / name) for name in (CONFIG, "figures/a.png", TENSORS)
    }
    (stored / "figures" / "a.png").write_bytes(b"pnG")
    with pytest.raises(CorruptArtifactError, match=r"figures/a\.png: SHA-256 is .*altered or truncated"):
        verify(stored)


@pytest.mark.parametrize("name", [CONFIG, TENSORS, MANIFEST])
def test_no_changed_byte_goes_unnoticed(stored, name):
    generator = np.random.default_rng(0)
    path, whole, loaded = stored / name, (stored / name).read_bytes(), load_artifact(stored)
    silent = []
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= generator.integers(1, 256)
        path.write_bytes(changed)
        try:
            config, tensors = load_artifact(stored)
        except CorruptArtifactError as error:
            assert "\n" not in str(error)
            continue
        # A manifest whose white space changed still says the same.
        same = config == loaded[0] and all(np.array_equal(tensors[k], v) for k, v in loaded[1].items())
        if name != MANIFEST or not same or json.loads(bytes(changed)) != json.loads(whole):
            silent.append(position)
    assert silent == []


@pytest.mark.parametrize("name", [CONFIG, TENSORS, MANIFEST])
def test_no_truncation_or_deletion_goes_unnoticed(stored, name):
    path, whole = stored / name, (stored / name).read_bytes()
    end = len(whole.rstrip())
    shorter = [whole[:length] for length in range(end)]
    shorter += [whole[:a] + whole[a + 5 :] for a in range(0, end - 5, 3)]
    for content in [*shorter, whole + b"x", b"\x00" * len(whole)]:
        path.write_bytes(content)
        with pytest.raises(CorruptArtifactError):
            load_artifact(stored)
    path.write_bytes(whole)
    load_artifact(stored)


@pytest.mark.parametrize("name", [CONFIG, TENSORS, MANIFEST])
def test_a_missing_file_is_named(stored, name):
    (stored / name).unlink()
    with pytest.raises(CorruptArtifactError, match=f"{name}: "):
        load_artifact(stored)


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_file_that_the_manifest_does_not_list_is_not_trusted(stored, name):
    content = (stored / name).read_bytes()
    (stored / name).unlink()
    seal(stored)
    (stored / name).write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=f"does not list {name}"):
        load_artifact(stored)


def test_a_folder_in_the_place_of_a_file_is_refused(stored):
    (stored / TENSORS).unlink()
    (stored / TENSORS).mkdir()
    with pytest.raises(CorruptArtifactError, match=f"{TENSORS}: not readable: Is a directory"):
        load_artifact(stored)


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CorruptArtifactError, match="nowhere: no such folder"):
        load_artifact(tmp_path / "nowhere")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_tensors_that_are_not_finite_are_refused(tmp_path, value, dtype):
    save_artifact(tmp_path / "x", {}, {"good": np.ones(2), "bad": np.array([0, value], dtype)})
    with pytest.raises(CorruptArtifactError, match="tensor 'bad' holds NaN or infinity"):
        load_artifact(tmp_path / "x")


@pytest.mark.parametrize("schema", [0, 2, None, "1", [1]])
def test_another_schema_is_refused(stored, schema):
    (stored / CONFIG).write_text(json.dumps({"schema": schema}))
    seal(stored)
    with pytest.raises(CorruptArtifactError, match=r"config\.json: schema is .*; this version reads 1"):
        load_artifact(stored)


def test_a_manifest_of_another_schema_is_refused(stored):
    manifest = json.loads((stored / MANIFEST).read_text())
    (stored / MANIFEST).write_text(json.dumps({**manifest, "schema": 2}))
    with pytest.raises(CorruptArtifactError, match=r"manifest\.json: schema is 2; this version reads 1"):
        load_artifact(stored)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[1]",
        b"3",
        b"null",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": NaN}',
        b"9" * 5000,
    ],
    ids=["empty", "open", "not UTF-8", "list", "number", "null", "deep list", "deep object", "NaN", "digits"],
)
def test_json_that_is_not_a_plain_object_is_refused(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(CorruptArtifactError, match=r"x\.json: (not readable as JSON|holds a JSON)") as caught:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 8,
        b"\xff" * 8 + b"{}",
        (2).to_bytes(8, "little") + b"{}" + b"hole",
        b"not safetensors at all",
    ],
)
def test_a_sealed_file_that_is_not_safetensors_is_refused(stored, content):
    (stored / TENSORS).write_bytes(content)
    seal(stored)
    with pytest.raises(CorruptArtifactError, match="not a readable safetensors file"):
        load_artifact(stored)


def test_tensors_of_a_type_that_numpy_lacks_are_refused(stored):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    (stored / TENSORS).write_bytes(len(header).to_bytes(8, "little") + header + b"\x00\x00")
    seal(stored)
    with pytest.raises(CorruptArtifactError, match="not a readable safetensors file"):
        load_artifact(stored)


@given(st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value):
    backwards = dict(reversed(value.items()))
    assert fingerprint(value) == fingerprint(backwards)
    assert fingerprint(value) != fingerprint({**value, "longer key": 1})


def test_a_fingerprint_is_a_sha256():
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


def test_saving_over_an_artefact_replaces_it(stored):
    save_artifact(Path(stored), {"kind": "other"}, {"c": np.zeros(1)})
    config, tensors = load_artifact(stored)
    assert config["kind"] == "other"
    assert list(tensors) == ["c"]
