"""Paths and clusters of a run: they begin and end at real images, and are the same every time."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

from geovq.config import RunConfig
from geovq.data import load, to_bytes
from geovq.pipeline.context import Context
from geovq.pipeline.latent_clusters import arm_with_clusters, draw_clusters, matched
from geovq.pipeline.latent_paths import N_PAIRS, N_STEPS, draw_pairs, draw_paths, models_with_paths
from geovq.pipeline.run import run_recipe
from geovq.pipeline.stages import Stages
from geovq.pipeline.tokenizers import load_tokenizer
from geovq.reports import write_report
from geovq.seeding import numpy_generator
from geovq.storage.artifact import load_artifact, save_artifact
from geovq.tokenizer.latent import LatentTokenizer

ROOMS = ("paths/vae/0", "clusters/geodesic/24/0")


def context(config: RunConfig, folder: Path) -> Context:
    return Context(config, load(config.data), Stages(folder, [], lambda line: None), {})


def frozen_tokenizer(run: Context) -> LatentTokenizer:
    """A tokenizer whose decoder is the one that was trained with the latents."""
    (arm,) = (arm for arm in run.arms if arm.name == "kmeans")
    return load_tokenizer(run, arm, 0)


@pytest.fixture
def copy(small_run: Path, tmp_path: Path) -> Path:
    out = tmp_path / "run"
    shutil.copytree(small_run, out)
    return out


def test_paths_begin_and_end_at_the_latents_of_two_images(small_run: Path) -> None:
    config, tensors = load_artifact(small_run / ROOMS[0])
    _, latents = load_artifact(small_run / "latents/vae/0")
    ends = latents["train.mean"][tensors["ends"]]
    assert len(config["pairs"]) == len(ends) == N_PAIRS
    for kind in ("graph", "line"):
        points = tensors[f"{kind}.latents"]
        assert points.shape == (N_PAIRS, N_STEPS, 16)
        np.testing.assert_array_equal(points[:, [0, -1]], ends)
    middle = tensors["line.latents"][:, N_STEPS // 2]
    np.testing.assert_allclose(middle, ends.mean(1), atol=1e-6)


def test_images_are_decoded_from_the_path_and_blended_from_the_originals(
    small_run: Path, small_config: RunConfig
) -> None:
    run = context(small_config, small_run)
    _, tensors = load_artifact(small_run / ROOMS[0])
    frozen = frozen_tokenizer(run)
    (tuned,) = (arm for arm in run.arms if arm.name == "residual+tuned")
    other = load_tokenizer(run, tuned, 0)
    for kind in ("graph", "line"):
        points = tensors[f"{kind}.latents"].reshape(-1, 16)
        shown = tensors[kind].reshape(-1, 1, 8, 8)
        assert np.abs(to_bytes(frozen.decode_latents(points)).astype(int) - shown).max() <= 1
        assert np.abs(to_bytes(other.decode_latents(points)).astype(int) - shown).max() > 1
    originals = run.splits.train.images(tensors["ends"].ravel()).reshape(N_PAIRS, 2, 1, 8, 8)
    np.testing.assert_array_equal(tensors["blend"][:, [0, -1]], to_bytes(originals))
    middle = tensors["blend"][:, N_STEPS // 2].astype(int)
    assert np.abs(middle - 255 * originals.mean(1)).max() <= 0.51


def test_numbers_of_a_path_say_what_was_decoded(small_run: Path, small_config: RunConfig) -> None:
    config, tensors = load_artifact(small_run / ROOMS[0])
    run = context(small_config, small_run)
    labels = run.splits.train.labels
    assert labels is not None
    decode = frozen_tokenizer(run).decode_latents
    for place, pair in enumerate(config["pairs"]):
        assert pair["classes"] == labels[tensors["ends"][place]].tolist()
        assert pair["nodes"] >= 2
        for kind in ("graph", "line"):
            images = decode(tensors[f"{kind}.latents"][place]).reshape(N_STEPS, -1)
            shown = np.sqrt(np.square(np.diff(images, axis=0)).sum(1)).sum()
            assert pair["direct"] == pytest.approx(np.linalg.norm(images[-1] - images[0]), rel=1e-4)
            # The length is measured at more points than are shown, those among them: it cannot be less.
            assert pair["direct"] < 0.9999 * shown < pair["lengths"][kind] < 2 * shown
        assert set(pair["recoded_mse"]) == {"graph", "line", "blend"}
        assert all(0 <= error < 0.2 for error in pair["recoded_mse"].values())


@pytest.mark.parametrize("n_classes", [2, 3, 7, 12])
def test_pairs_are_of_two_classes_each(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    labels = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=60)])
    pairs = draw_pairs(rng.normal(size=(len(labels), 3)), labels, numpy_generator(0, "paths"))
    assert pairs.shape == (N_PAIRS, 2)
    assert (labels[pairs[:, 0]] != labels[pairs[:, 1]]).all()
    assert len(np.unique(labels[pairs])) == min(n_classes, 2 * N_PAIRS)


@pytest.mark.parametrize("labels", [None, np.zeros(40, np.int64)])
def test_without_classes_pairs_are_far_apart(labels: np.ndarray | None) -> None:
    latents = np.random.default_rng(0).normal(size=(40, 3))
    pairs = draw_pairs(latents, labels, numpy_generator(0, "paths"))
    assert len(np.unique(pairs)) == 2 * N_PAIRS
    apart = np.linalg.norm(latents[pairs[:, 0]] - latents[pairs[:, 1]], axis=1)
    assert (np.diff(apart) <= 0).all()
    assert apart.min() > np.median(cdist(latents, latents))


def test_pairs_of_the_fewest_images_there_can_be() -> None:
    latents = np.random.default_rng(0).normal(size=(8, 3))
    pairs = draw_pairs(latents, None, numpy_generator(0, "paths"))
    assert sorted(pairs.ravel().tolist()) == list(range(8))


def test_clusters_belong_to_all_tokens_of_some_images(small_run: Path, small_config: RunConfig) -> None:
    config, tensors = load_artifact(small_run / ROOMS[1])
    labels = context(small_config, small_run).splits.train.labels
    assert labels is not None
    assert tensors["coordinates"].shape == (1000, 2)
    images, counts = np.unique(tensors["images"], return_counts=True)
    assert len(images) == 250 and (counts == 4).all()
    np.testing.assert_array_equal(tensors["classes"], labels[tensors["images"]])
    for kind in ("geodesic", "euclidean"):
        assert set(tensors[kind].tolist()) == set(range(10))
    found = adjusted_rand_score(tensors["geodesic"], tensors["euclidean"])
    assert config["agreement_ari"] == pytest.approx(found)
    found = adjusted_rand_score(tensors["classes"], tensors["euclidean"])
    assert config["euclidean_class_ari"] == pytest.approx(found)


def test_equal_colours_mean_overlapping_clusters(small_run: Path) -> None:
    _, tensors = load_artifact(small_run / ROOMS[1])
    agree = (tensors["geodesic"] == tensors["euclidean"]).mean()
    rng = np.random.default_rng(0)
    for other in [rng.permutation(10) for _ in range(200)]:
        assert (tensors["geodesic"] == other[tensors["euclidean"]]).mean() <= agree


def test_matching_undoes_a_renumbering() -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(10, size=300)
    renamed = rng.permutation(10)[reference]
    np.testing.assert_array_equal(matched(renamed, reference, 10), reference)
    noisy = np.where(rng.random(300) < 0.2, rng.integers(10, size=300), renamed)
    assert (matched(noisy, reference, 10) == reference).mean() > 0.75
    assert len(np.unique(matched(np.arange(10), np.zeros(10, np.int64), 10))) == 10


def test_only_the_first_seed_is_drawn(small_run: Path) -> None:
    found = sorted(path.parent.relative_to(small_run).as_posix() for room in ("paths", "clusters")
                   for path in (small_run / room).rglob("model.safetensors"))  # fmt: skip
    assert found == sorted(ROOMS)


def test_a_removed_picture_is_drawn_again_with_the_same_bytes(copy: Path, small_config: RunConfig) -> None:
    whole = [(copy / room / "model.safetensors").read_bytes() for room in ROOMS]
    page = (copy / "report.html").read_bytes()
    for room in ROOMS:
        shutil.rmtree(copy / room)
    told: list[str] = []
    run_recipe(small_config, copy, command="geovq run digits", tell=told.append)
    assert told == ["paths: vae, seed 0", "clusters: geodesic, seed 0"]
    assert [(copy / room / "model.safetensors").read_bytes() for room in ROOMS] == whole
    assert len((copy / "report.html").read_bytes()) == pytest.approx(len(page), rel=0.01)


def test_a_run_without_frozen_latents_has_no_pictures(small_config: RunConfig, tmp_path: Path) -> None:
    arms = {arm.name: arm for arm in small_config.arms}
    trained = dataclasses.replace(small_config, arms=(arms["continuous"], arms["ema"]))
    run = context(trained, tmp_path)
    assert models_with_paths(run) == [] and arm_with_clusters(run) is None
    run = context(dataclasses.replace(small_config, arms=(arms["kmeans"],)), tmp_path)
    assert models_with_paths(run) == ["vae"] and arm_with_clusters(run) is None


def test_collapsed_latents_do_not_end_the_run(copy: Path, small_config: RunConfig) -> None:
    config, latents = load_artifact(copy / "latents/vae/0")
    flat = {name: np.zeros_like(array) + name.endswith("sigma") for name, array in latents.items()}
    save_artifact(copy / "latents/vae/0", config, flat)
    for room in ROOMS:
        shutil.rmtree(copy / room)
    run = context(small_config, copy)
    facts, tensors = load_artifact(draw_paths(run, "vae", 0))
    assert [pair["direct"] for pair in facts["pairs"]] == [0.0] * N_PAIRS
    assert (tensors["graph"] == tensors["graph"][0, 0]).all()
    arm = arm_with_clusters(run)
    assert arm is not None
    assert load_artifact(draw_clusters(run, arm, 0))[1] == {}
    text = write_report(copy).read_text()
    assert "No clusters are stored" in text and "From one image to another" in text
