"""A stored prior is the same prior, knows its tokenizer, and is refused when damaged."""

import json

import numpy as np
import pytest
from prior_cases import KINDS, LAYOUTS, example, random_codes

from geovq.errors import ConfigError, CorruptArtifactError
from geovq.priors import UniformPrior, load_prior, save_prior
from geovq.storage.artifact import load_artifact, save_artifact

HIERARCHICAL = LAYOUTS["hierarchical"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_loaded_prior_scores_and_samples_the_same(tmp_path, kind, layout):
    prior = example(kind, layout)
    save_prior(tmp_path / "prior", prior, "abc123", tmp_path / "tokenizer")
    loaded, info = load_prior(tmp_path / "prior")
    assert type(loaded) is type(prior)
    assert loaded.layout == layout
    assert loaded.params == prior.params
    assert (info.kind, info.tokenizer_fingerprint) == (kind, "abc123")
    codes = random_codes(layout, 20)
    np.testing.assert_array_equal(loaded.nll(codes), prior.nll(codes))
    np.testing.assert_array_equal(loaded.sample(20, seed=3), prior.sample(20, seed=3))


def test_classes_and_eval_mode_survive(tmp_path):
    prior = example("transformer", HIERARCHICAL, n_classes=3, dropout=0.5).train()
    save_prior(tmp_path / "prior", prior, "", tmp_path)
    loaded, _ = load_prior(tmp_path / "prior")
    assert not loaded.training
    assert loaded.n_classes == 3
    np.testing.assert_array_equal(loaded.sample(5, labels=[2] * 5), prior.sample(5, labels=[2] * 5))


def test_prior_and_tokenizer_can_be_moved_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_prior("run/priors/kmeans", UniformPrior(HIERARCHICAL), "abc", "run/tokenizers/kmeans")
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir("/")
    _, info = load_prior(tmp_path / "moved/priors/kmeans")
    assert info.tokenizer_path == tmp_path / "moved/tokenizers/kmeans"
    stored = json.loads((tmp_path / "moved/priors/kmeans/config.json").read_text())
    assert stored["tokenizer"]["path"] == "../../tokenizers/kmeans"


def test_saving_replaces_what_is_there(tmp_path):
    save_prior(tmp_path / "prior", example("transformer", HIERARCHICAL), "a", tmp_path)
    save_prior(tmp_path / "prior", UniformPrior(HIERARCHICAL), "b", tmp_path)
    loaded, info = load_prior(tmp_path / "prior")
    assert isinstance(loaded, UniformPrior)
    assert info.tokenizer_fingerprint == "b"


def test_only_registered_priors_can_be_saved(tmp_path):
    class Homemade(UniformPrior):
        pass

    with pytest.raises(ConfigError, match="Homemade is not registered as a prior"):
        save_prior(tmp_path / "prior", Homemade(HIERARCHICAL), "", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stored(tmp_path):
    folder = tmp_path / "prior"
    save_prior(folder, example("transformer", HIERARCHICAL), "abc", tmp_path / "tokenizer")
    return folder, *load_artifact(folder)


@pytest.mark.parametrize("key", ["kind", "layout", "params", "tokenizer"])
def test_a_config_without_a_key_is_refused(stored, key):
    folder, config, tensors = stored
    del config[key]
    save_artifact(folder, config, tensors)
    message = rf"config\.json: does not describe a prior \(KeyError: '{key}'\)"
    with pytest.raises(CorruptArtifactError, match=message):
        load_prior(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"layout": 3},
        {"layout": [{"name": "g"}]},
        {"tokenizer": "path"},
        {"tokenizer": {"fingerprint": "abc", "path": 3}},
        {"params": [1]},
        {"kind": 7},
    ],
    ids=str,
)
def test_a_config_of_the_wrong_form_is_refused(stored, change):
    folder, config, tensors = stored
    save_artifact(folder, {**config, **change}, tensors)
    with pytest.raises(CorruptArtifactError, match="does not describe a prior"):
        load_prior(folder)


def test_unknown_kinds_and_parameters_are_named(stored):
    folder, config, tensors = stored
    save_artifact(folder, {**config, "kind": "transfromer"}, tensors)
    with pytest.raises(ConfigError, match=r"config\.json: unknown prior 'transfromer'; did you mean"):
        load_prior(folder)
    save_artifact(folder, {**config, "params": {"widht": 16}}, tensors)
    with pytest.raises(ConfigError, match=r"config\.json: unknown parameter of prior 'transformer' 'widht'"):
        load_prior(folder)


def test_tensors_of_another_form_are_refused(stored):
    folder, config, tensors = stored
    start = tensors["start"]
    for changed, message in [
        ({"start": start[:-1]}, r"'start' is float32 \(15,\); its prior's is float32 \(16,\)"),
        ({"start": start.astype(np.float64)}, r"'start' is float64 \(16,\)"),
        ({"extra": np.zeros(2)}, r"'extra' is float64 \(2,\); its prior's is missing"),
    ]:
        save_artifact(folder, config, {**tensors, **changed})
        with pytest.raises(CorruptArtifactError, match=message):
            load_prior(folder)
    save_artifact(folder, config, {k: v for k, v in tensors.items() if k != "start"})
    with pytest.raises(CorruptArtifactError, match="'start' is missing"):
        load_prior(folder)


def test_a_damaged_file_is_refused(stored):
    folder = stored[0]
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError, match="SHA-256"):
        load_prior(folder)
