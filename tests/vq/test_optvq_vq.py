"""The transport plan against a plain Sinkhorn in float64, its balance, its bounds, and several processes."""

from __future__ import annotations

from threading import Barrier, Thread, local

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.errors import InputError
from geovq.search import nearest_codes
from geovq.seeding import torch_generator
from geovq.vq import OptVQ, StraightThroughVQ, optvq
from geovq.vq.optvq import balanced_codes, column_potentials, standard_deviation


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "optvq vectors", step))


def sinkhorn(cost: np.ndarray, n_iterations: int) -> np.ndarray:
    """The paper's plan of costs (n, K), columns scaled first."""
    plan = np.exp(-cost)
    for _ in range(n_iterations):
        plan /= plan.sum(0, keepdims=True) * plan.shape[1]
        plan /= plan.sum(1, keepdims=True) * plan.shape[0]
    return plan


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


@pytest.mark.parametrize("n_iterations", [1, 5, 20])
def test_codes_are_the_largest_entries_of_the_papers_plan(n_iterations):
    z, codebook = normal(300, 3), normal(16, 3, step=1) + 1
    distances = torch.cdist(z.double(), codebook.double()).numpy()
    plan = sinkhorn((distances - distances.mean()) / distances.std() / 0.1, n_iterations)
    assert np.array_equal(balanced_codes(z, codebook, 0.1, n_iterations).numpy(), plan.argmax(1))


def test_the_iterations_reach_a_plan_of_equal_columns():
    cost = torch.cdist(normal(200, 3), normal(8, 3, step=1)).double() / 0.3
    potentials = column_potentials(cost, 200)
    plan = (potentials - cost).softmax(1) / 200
    assert torch.allclose(plan.sum(0), torch.full((8,), 1 / 8).double(), rtol=1e-5)


def test_codes_that_no_vector_is_near_to_get_a_share():
    z, codebook = normal(256, 2), torch.cat([normal(4, 2, step=1), normal(12, 2, step=2) * 0.1 + 30])
    assert len(nearest_codes(z, codebook).unique()) <= 4
    counts = torch.bincount(balanced_codes(z, codebook, 0.1, 20), minlength=16)
    assert counts[4:].sum() > 256 / 16


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_neither_scale_nor_place_matters(scale):
    z, codebook = normal(300, 3), normal(16, 3, step=1)
    expected = balanced_codes(z, codebook, 0.1, 5)
    assert (balanced_codes(z * scale, codebook * scale, 0.1, 5) == expected).float().mean() > 0.99
    assert (balanced_codes(z + 50, codebook + 50, 0.1, 5) == expected).float().mean() > 0.99


def test_nothing_underflows_when_the_plan_is_all_but_hard():
    z, codebook = normal(64, 2), torch.cat([normal(7, 2, step=1), torch.full((1, 2), 1e4)])
    cost = torch.cdist(z, codebook) / (1e-3 * standard_deviation(torch.cdist(z, codebook)))
    assert torch.isfinite(column_potentials(cost, 50)).all()


def test_equal_distances_and_a_single_vector_are_safe():
    assert balanced_codes(torch.zeros(1, 2), torch.ones(4, 2), 0.1, 5).shape == (1,)
    assert balanced_codes(torch.ones(6, 2), torch.ones(4, 2), 0.1, 5).max() < 4


def test_a_large_batch_is_planned_by_a_part_of_it(monkeypatch):
    z, codebook = normal(2000, 3), normal(16, 3, step=1)
    whole = balanced_codes(z, codebook, 0.1, 5)
    monkeypatch.setattr(optvq, "PLANNED_DISTANCES", 16 * 300)
    sizes = []
    cdist = torch.cdist
    monkeypatch.setattr(torch, "cdist", lambda a, b: sizes.append(len(a) * len(b)) or cdist(a, b))
    codes = balanced_codes(z, codebook, 0.1, 5)
    assert max(sizes) <= 16 * 300
    distances = cdist(z[::7], codebook)
    unit = 0.1 * standard_deviation(distances)
    expected = (cdist(z, codebook) / unit - column_potentials(distances / unit, 5)).argmin(1)
    assert (codes == expected).float().mean() > 0.999
    assert (codes == whole).float().mean() > 0.8


def test_two_processes_choose_the_codes_of_one_with_all_vectors(monkeypatch):
    z, codebook = normal(300, 3), normal(16, 3, step=1)
    parts, codes = [z[:100], z[100:]], [None, None]
    here, meeting, given = local(), Barrier(2, timeout=30), [None, None]

    def exchanged(tensor: Tensor) -> list[Tensor]:
        given[here.rank] = tensor
        meeting.wait()
        both = list(given)
        meeting.wait()
        return both

    monkeypatch.setattr(optvq, "summed", lambda tensor: sum(exchanged(tensor)))
    monkeypatch.setattr(optvq, "gathered", lambda vectors: torch.cat(exchanged(vectors)))

    def process(rank: int) -> None:
        here.rank = rank
        codes[rank] = balanced_codes(parts[rank], codebook, 0.1, 5)

    threads = [Thread(target=process, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert torch.equal(torch.cat(codes), balanced_codes(z, codebook, 0.1, 5))
    alone = torch.cat([balanced_codes(part, codebook, 0.1, 5) for part in parts])
    assert not torch.equal(torch.cat(codes), alone)


def test_training_balances_and_evaluation_takes_the_nearest(digits):
    layer = OptVQ(64, 32, epsilon=0.02, n_iterations=50).train()
    layer(digits[:500])
    nearest = nearest_codes(digits, layer.codebook)
    assert torch.equal(layer.eval()(digits).codes, nearest)
    balanced = layer.train()(digits)
    assert not torch.equal(balanced.codes, nearest)
    shares = [torch.bincount(codes, minlength=32).float().std() for codes in (balanced.codes, nearest)]
    assert shares[0] < 0.5 * shares[1]


def test_gradients_are_those_of_straight_through_for_the_codes_of_the_plan():
    layer, plain = (kind(3, 8, start="random") for kind in (OptVQ, StraightThroughVQ))
    z, upstream = normal(40, 3).requires_grad_(), normal(40, 3, step=1)
    quantized = layer.train()(z)
    ((quantized.z_q * upstream).sum() + 5 * quantized.loss).backward()
    error = z.detach().double() - plain.codebook.detach().double()[quantized.codes]
    assert torch.allclose(z.grad.double(), upstream + 5 * 0.25 * 2 / 40 * error, rtol=1e-5, atol=1e-6)
    of_codes = torch.zeros(8, 3).double().index_add_(0, quantized.codes, -5 * 2 / 40 * error)
    assert torch.allclose(layer.codebook.grad.double(), of_codes, rtol=1e-5, atol=1e-6)


def test_a_start_far_off_is_drawn_to_the_vectors_without_revival(digits):
    used = {}
    for kind, options in ((OptVQ, {}), (StraightThroughVQ, {"revival": 0.0})):
        layer = kind(64, 32, start="random", **options)
        optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
        for _ in range(100):
            optimizer.zero_grad()
            layer.train()(digits[:256]).loss.backward()
            optimizer.step()
        used[kind] = layer.eval()(digits).stats["batch_utilization"].item()
    assert used[OptVQ] > 0.9
    assert used[StraightThroughVQ] < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon is 0.0 and n_iterations 5"),
        ({"n_iterations": 0}, "n_iterations 0; expected"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        OptVQ(3, 8, **options)
