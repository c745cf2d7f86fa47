"""Gradients by hand against automatic ones, the rotation against its matrix, and what pairs the methods."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geovq.errors import TrainingError
from geovq.linear import low_rank_gaussian, rotation, ste_autograd, ste_manual
from geovq.linear.descent import Gradients, batch_rows, descend
from geovq.linear.settings import Settings
from geovq.linear.start import paired_start
from geovq.seeding import torch_generator

WEIGHTS = st.floats(0, 4, allow_subnormal=False)
SPLITS = [low_rank_gaussian(n, 8, 5, seed=0, part=part) for n, part in ((500, "train"), (100, "evaluation"))]
SETTINGS = {
    "steps": 12,
    "batch": 64,
    "alpha": 1.0,
    "beta": 0.25,
    "lrW": 0.08,
    "lrE": 0.2,
    "orthonormal": True,
    "seed": 5,
    "log_every": 5,
}


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, f"linear {shape}"))


@st.composite
def problems(draw):
    """W, E, X, alpha and beta of any sizes, W with orthonormal rows or any."""
    n, D, K = draw(st.integers(1, 40)), draw(st.integers(1, 8)), draw(st.integers(1, 12))
    m, seed = draw(st.integers(1, D)), draw(st.integers(0, 1000))
    W = normal(m, D, seed=seed)
    if draw(st.booleans()):
        W = torch.linalg.qr(W.T).Q.T
    return W, normal(K, m, seed=seed + 1), 2 * normal(n, D, seed=seed + 2), draw(WEIGHTS), draw(WEIGHTS)


@given(problems())
def test_gradients_by_hand_are_the_automatic_ones(problem):
    W, E, X, _, _ = problem
    by_hand, automatic = ste_manual.gradients(*problem), ste_autograd.gradients(*problem)
    # Where terms cancel, what is left has the digits of the terms.
    terms = 1e-13 * (1 + W.abs().max() + E.abs().max()) ** 2 * (1 + X.abs().max()) ** 2 * W.shape[1]
    for ours, theirs in zip(by_hand[:2], automatic[:2], strict=True):
        assert (ours - theirs).abs().max() <= 1e-8 * theirs.abs().max() + terms
    assert by_hand.loss == pytest.approx(automatic.loss, rel=1e-12)


def test_training_by_hand_runs_where_nothing_can_be_differentiated():
    expected = ste_manual.train(*SPLITS, 3, 8, steps=3, batch=64)["model"]
    with torch.inference_mode():
        model = ste_manual.train(*SPLITS, 3, 8, steps=3, batch=64)["model"]
    assert torch.equal(model.W, expected.W)
    assert torch.equal(model.E, expected.E)


@pytest.mark.parametrize("method", [ste_manual, ste_autograd])
def test_one_point_worked_out(method):
    # z = 2, q = 1, residual (1, 1): decoder -2 (1, 1), encoder (2 / 4 - 2) (2, 1), code 2 (1 - 2).
    W, E, X = (torch.tensor(v, dtype=torch.float64) for v in ([[1, 0]], [[1], [9]], [[2, 1]]))
    of_W, of_E, loss = method.gradients(W, E, X, 1.0, 0.25)
    assert of_W.tolist() == [[-5, -3.5]]
    assert of_E.tolist() == [[-2], [0]]
    assert loss == 3.25


@pytest.mark.parametrize("method", [ste_manual, ste_autograd, rotation])
def test_without_a_codebook_term_the_codes_get_no_gradient(method):
    assert method.gradients(normal(2, 5), normal(4, 2), normal(9, 5), 0.0, 0.25).E.abs().max() == 0


@pytest.mark.parametrize("method", [ste_manual, ste_autograd])
def test_at_beta_one_only_the_decoder_moves_an_orthonormal_encoder(method):
    W, E, X = torch.linalg.qr(normal(5, 2)).Q.T, normal(4, 2), normal(30, 5)
    difference = E - X[:, None] @ W.T
    q = E[difference.square().sum(-1).argmin(1)]
    decoder = -2 * q.T @ (X - q @ W) / 30
    assert torch.allclose(method.gradients(W, E, X, 1.0, 1.0).W, decoder, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("degrees", [-80, -30, 0, 45, 89])
def test_the_rotation_trick_turns_the_gradient_back_from_the_code_to_the_latent(degrees):
    z, angle, scale, beta = torch.tensor([1.2, -0.7], dtype=torch.float64), math.radians(degrees), 0.6, 0.3
    c, s = math.cos(angle), math.sin(angle)
    R = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    e = scale * R @ z
    gradients = rotation.gradients(torch.eye(2, dtype=torch.float64), e[None], z[None], 1.0, beta)
    residual = z - e
    at_z = scale * R.T @ (-2 * residual) + 2 * beta * (z - e)
    assert torch.allclose(gradients.W, torch.outer(at_z, z) - 2 * torch.outer(e, residual), rtol=1e-12)
    assert torch.allclose(gradients.E, -2 * residual[None], rtol=1e-12)


def test_the_rotation_trick_drops_nothing_across_the_code():
    # The code has the latent's direction, and rows that are not orthonormal send a gradient across it.
    W = torch.tensor([[1, 0, 0.3], [0, 1, 0.4]], dtype=torch.float64)
    x = torch.tensor([2, 0, 0], dtype=torch.float64)
    q = W @ x / 2
    at_q = -2 * W @ (x - q @ W)
    assert at_q[1] != 0
    of_W = torch.outer(0.5 * at_q, x) - 2 * torch.outer(q, x - q @ W)
    assert torch.allclose(rotation.gradients(W, q[None], x[None], 1.0, 0.0).W, of_W, rtol=1e-12)


def test_where_the_code_is_behind_the_latent_the_rotation_trick_is_straight_through():
    problem = (normal(2, 5), torch.tensor([[-9.0, 0.0]]).double(), normal(40, 5).abs(), 1.0, 0.25)
    W = problem[0].abs()
    assert bool((problem[2] @ W.T @ problem[1].T < 0).all())
    straight, turned = (method.gradients(W, *problem[1:]) for method in (ste_autograd, rotation))
    assert torch.allclose(straight.W, turned.W, rtol=1e-12)


@pytest.mark.parametrize("orthonormal", [True, False])
def test_trainings_by_hand_and_automatic_stay_together(orthonormal):
    options = {"steps": 60, "batch": 64, "seed": 2, "orthonormal": orthonormal, "lrW": 0.02}
    by_hand, automatic = (method.train(*SPLITS, 3, 8, **options) for method in (ste_manual, ste_autograd))
    for name in ("W", "E"):
        ours, theirs = getattr(by_hand["model"], name), getattr(automatic["model"], name)
        assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)
    assert (by_hand["model"].orthonormality_error < 1e-10) is orthonormal


def test_at_one_seed_every_rule_sees_the_same_start_and_the_same_batches():
    seen = {}

    def recorder(name, size):
        def rule(W, E, X, alpha, beta):
            seen.setdefault(name, []).append((W, E, X))
            return Gradients(size * normal(*W.shape), size * normal(*E.shape), 1.0)

        return rule

    for name, size in (("still", 0.0), ("moving", 1.0)):
        descend(recorder(name, size), *SPLITS, Settings(3, 8, **SETTINGS))
    start = paired_start(SPLITS[0], 3, 8, 5)
    for name in seen:
        assert torch.equal(seen[name][0][0], start.W)
        assert torch.equal(seen[name][0][1], start.E)
    assert len(seen["still"]) == 13
    for (_, _, one), (_, _, other) in zip(seen["still"], seen["moving"], strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(seen["still"][0][2], seen["still"][1][2])


def test_batches_depend_on_seed_and_step_alone():
    assert torch.equal(batch_rows(500, 64, 0, 7), batch_rows(500, 64, 0, 7))
    assert not torch.equal(batch_rows(500, 64, 0, 7), batch_rows(500, 64, 0, 8))
    assert not torch.equal(batch_rows(500, 64, 0, 7), batch_rows(500, 64, 1, 7))
    assert batch_rows(3, 1000, 0, 0).unique().tolist() == [0, 1, 2]


def test_the_log_has_the_start_every_so_many_steps_and_the_end():
    result = descend(ste_manual.gradients, *SPLITS, Settings(3, 8, **SETTINGS))
    assert [row["step"] for row in result["logs"]] == [0, 5, 10, 12]
    start = paired_start(SPLITS[0], 3, 8, 5)
    batch = SPLITS[0][batch_rows(500, 64, 5, 0)]
    first = ste_manual.gradients(start.W, start.E, batch, 1.0, 0.25)
    assert result["logs"][0]["loss"] == first.loss


def test_the_log_does_not_change_the_training():
    often, seldom = (ste_manual.train(*SPLITS, 3, 8, steps=12, log_every=every) for every in (1, 100))
    assert torch.equal(often["model"].W, seldom["model"].W)
    assert len(often["logs"]) == 13
    assert len(seldom["logs"]) == 2


@pytest.mark.parametrize("method", [ste_manual, ste_autograd, rotation])
def test_training_follows_points_that_the_start_has_not_seen(method):
    near, far = normal(8000, 4), normal(4000, 4, seed=1) * 3
    X = torch.cat([near, far])
    logs = method.train(X, far, 4, 6, steps=150, batch=512, lrW=0.01, log_every=1000)["logs"]
    assert logs[-1]["sse_per_sample"] < 0.9 * logs[0]["sse_per_sample"]


def test_a_diverging_training_stops_with_the_step():
    with pytest.raises(TrainingError, match=r"^loss is (nan|inf) at step \d+; .* lower lrW \(1000.0\)"):
        ste_manual.train(*SPLITS, 3, 8, orthonormal=False, lrW=1000.0)
