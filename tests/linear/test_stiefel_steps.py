"""Steps on the Stiefel manifold: tangent, orthonormal, of the right direction."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from geovq.linear.stiefel import euclidean_step, stiefel_step, tangent_gradient
from geovq.seeding import torch_generator


def normal(*shape, seed):
    return torch.randn(*shape, dtype=torch.float64, generator=torch_generator(seed, f"stiefel {shape}"))


@st.composite
def encoders(draw):
    """Orthonormal rows W (m, D) and a gradient of any length."""
    D = draw(st.integers(1, 9))
    m, seed, size = draw(st.integers(1, D)), draw(st.integers(0, 1000)), draw(st.floats(1e-3, 1e3))
    return torch.linalg.qr(normal(D, m, seed=seed)).Q.T, size * normal(m, D, seed=seed + 1)


@given(encoders())
def test_the_gradient_is_tangent(encoder):
    W, G = encoder
    T = tangent_gradient(W, G)
    assert (T @ W.T + W @ T.T).abs().max() <= 1e-12 * (1 + G.abs().max())


@given(encoders(), st.integers(0, 100))
def test_what_the_projection_removes_is_orthogonal_to_every_tangent(encoder, seed):
    W, G = encoder
    tangent = tangent_gradient(W, normal(*W.shape, seed=seed))
    assert (tangent_gradient(W, tangent) - tangent).abs().max() <= 1e-12
    removed = G - tangent_gradient(W, G)
    assert abs(float((removed * tangent).sum())) <= 1e-10 * (1 + G.abs().max())


@given(encoders(), st.floats(1e-6, 1e3))
def test_a_step_of_any_length_keeps_the_rows_orthonormal(encoder, rate):
    W, G = encoder
    stepped = stiefel_step(W, G, rate)
    assert (stepped @ stepped.T - torch.eye(len(W), dtype=torch.float64)).abs().max() < 1e-12


@given(encoders())
def test_a_short_step_goes_down_the_gradient(encoder):
    W, G = encoder
    G = G / G.norm()
    moved = (stiefel_step(W, G, 1e-6) - W) / 1e-6
    assert torch.allclose(moved, -tangent_gradient(W, G), atol=1e-5)


@given(encoders())
def test_a_gradient_along_the_normal_moves_nothing(encoder):
    W, _ = encoder
    symmetric = normal(len(W), len(W), seed=0)
    assert torch.allclose(stiefel_step(W, (symmetric + symmetric.T) @ W, 1.0), W, atol=1e-12)


def test_steps_find_the_nearest_orthonormal_rows():
    # Minimising |W - A|^2: the polar factor of A is the solution.
    A = normal(3, 6, seed=4)
    W = torch.linalg.qr(normal(6, 3, seed=5)).Q.T
    for _ in range(2000):
        W = stiefel_step(W, 2 * (W - A), 0.05)
    U, _, V = torch.linalg.svd(A, full_matrices=False)
    assert torch.allclose(W, U @ V, atol=1e-8)


def test_without_the_constraint_a_step_is_plain():
    W, G = normal(2, 4, seed=0), normal(2, 4, seed=1)
    assert torch.equal(euclidean_step(W, G, 0.5), W - 0.5 * G)
