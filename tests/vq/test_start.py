"""Where codebooks start: first batches and fitted quantizers."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

from geovq.errors import CorruptArtifactError, InputError
from geovq.quantizers import KMeansQuantizer, ResidualQuantizer, ScalarQuantizer
from geovq.registry import FAMILIES, resolve
from geovq.seeding import numpy_generator
from geovq.storage.artifact import save_artifact
from geovq.vq import EMAVQ, ResidualVQ, SimVQ, read_codebook
from geovq.vq.codebook_layer import CodebookLayer

X = numpy_generator(0, "start tests").normal(size=(300, 3)).astype(np.float32)
TABLES = sorted(
    kind for kind in FAMILIES["layer"] if issubclass(resolve("layer", kind), CodebookLayer)
)  # CosineVQ keeps directions alone
FIXED = ("fsq", "lfq", "bsq")


@pytest.mark.parametrize("kind", TABLES)
def test_a_layer_that_starts_from_a_fitted_quantizer_gives_its_codes(kind, tmp_path):
    fitted = KMeansQuantizer(16, random_state=0).fit(X)
    fitted.save(tmp_path / "kmeans")
    layer = resolve("layer", kind)(3, 16)
    layer.start_from(read_codebook(tmp_path / "kmeans"))
    assert layer.eval()(torch.from_numpy(X)).codes.tolist() == fitted.predict(X).tolist()


@pytest.mark.parametrize("kind", [kind for kind in TABLES if kind not in ("optvq", "gumbel")])
def test_training_goes_on_from_there_without_another_start(kind):
    fitted = KMeansQuantizer(16, random_state=0).fit(X)
    layer = resolve("layer", kind)(3, 16)
    layer.start_from(torch.from_numpy(fitted.codebook_))
    found = layer.train()(torch.from_numpy(X))
    assert found.codes.tolist() == fitted.predict(X).tolist()


def test_residual_levels_start_from_a_fitted_residual_quantizer(tmp_path):
    fitted = ResidualQuantizer(8, n_levels=3, beam=4, random_state=0).fit(X)
    fitted.save(tmp_path / "residual")
    layer = ResidualVQ(3, {"kind": "ema", "params": {"n_codes": 8}}, 3, beam=4)
    layer.start_from(read_codebook(tmp_path / "residual"))
    assert layer.eval()(torch.from_numpy(X)).codes.tolist() == fitted.predict(X).tolist()
    assert layer.train()(torch.from_numpy(X)).codes.shape == (300, 3)


def test_levels_of_different_sizes_are_read(tmp_path):
    fitted = ScalarQuantizer(4, allotment="variance").fit(X * [9, 3, 1])
    fitted.save(tmp_path / "scalar")
    books = read_codebook(tmp_path / "scalar")
    assert [book.shape[0] for book in books] == [len(book) for book in fitted.codebook_]


@pytest.mark.parametrize("kind", FIXED)
def test_a_fixed_codebook_cannot_start_from_another(kind):
    layer = resolve("layer", kind)(3, *([(4, 4, 4)] if kind == "fsq" else []))
    with pytest.raises(InputError, match="codebook is fixed by construction"):
        layer.start_from(torch.zeros(64, 3))


@pytest.mark.parametrize("kind", [*TABLES, "cosine"])
def test_a_codebook_of_another_size_is_refused(kind):
    layer = resolve("layer", kind)(3, 16)
    with pytest.raises(InputError, match=r"has shape \(8, 3\); expected \(16, 3\), n_codes and dim"):
        layer.start_from(torch.zeros(8, 3))
    with pytest.raises(InputError, match="has 2 levels; expected 1, a code a vector"):
        layer.start_from(torch.zeros(2, 16, 3))


def test_a_folder_that_holds_no_quantizer_is_refused(tmp_path):
    save_artifact(tmp_path / "else", {"type": "prior"}, {"weights": np.zeros(3)})
    with pytest.raises(CorruptArtifactError, match="holds type 'prior'; expected a quantizer"):
        read_codebook(tmp_path / "else")


def test_a_random_start_is_normal_and_keyed_by_the_seed():
    books = [EMAVQ(4, 512, start="random", seed=seed).codebook for seed in (0, 0, 1)]
    assert torch.equal(books[0], books[1])
    assert not torch.equal(books[0], books[2])
    assert books[0].std() == pytest.approx(1, abs=0.1)


def test_simvq_starts_as_the_paper_does():
    layer = SimVQ(4, 512)
    assert "start" in inspect.signature(SimVQ).parameters
    assert layer.codebook.detach().square().sum(1).mean() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("kind", [*TABLES, "cosine"])
def test_a_codebook_with_numbers_that_are_not_finite_is_refused(kind):
    layer = resolve("layer", kind)(3, 16)
    table = torch.zeros(16, 3)
    table[3, 1] = torch.nan
    with pytest.raises(InputError, match="has 1 numbers that are not finite"):
        layer.start_from(table)


def test_an_array_is_a_codebook_too():
    layer = EMAVQ(3, 16)
    layer.start_from(X[:16])
    assert np.array_equal(layer.codebook.numpy(), X[:16])


@pytest.mark.parametrize("wrong", [torch.zeros(7, 3), torch.full((8, 3), torch.inf)])
def test_no_level_changes_if_one_is_refused(wrong):
    layer = ResidualVQ(3, {"kind": "ema", "params": {"n_codes": 8}}, 2)
    before = layer.codebook.clone()
    with pytest.raises(InputError, match="ResidualVQ level 1: the codebook to start from has"):
        layer.start_from([torch.zeros(8, 3), wrong])
    assert torch.equal(layer.codebook, before)
    assert layer.levels[0].awaits_start
