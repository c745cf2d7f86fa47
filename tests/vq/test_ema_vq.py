"""The moving averages against their formulas, revival, the k-means start, the commitment loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.errors import InputError
from geovq.search import kmeans
from geovq.seeding import derive_seed, torch_generator
from geovq.vq import EMAVQ
from geovq.vq.estimators import straight_through

CORNERS = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def at_corners(**options: float) -> EMAVQ:
    """A layer past its k-means start, with one code at each corner, ``N = 1`` and ``m = e``."""
    layer = EMAVQ(2, 4, **options).train()
    layer(CORNERS)
    with torch.no_grad():
        layer.codebook.copy_(CORNERS)
        layer.sums.copy_(CORNERS)
        layer.usage.fill_(1.0)
    return layer


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def test_the_forward_value_is_exact_and_the_gradient_the_identity():
    z = torch.randn(50, 3, generator=torch_generator(0, "z")).mul(1e3).requires_grad_()
    quantized = torch.randn(50, 3, generator=torch_generator(0, "q")).requires_grad_()
    z_q = straight_through(z, quantized)
    assert torch.equal(z_q, quantized)
    upstream = torch.randn(50, 3, generator=torch_generator(0, "g"))
    z_q.backward(upstream)
    assert torch.equal(z.grad, upstream)
    assert quantized.grad is None


def test_a_training_step_quantizes_with_the_codebook_before_its_update():
    layer = at_corners()
    z = torch.tensor([[1.0, 2.0], [9.0, 1.0], [9.5, 9.0]], requires_grad=True)
    quantized = layer(z)
    assert quantized.codes.tolist() == [0, 1, 3]
    assert torch.equal(quantized.z_q, CORNERS[[0, 1, 3]])
    quantized.z_q.backward(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    assert z.grad.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_the_update_is_the_formula():
    layer = at_corners(decay=0.9, revival=0.0)
    z = torch.tensor([[1.0, 2.0], [3.0, 0.0], [9.0, 1.0], [9.5, 9.0], [8.0, 8.0]])
    layer(z)
    # K / n = 4 / 5 puts counts in units of the average use.
    usage = [0.9 + 0.1 * 2 * 0.8, 0.9 + 0.1 * 0.8, 0.9, 0.9 + 0.1 * 2 * 0.8]
    sums = [
        [0.1 * 0.8 * 4.0, 0.1 * 0.8 * 2.0],
        [9.0 + 0.1 * 0.8 * 9.0, 0.1 * 0.8 * 1.0],
        [0.0, 9.0],
        [9.0 + 0.1 * 0.8 * 17.5, 9.0 + 0.1 * 0.8 * 17.0],
    ]
    assert layer.usage.tolist() == pytest.approx(usage)
    for code in range(4):
        assert layer.sums[code].tolist() == pytest.approx(sums[code], abs=1e-6)
        assert layer.codebook[code].tolist() == pytest.approx(
            [s / usage[code] for s in sums[code]], rel=1e-6, abs=1e-6
        )
    assert layer.n_updates == 2


def test_an_unused_code_stays_where_it_is():
    layer = at_corners(revival=0.0)
    for _ in range(5):
        layer(torch.full((6, 2), 0.5))
    assert torch.allclose(layer.codebook[1:], CORNERS[1:], rtol=1e-6)


def test_a_code_that_is_never_used_keeps_its_place_for_good():
    layer = at_corners(decay=0.1, revival=0.0)
    for _ in range(60):
        layer(torch.full((6, 2), 0.5))
    assert layer.usage[3] < 1e-8
    assert torch.isfinite(layer.codebook).all()
    assert torch.allclose(layer.codebook[1:], CORNERS[1:], rtol=1e-3)


def test_the_averages_converge_to_the_means_of_the_cells():
    layer = at_corners(decay=0.5, revival=0.0)
    z = CORNERS.repeat(2, 1) + torch.tensor([[0.5, -0.5]] * 4 + [[1.5, 0.5]] * 4)
    for _ in range(40):
        layer(z)
    assert torch.allclose(layer.codebook, CORNERS + torch.tensor([1.0, 0.0]), atol=1e-5)
    assert layer.usage.tolist() == pytest.approx([1] * 4, abs=1e-5)


def test_average_use_is_one_whatever_the_batch(digits):
    layer = EMAVQ(64, 16, revival=0.0).train()
    for size in (100, 500, 37):
        layer(digits[:size])
        assert layer.usage.mean().item() == pytest.approx(1, abs=1e-5)


def test_a_dead_code_becomes_a_vector_of_the_batch_and_starts_anew():
    layer = at_corners(decay=0.9, revival=0.5)
    z = torch.tensor([[0.5, 0.25], [0.25, 0.75], [0.75, 0.5]])
    revived = [int(layer(z).stats["revived"]) for _ in range(7)]
    # 0.9 ** 7 is the first power below 0.5.
    assert revived == [0, 0, 0, 0, 0, 0, 3]
    for code in (1, 2, 3):
        assert (layer.codebook[code] == z).all(1).any()
        assert torch.equal(layer.sums[code], layer.codebook[code])
        assert layer.usage[code] == 1


def test_a_revived_code_is_not_pulled_back_by_the_next_step():
    layer = at_corners(decay=0.9, revival=0.5)
    z = torch.tensor([[0.5, 0.25], [0.25, 0.75], [0.75, 0.5]])
    for _ in range(7):
        layer(z)
    revived = layer.codebook[1:].clone()
    layer(z)
    # One step moves a code by a tenth of its distance to points of this batch at most, not back to a corner.
    assert (layer.codebook[1:] - revived).abs().max() < 0.1


def test_revivals_are_keyed_by_seed_and_step():
    z = torch.rand(50, 2, generator=torch_generator(0, "z"))

    def after_revival(seed: int) -> Tensor:
        layer = at_corners(decay=0.5, revival=0.4, seed=seed)
        for _ in range(2):
            layer(z)
        return layer.codebook

    assert torch.equal(after_revival(0), after_revival(0))
    assert not torch.equal(after_revival(0), after_revival(1))


def test_no_revival_when_it_is_zero():
    layer = at_corners(decay=0.1, revival=0.0)
    assert [int(layer(torch.full((6, 2), 0.5)).stats["revived"]) for _ in range(20)] == [0] * 20


def test_revival_brings_dead_codes_into_use(digits):
    layer = EMAVQ(64, 32, decay=0.8, revival=0.1).train()
    layer(digits[:200])
    with torch.no_grad():
        layer.codebook[8:] = 100.0
        layer.sums.copy_(layer.codebook)
    for step in range(40):
        layer(digits[200 + 30 * step : 300 + 30 * step])
    layer.eval()
    assert layer(digits).stats["batch_utilization"] > 0.9


def test_the_start_is_k_means_on_the_first_training_batch(digits):
    layer = EMAVQ(64, 16, seed=3).train()
    quantized = layer(digits[:400].reshape(100, 4, 64))
    expected = kmeans(digits[:400].numpy(), 16, derive_seed(3, "k-means start"))
    assert torch.equal(layer.lookup(quantized.codes), layer.codebook[quantized.codes])
    assert torch.equal(quantized.z_q, torch.from_numpy(expected)[quantized.codes])
    assert layer.n_updates == 1


def test_evaluation_before_training_does_not_start_the_codebook(digits):
    layer = EMAVQ(64, 16).eval()
    before = layer.codebook.clone()
    layer(digits[:100])
    assert torch.equal(layer.codebook, before)
    assert layer.n_updates == 0


def test_a_first_batch_smaller_than_the_codebook_is_enlarged_by_mixtures_of_its_vectors():
    layer = EMAVQ(2, 8).train()
    z = torch.rand(7, 2, generator=torch_generator(0, "few"))
    layer(z)
    assert len(layer.codebook.unique(dim=0)) == 8
    assert (layer.codebook - z.mean(0)).norm(dim=1).max() <= 2**0.5 * (z - z.mean(0)).norm(dim=1).max()


def test_a_first_batch_of_one_vector_is_refused():
    layer = EMAVQ(2, 8).train()
    with pytest.raises(InputError, match=r"first training batch gives 1 vector .* at least 2; enlarge"):
        layer(torch.rand(1, 2))
    assert layer.n_updates == 0


def test_later_batches_may_be_small():
    layer = at_corners()
    assert layer(torch.tensor([[9.0, 9.0]])).codes.tolist() == [3]


@pytest.mark.parametrize("commitment", [0.0, 0.25, 2.0])
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_beta_times_the_squared_distance(commitment, training):
    layer = at_corners(commitment=commitment).train(training)
    z = torch.tensor([[[1.0, 2.0], [9.0, 1.0]], [[9.0, 9.0], [0.0, 8.0]]], requires_grad=True)
    loss = layer(z).loss
    # Squared distances 5, 2, 2 and 4: summed over the two dimensions, averaged over the four tokens.
    assert loss.item() == pytest.approx(commitment * 13 / 4)
    loss.backward()
    nearest = CORNERS[[0, 1, 3, 2]].reshape(2, 2, 2)
    assert torch.allclose(z.grad, commitment * 2 * (z.detach() - nearest) / 4)


def test_the_codebook_learns_by_averages_alone():
    layer = at_corners()
    assert list(layer.parameters()) == []
    assert {"codebook", "sums"} <= {name for name, _ in layer.named_buffers()}
    layer(torch.rand(5, 2, requires_grad=True)).loss.backward()
    assert not layer.codebook.requires_grad


def test_a_batch_is_described():
    stats = at_corners().eval()(torch.tensor([[0.0, 0.0], [1.0, 0.0], [9.0, 0.0], [9.0, 1.0]])).stats
    assert stats["batch_utilization"] == 0.5
    assert stats["batch_perplexity"].item() == pytest.approx(2)


def test_ties_go_to_the_lowest_code():
    layer = at_corners().eval()
    assert layer(torch.tensor([[5.0, 5.0], [5.0, 0.0], [10.0, 5.0]])).codes.tolist() == [0, 0, 1]


def test_codes_are_those_of_brute_force(digits):
    layer = EMAVQ(64, 32).train()
    layer(digits[:1000])
    distances = (digits.double()[:, None] - layer.codebook.double()).square().sum(-1)
    assert torch.equal(layer.eval()(digits).codes, distances.argmin(1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 0, "n_codes": 4}, "dim is 0 and n_codes 4"),
        ({"dim": 2, "n_codes": 1}, "dim is 2 and n_codes 1; expected .* 2 codes"),
        ({"dim": 2, "n_codes": 4, "decay": 1.0}, "decay is 1.0; expected at least 0 and below 1"),
        ({"dim": 2, "n_codes": 4, "decay": float("nan")}, "decay is nan"),
        ({"dim": 2, "n_codes": 4, "revival": -0.1}, "revival is -0.1; expected at least 0 and below 1"),
        ({"dim": 2, "n_codes": 4, "commitment": float("inf")}, "commitment is inf; expected a weight"),
        ({"dim": 2, "n_codes": 4, "start": "zeros"}, "start is 'zeros'; expected 'kmeans' or 'random'"),
        ({"dim": 2, "n_codes": 4, "commitment": -1}, "commitment is -1; expected a weight of at least 0"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        EMAVQ(**arguments)


@pytest.mark.parametrize("cast", [torch.float64, torch.bfloat16, torch.float16])
def test_a_layer_stays_float32_in_a_model_that_is_cast(cast):
    layer, twin = at_corners(), at_corners()
    torch.nn.ModuleList([layer]).to(cast)
    assert layer.codebook.dtype == torch.float32
    z = torch.tensor([[1.0, 2.0], [9.0, 1.0]])
    found, expected = layer(z.to(cast)), twin(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(layer.codebook, twin.codebook)


@pytest.mark.parametrize("code", [-1, 4])
def test_codes_that_are_none_are_refused(code):
    with pytest.raises(InputError, match=r"EMAVQ: codes reach from .* expected 0 to 3"):
        at_corners().lookup(torch.tensor([0, code]))
