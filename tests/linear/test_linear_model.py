"""Data of low rank, the linear autoencoder, its metrics, its start, and what principal subspaces allow."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geovq.errors import InputError
from geovq.linear import LinearVQVAE, evaluate, low_rank_gaussian, pca_lloyd, pca_lloyd_converged
from geovq.linear.start import (
    kmeans_plus_plus,
    lloyd_step,
    paired_start,
    principal_subspace,
    to_fixed_point,
)
from geovq.seeding import torch_generator


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, f"model {shape}"))


def squared_distances(latents, codebook):
    return (latents[:, None] - codebook).square().sum(-1)


def test_the_data_have_the_rank_and_the_variances_that_were_asked_for():
    X = low_rank_gaussian(40_000, 8, 3, seed=0, part="train")
    variances = torch.linalg.eigvalsh(X.T @ X / len(X)).flip(0)
    assert X.dtype == torch.float64
    assert variances[:3].tolist() == pytest.approx([4, 1, 0.25], rel=0.03)
    assert variances[3:].abs().max() < 1e-12


def test_both_parts_have_one_distribution_and_different_points():
    train, evaluation = (low_rank_gaussian(5000, 8, 3, seed=1, part=p) for p in ("train", "evaluation"))
    axes = principal_subspace(train, 3)
    assert torch.allclose(evaluation @ axes.T @ axes, evaluation, atol=1e-10)
    spread = (evaluation @ axes.T).square().mean(0)
    assert spread.tolist() == pytest.approx([4, 1, 0.25], rel=0.1)
    assert (train - evaluation).abs().min(0).values.min() > 0


def test_another_seed_gives_other_axes():
    one, other = (low_rank_gaussian(100, 8, 3, seed=seed, part="train") for seed in (0, 1))
    axes = principal_subspace(one, 3)
    assert not torch.allclose(other @ axes.T @ axes, other, atol=0.1)


def test_fewer_points_are_the_first_of_more():
    few, many = (low_rank_gaussian(n, 8, 3, seed=0, part="train") for n in (10, 100))
    assert torch.allclose(few, many[:10], rtol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 9}, "rank is 9 and D 8; expected 1 <= rank <= D"),
        ({"rank": 0}, "rank is 0 and D 8"),
        ({"n": 0}, "n is 0; expected at least 1 point"),
        ({"part": "eval"}, "unknown part 'eval'; did you mean 'evaluation'"),
    ],
)
def test_data_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(InputError, match=f"^{message}"):
        low_rank_gaussian(**{"n": 10, "D": 8, "rank": 3, "seed": 0, "part": "train"} | arguments)


def test_a_model_encodes_quantizes_and_decodes():
    model = LinearVQVAE(torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0], [2.0]]).double())
    X = torch.tensor([[1.5, 3.0], [-4.0, 1.0], [1.0, 0.0]]).double()
    assert model.encode(X).tolist() == [[1.5], [-4], [1]]
    assert model.codes(X).tolist() == [1, 0, 0]
    assert model.quantize(model.encode(X)).tolist() == [[2], [0], [0]]
    assert model.reconstruct(X).tolist() == [[2, 0], [0, 0], [0, 0]]
    assert evaluate(model, X) == pytest.approx(
        {
            "sse_per_sample": (0.25 + 9 + 16 + 1 + 1) / 3,
            "in_subspace_distortion": (0.25 + 16 + 1) / 3,
            "usage_entropy_nats": math.log(3) - 2 / 3 * math.log(2),
            "dead_fraction": 0.0,
        }
    )


def test_entropy_is_that_of_even_use_and_dead_codes_are_counted():
    codes = torch.tensor([[0.0], [10.0], [20.0], [90.0], [99.0]]).double()
    model = LinearVQVAE(torch.ones(1, 1).double(), codes)
    metrics = evaluate(model, codes[:3].repeat(4, 1))
    assert metrics["usage_entropy_nats"] == pytest.approx(math.log(3))
    assert metrics["dead_fraction"] == pytest.approx(0.4)
    assert evaluate(model, codes[:1])["usage_entropy_nats"] == 0


@given(st.integers(0, 1000), st.integers(1, 6))
def test_with_orthonormal_rows_the_error_is_what_is_outside_plus_the_distortion(seed, m):
    W, X = torch.linalg.qr(normal(6, m, seed=seed)).Q.T, normal(20, 6, seed=seed)
    model = LinearVQVAE(W, normal(4, m, seed=seed))
    outside = float((X.square().sum() - (X @ W.T).square().sum()) / len(X))
    metrics = evaluate(model, X)
    assert model.orthonormality_error < 1e-12
    assert metrics["sse_per_sample"] == pytest.approx(outside + metrics["in_subspace_distortion"], abs=1e-10)


def test_the_orthonormality_error_is_the_largest_entry():
    longer, shorter = torch.tensor([[1.0, 0.0], [0.5, 2.0]]), torch.tensor([[0.5, 0.0], [0.0, 1.0]])
    assert LinearVQVAE(longer.double(), normal(3, 2)).orthonormality_error == 3.25
    assert LinearVQVAE(shorter.double(), normal(3, 2)).orthonormality_error == 0.75


def test_matrices_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"^W has shape \(2, 4\) and E \(3, 5\); expected \(m, D\) and"):
        LinearVQVAE(normal(2, 4), normal(3, 5))


@given(st.integers(0, 1000), st.integers(1, 5))
def test_the_principal_subspace_loses_the_dropped_eigenvalues_and_no_other_loses_less(seed, m):
    X = normal(30, 5, seed=seed) * torch.tensor([3, 2, 1, 0.5, 0.1]).double() + 1.0
    W = principal_subspace(X, m)
    dropped = torch.linalg.eigvalsh(X.T @ X / len(X))[: 5 - m].sum()
    assert (X - X @ W.T @ W).square().sum(1).mean() == pytest.approx(float(dropped), abs=1e-10)
    other = torch.linalg.qr(normal(5, m, seed=seed)).Q.T
    assert (X - X @ other.T @ other).square().sum(1).mean() >= dropped - 1e-10
    assert (W @ W.T - torch.eye(m).double()).abs().max() < 1e-12
    assert bool((W.gather(1, W.abs().argmax(1, keepdim=True)) > 0).all())


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 12))
def test_a_lloyd_step_takes_the_means_of_the_cells_and_never_adds_distortion(seed, K):
    latents, codebook = normal(25, 2, seed=seed), 2 * normal(K, 2, seed=seed + 1)
    moved = lloyd_step(latents, codebook)
    distances = squared_distances(latents, codebook)
    for code in range(K):
        cell = latents[distances.argmin(1) == code]
        expected = cell.mean(0) if len(cell) else codebook[code]
        assert torch.allclose(moved[code], expected, rtol=1e-10, atol=1e-12)
    assert squared_distances(latents, moved).amin(1).mean() <= distances.amin(1).mean() + 1e-12


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_the_way_to_a_fixed_point_is_lloyd_steps_until_nothing_moves(seed, K):
    latents, start = normal(40, 2, seed=seed), normal(K, 2, seed=seed + 1)
    way = to_fixed_point(latents, start)
    assert torch.equal(way[0], start)
    for one, following in pairwise(way):
        assert torch.equal(following, lloyd_step(latents, one)) and not torch.equal(following, one)
    assert torch.equal(lloyd_step(latents, way[-1]), way[-1])


def test_the_way_to_a_fixed_point_stops_after_a_thousand_iterations(monkeypatch):
    monkeypatch.setattr("geovq.linear.start.lloyd_step", lambda latents, codebook: codebook + 1)
    way = to_fixed_point(torch.zeros(3, 1), torch.zeros(1, 1))
    assert [float(codebook) for codebook in way] == list(range(1001))


def test_the_start_of_k_means_is_distinct_points_among_the_first_eight_thousand():
    latents = torch.cat([normal(8000, 2), 1e6 + normal(100, 2, seed=1)])
    codebook = kmeans_plus_plus(latents, 16, seed=0)
    assert codebook.abs().max() < 100
    assert len(codebook.unique(dim=0)) == 16
    assert bool((squared_distances(codebook, latents[:8000]).amin(1) == 0).all())
    assert not torch.equal(codebook, kmeans_plus_plus(latents, 16, seed=0, start=1))


def test_the_paired_start_is_twenty_lloyd_steps_in_the_principal_subspace():
    X = low_rank_gaussian(3000, 6, 4, seed=0, part="train")
    start = paired_start(X, 2, 16, seed=3)
    assert torch.equal(start.W, principal_subspace(X, 2))
    latents = X @ start.W.T
    codebook = kmeans_plus_plus(latents, 16, seed=3)
    for _ in range(20):
        codebook = lloyd_step(latents, codebook)
    assert torch.equal(start.E, codebook)


TRAIN, EVALUATION = (
    low_rank_gaussian(n, 8, 5, seed=0, part=p) for n, p in ((800, "train"), (200, "evaluation"))
)
PCA_METHODS = pytest.mark.parametrize("method", [pca_lloyd, pca_lloyd_converged])


@PCA_METHODS
def test_a_single_code_is_the_mean_of_the_latents(method):
    X = TRAIN + 0.5
    model = method.train(X, EVALUATION, 3, 1)["model"]
    assert torch.allclose(model.E, (X @ model.W.T).mean(0, keepdim=True), rtol=1e-12)


@PCA_METHODS
def test_a_code_for_every_point_leaves_the_dropped_eigenvalues(method):
    X = TRAIN[:25]
    metrics = method.train(X, X, 3, 25)["metrics"]
    assert metrics["in_subspace_distortion"] < 1e-20
    dropped = torch.linalg.eigvalsh(X.T @ X / 25)[:-3].sum()
    assert metrics["sse_per_sample"] == pytest.approx(float(dropped), rel=1e-9)


@PCA_METHODS
def test_what_concerns_gradients_alone_changes_no_pca_method(method):
    plain = method.train(TRAIN, EVALUATION, 3, 8)
    other = method.train(
        TRAIN, EVALUATION, 3, 8, steps=7, batch=5, lrW=9.0, lrE=9.0, orthonormal=False, alpha=0.0, beta=0.0
    )
    assert torch.equal(plain["model"].E, other["model"].E)
    assert plain["metrics"] == other["metrics"]
    # With no weight on the distortion the logged loss is the error on the training points.
    assert other["logs"][-1]["loss"] == evaluate(other["model"], TRAIN)["sse_per_sample"]


def test_pca_lloyd_logs_every_iteration_and_never_gets_worse_in_training():
    logs = pca_lloyd.train(TRAIN, EVALUATION, 3, 8)["logs"]
    assert [row["step"] for row in logs] == list(range(31))
    losses = [row["loss"] for row in logs]
    assert losses == sorted(losses, reverse=True)


def test_the_converged_codebook_is_a_fixed_point_and_the_best_of_all_starts():
    model = pca_lloyd_converged.train(TRAIN, EVALUATION, 3, 8, seed=1)["model"]
    latents = TRAIN @ model.W.T
    assert torch.equal(lloyd_step(latents, model.E), model.E)
    best = evaluate(model, TRAIN)["in_subspace_distortion"]
    for start in range(12):
        codebook = kmeans_plus_plus(latents, 8, 1, start)
        for _ in range(300):
            codebook = lloyd_step(latents, codebook)
        assert squared_distances(latents, codebook).amin(1).mean() >= best - 1e-12
    single = pca_lloyd.train(TRAIN, EVALUATION, 3, 8, seed=1)["model"]
    assert best < evaluate(single, TRAIN)["in_subspace_distortion"]
