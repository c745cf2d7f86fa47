"""The codebook atlas of a run: every tile and example against the tokenizer itself, used the long way."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from geovq.config import RunConfig
from geovq.data import load, to_bytes
from geovq.models.cut import token_dim
from geovq.pipeline.codebook_atlas import (
    CodeTables,
    code_tables,
    decoded_alone,
    nearest_images,
    share_of_images,
    tokens_of_latents,
)
from geovq.pipeline.run import run_recipe
from geovq.quantizers import KMeansQuantizer, ResidualQuantizer
from geovq.seeding import numpy_generator, seeded_weights
from geovq.storage.artifact import load_artifact, read_json
from geovq.tokenizer import LatentTokenizer
from geovq.tokenizer.codes import load_codes
from geovq.tokenizer.latent_map import LatentMap

CASES = {
    "chunks": ((8,), (2, 2), None),
    "levels": ((8,), (1, 1), 3),
    "mapped levels of chunks": ((8,), (1, 2), 2),
    "map": ((4, 2, 2), (2, 2), None),
    "levels of a map": ((4, 2, 2), (2, 2), 2),
}


class BentDecoder(nn.Module):
    """Latents to images (1, 4, 4), not linear."""

    def __init__(self, n_latents: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n_latents, 16)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.linear(latents.flatten(1))).reshape(-1, 1, 4, 4)


def tokenizer_of(case: str) -> tuple[LatentTokenizer, np.ndarray]:
    """A tokenizer of few codes, and latents of 200 images."""
    shape, grid, n_levels = CASES[case]
    draw = numpy_generator(0, case)
    latents = (draw.normal(size=(200, *shape)) + draw.normal(size=shape)).astype(np.float32)
    latent_map = LatentMap(draw.normal(size=(8, 8)) + 3 * np.eye(8)) if case.startswith("mapped") else None
    some_tokens = draw.normal(size=(9, token_dim(shape, grid)))
    with seeded_weights(0, case):
        decoder = BentDecoder(int(np.prod(shape)))
    empty = LatentTokenizer(
        nn.Identity(),
        decoder,
        KMeansQuantizer(2, random_state=0).fit(some_tokens).as_module(),
        image_shape=(1, 4, 4),
        latent_shape=shape,
        tokens=grid,
        latent_map=latent_map,
    )
    tokens = tokens_of_latents(empty, latents)
    quantizer = (
        KMeansQuantizer(6, random_state=0)
        if n_levels is None
        else ResidualQuantizer(n_codes=6, n_levels=n_levels, random_state=0)
    )
    fitted = quantizer.fit(tokens.reshape(-1, tokens.shape[2]))
    return empty.changed(quantizer=fitted.as_module()), latents


@pytest.mark.parametrize("case", CASES)
def test_tables_say_what_the_tokenizer_looks_up(case: str) -> None:
    tokenizer, latents = tokenizer_of(case)
    codes = tokenizer.encode_latents(latents, np.zeros_like(latents))
    tables = code_tables(tokenizer, codes)
    quantized = tokens_of_latents(tokenizer, tokenizer.lookup(codes))
    per_token = codes.reshape(len(codes), quantized.shape[1], -1)
    summed = tables.origin + sum(step[per_token[..., level]] for level, step in enumerate(tables.steps))
    np.testing.assert_allclose(summed, quantized, atol=2e-5)
    np.testing.assert_allclose(tables.mean_tokens, quantized.mean(0), atol=2e-5)
    for share in tables.shares:
        np.testing.assert_allclose(share.sum(1), 1)


@pytest.mark.parametrize("case", CASES)
def test_a_code_is_decoded_with_everything_else_at_its_mean(case: str) -> None:
    tokenizer, latents = tokenizer_of(case)
    codes = tokenizer.encode_latents(latents, np.zeros_like(latents))
    tables = code_tables(tokenizer, codes)
    n_levels = len(tables.steps)
    for level in range(n_levels):
        images = decoded_alone(tokenizer, tables, level, np.arange(6))
        per_token = codes.reshape(len(codes), -1, n_levels)[..., level]
        for code, image in enumerate(images):
            place = int(np.argmax((per_token == code).sum(0)))
            replaced = codes.copy()
            replaced[:, place * n_levels + level] = code
            mean = tokenizer.lookup(replaced).mean(0, dtype=np.float64).astype(np.float32)
            np.testing.assert_allclose(image, tokenizer.decode_latents(mean[None])[0], atol=1e-5)


@pytest.mark.parametrize("case", ["chunks", "map"])
def test_examples_are_the_users_of_a_code_that_are_nearest_to_it(case: str) -> None:
    tokenizer, latents = tokenizer_of(case)
    codes = tokenizer.encode_latents(latents, np.zeros_like(latents))
    tokens = tokens_of_latents(tokenizer, latents)
    vectors = tokens_of_latents(tokenizer, tokenizer.lookup(np.repeat(np.arange(6)[:, None], 4, 1)))[:, 0]
    wanted = np.array([4, 0, 5])
    found = nearest_images(code_tables(tokenizer, codes), tokens, codes[..., None], 0, wanted)
    for row, code in zip(found, wanted, strict=True):
        distances = np.square(tokens - vectors[code]).sum(2)
        distances[codes != code] = np.inf
        of_image = distances.min(1)
        assert len(set(row.tolist())) == 3
        np.testing.assert_allclose(of_image[row], np.sort(of_image)[:3], rtol=1e-4)


def test_a_level_is_compared_after_those_before_it_and_where_it_changes_anything() -> None:
    # Level 0 codes the first coordinate, level 1 what is left of both, level 2 nothing but the third.
    steps = [
        np.array([[0.0, 0, 0], [10, 0, 0]]),
        np.array([[0.0, 0, 0], [1, 1, 0]]),
        np.array([[0.0, 0, 0], [0, 0, 5]]),
    ]
    shares = [np.array([[0.5, 0.5]])] * 3
    tables = CodeTables(np.zeros(3), steps, shares)
    tokens = np.array([[[10.2, 0, 9]], [[10.9, 1.1, 0]], [[10.4, 0.0, 0]], [[0.9, 0.9, 5.1]], [[0.5, 0, 4]]])
    codes = np.array([[1, 0, 1], [1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1]])[:, None]
    # Those after at their mean, (0.5, 0.5, 2.5): nearest to 10.5 of the users 0, 1, 2 is image 2.
    assert nearest_images(tables, tokens, codes, 0, np.array([1])).tolist() == [[2, 0, 1]]
    assert nearest_images(tables, tokens, codes, 1, np.array([1, 0])).tolist() == [[1, 3, -1], [0, 2, 4]]
    assert nearest_images(tables, tokens, codes, 2, np.array([1])).tolist() == [[3, 4, 0]]


def test_an_image_that_uses_a_code_twice_is_one_example_and_one_use() -> None:
    tables = CodeTables(np.zeros(1), [np.array([[0.0], [1.0]])], [np.full((2, 2), 0.5)])
    codes = np.array([[1, 1], [0, 1], [0, 0]])
    tokens = np.array([[[1.0], [1.1]], [[0.0], [1.5]], [[0.0], [0.1]]])
    assert nearest_images(tables, tokens, codes[..., None], 0, np.array([1])).tolist() == [[0, 1, -1]]
    np.testing.assert_allclose(share_of_images(codes, 3), [2 / 3, 2 / 3, 0])


def atlases(folder: Path) -> dict[str, Path]:
    return {path.parent.parent.parent.name: path.parent for path in folder.glob("atlas/*/*/*/config.json")}


def test_the_best_arm_of_each_kind_has_its_atlas_at_the_first_seed(small_run: Path) -> None:
    best = read_json(small_run / "run.json")["best_arms"]
    assert set(atlases(small_run)) == set(best) and len(best) == 2
    assert {path.name for path in atlases(small_run).values()} == {"0"}


def test_the_stored_atlas_shows_the_run_s_own_codes_and_images(
    small_run: Path, small_config: RunConfig
) -> None:
    test = load(small_config.data).test
    for arm, folder in atlases(small_run).items():
        config, tensors = load_artifact(folder)
        tokenizer = LatentTokenizer.from_pretrained(small_run / "tokenizers" / arm / "24" / "0")
        own = small_run / "codes" / arm / "24" / "0"
        stored = load_codes(
            own if own.exists() else small_run / "codes" / arm.split("+tuned")[0] / "24" / "0"
        )
        (grid,) = stored.layout.grids
        parts = stored.splits["test"].reshape(len(test), -1, len(grid.n_codes))
        assert config["n_images"] == len(test) and len(config["levels"]) == len(grid.n_codes)
        tables = code_tables(tokenizer, stored.splits["train"])
        for level, facts in enumerate(config["levels"]):
            shown, featured = tensors[f"{level}.codes"], tensors[f"{level}.featured"]
            use = np.asarray(facts["use"])
            np.testing.assert_allclose(
                use, [(parts[..., level] == code).any(1).mean() for code in range(facts["n_codes"])]
            )
            assert (np.diff(use[shown]) <= 0).all() and use[shown].min() >= np.delete(use, shown).max(
                initial=0
            )
            images = decoded_alone(tokenizer, tables, level, shown)
            if facts["full_change"] is None:
                assert level == 0
                np.testing.assert_array_equal(tensors[f"{level}.tiles"], to_bytes(images))
            else:
                tiles = tensors[f"{level}.tiles"].reshape(len(shown), -1) / 255
                full = (tiles < 1 / 255) | (tiles > 254 / 255)
                assert 0.4 < full.any(1).mean() < 1  # half of the codes change as much as the scale shows
            examples, pictures = tensors[f"{level}.examples"], tensors[f"{level}.images"]
            assert (use[shown[featured]] > 0).all()
            for code, rows, shown_images in zip(shown[featured], examples, pictures, strict=True):
                real = rows[rows >= 0]
                assert len(real) == min(3, round(use[code] * len(test)))
                assert (parts[real][..., level] == code).any(1).all()
                np.testing.assert_array_equal(shown_images[: len(real)], to_bytes(test.images(real)))
                assert (shown_images[len(real) :] == 255).all()


def test_a_removed_atlas_is_drawn_again_with_the_same_bytes(
    small_run: Path, small_config: RunConfig, tmp_path: Path
) -> None:
    copy = shutil.copytree(small_run, tmp_path / "run")
    arm, folder = next(iter(atlases(copy).items()))
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    shutil.rmtree(folder)
    told: list[str] = []
    run_recipe(small_config, copy, command="geovq run digits", tell=told.append)
    assert told == [f"atlas: {arm}, seed 0"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
