"""Codes on disk come back with their layout, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from geovq.errors import CorruptArtifactError, InputError
from geovq.storage.artifact import CONFIG, TENSORS, load_artifact, save_artifact
from geovq.tokenizer import CodeGrid, CodeLayout, StoredCodes, load_codes, save_codes

LAYOUT = CodeLayout((CodeGrid("top", 1, 2, (3, 70_000)), CodeGrid("bottom", 2, 2, (7,))))


@pytest.fixture
def stored() -> StoredCodes:
    generator = np.random.default_rng(0)
    splits = {
        split: generator.integers(0, LAYOUT.slot_alphabets, (n, LAYOUT.n_slots))
        for split, n in (("train", 20), ("validation", 5), ("test", 1))
    }
    return StoredCodes(LAYOUT, "fingerprint of the tokenizer", splits)


def test_codes_come_back(stored, tmp_path):
    save_codes(tmp_path / "codes", stored, "fingerprint of the data")
    loaded = load_codes(tmp_path / "codes")
    assert loaded.layout == LAYOUT
    assert loaded.tokenizer_fingerprint == "fingerprint of the tokenizer"
    assert loaded.splits.keys() == stored.splits.keys()
    for split, codes in stored.splits.items():
        assert loaded.splits[split].dtype == np.int64
        assert np.array_equal(loaded.splits[split], codes)
    assert load_artifact(tmp_path / "codes")[0]["data"] == "fingerprint of the data"


def test_further_arrays_lie_beside_the_codes(stored, tmp_path):
    labels = np.arange(20)
    save_codes(tmp_path / "codes", stored, "data", extra={"train.labels": labels})
    assert load_codes(tmp_path / "codes").splits.keys() == stored.splits.keys()
    assert np.array_equal(load_artifact(tmp_path / "codes")[1]["train.labels"], labels)


def test_codes_outside_their_layout_are_not_stored(stored, tmp_path):
    stored.splits["test"][0, 0] = 3
    with pytest.raises(InputError, match="code 3 of image 0, slot 0 is outside its alphabet"):
        save_codes(tmp_path / "codes", stored, "data")
    assert not (tmp_path / "codes").exists()


@pytest.mark.parametrize("name", [CONFIG, TENSORS])
def test_a_damaged_folder_is_refused(stored, name, tmp_path):
    save_codes(tmp_path / "codes", stored, "data")
    content = (tmp_path / "codes" / name).read_bytes()
    (tmp_path / "codes" / name).write_bytes(content[:-1])
    with pytest.raises(CorruptArtifactError, match=f"{name}: SHA-256"):
        load_codes(tmp_path / "codes")


def test_another_kind_of_artefact_is_refused(tmp_path):
    save_artifact(tmp_path / "x", {"kind": "latent"}, {})
    with pytest.raises(CorruptArtifactError, match="holds a 'latent'; expected codes"):
        load_codes(tmp_path / "x")
