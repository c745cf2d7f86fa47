"""The watched statistics against their definitions, where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from geovq.seeding import torch_generator
from geovq.vq.watch import IDLE_UPDATES, WATCHED_VECTORS, Watch


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def stats_of(watch: Watch, z: Tensor, e: Tensor, codes: Tensor) -> dict[str, float]:
    return {name: value.item() for name, value in watch(z, e, codes)[1].items()}


def test_use_of_codes_is_counted_over_the_whole_batch():
    z = torch.zeros(8, 2)
    counts, stats = Watch(8, 2)(z, z, torch.tensor([0, 0, 1, 1, 5, 5, 7, 7]))
    assert counts.tolist() == [2, 2, 0, 0, 0, 2, 0, 2]
    assert stats["batch_vectors"] == 8
    assert stats["batch_utilization"] == 0.5
    assert stats["batch_perplexity"].item() == pytest.approx(4)


def test_uneven_use_lowers_the_perplexity_alone():
    z = torch.zeros(100, 2)
    stats = stats_of(Watch(2, 2), z, z, torch.tensor([0] * 99 + [1]))
    assert stats["batch_utilization"] == 1
    assert stats["batch_perplexity"] == pytest.approx(np.exp(-0.99 * np.log(0.99) - 0.01 * np.log(0.01)))


def test_a_code_is_idle_after_a_hundred_training_steps_without_a_vector():
    watch, z, first = Watch(4, 1), torch.zeros(3, 1), torch.tensor([0, 1, 1])
    idle = [stats_of(watch, z, z, first)["idle_codes"] for _ in range(IDLE_UPDATES)]
    assert idle == [0.0] * (IDLE_UPDATES - 1) + [0.5]
    assert stats_of(watch, z, z, torch.tensor([0, 1, 2]))["idle_codes"] == 0.25


def test_norms_and_distortion_are_their_formulas(digits):
    e = digits.round()
    stats = stats_of(Watch(2, 64), digits, e, torch.zeros(len(digits), dtype=torch.int64))
    z, e = digits.double().numpy(), e.double().numpy()
    assert stats["latent_norm"] == pytest.approx(np.sqrt((z**2).sum(1).mean()), rel=1e-5)
    assert stats["code_norm"] == pytest.approx(np.sqrt((e**2).sum(1).mean()), rel=1e-5)
    variance = z.var(0).sum()
    assert stats["relative_distortion"] == pytest.approx(((z - e) ** 2).sum(1).mean() / variance, rel=1e-5)
    covariance = np.cov(z.T, bias=True)
    expected = np.trace(covariance) ** 2 / np.trace(covariance @ covariance)
    assert stats["latent_dimensions"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("informative", [1, 5, 64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_latent_dimensions_count_those_that_vary_whatever_their_scale(informative, scale):
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=torch_generator(0, "rotation")))[0]
    z = torch.randn(2000, informative, generator=torch_generator(0, "z")) @ rotation[:informative] * scale
    stats = stats_of(Watch(2, 64), z + 3 * scale, z, torch.zeros(2000, dtype=torch.int64))
    assert stats["latent_dimensions"] == pytest.approx(informative, rel=0.05)


def test_drift_is_the_way_of_the_mean_in_standard_deviations(digits):
    watch, codes = Watch(2, 64), torch.zeros(len(digits), dtype=torch.int64)
    deviation = (digits - digits.mean(0)).square().sum(1).mean().sqrt()
    step = torch.zeros(64)
    step[3] = 2 * deviation
    drifts = [
        stats_of(watch, z, z, codes)["encoder_drift"] for z in (digits, digits, digits + step, digits + step)
    ]
    # The running mean has made a tenth of the way by the fourth step.
    assert drifts == pytest.approx([0, 0, 2, 1.8], abs=1e-4)


def test_evaluation_moves_nothing_and_knows_no_drift(digits):
    watch, codes = Watch(2, 64), torch.zeros(len(digits), dtype=torch.int64)
    watch(digits, digits, codes)
    before = {name: tensor.clone() for name, tensor in watch.state_dict().items()}
    assert "encoder_drift" not in watch.eval()(digits + 1, digits, codes)[1]
    assert all(torch.equal(tensor, before[name]) for name, tensor in watch.state_dict().items())


def test_of_a_large_batch_every_so_many_th_vector_is_looked_at():
    n = 3 * WATCHED_VECTORS
    z = torch.randn(n, 4, generator=torch_generator(0, "large"))
    codes = torch.arange(n) % 7
    whole, some = (
        stats_of(Watch(7, 4), z, z.round(), codes),
        stats_of(Watch(7, 4), z[::3], z[::3].round(), codes),
    )
    assert whole == some
    # What lies between does not reach the norms, but all codes are counted.
    z[1::3] = 1e6
    assert stats_of(Watch(7, 4), z, z.round(), codes)["latent_norm"] == whole["latent_norm"]


def test_a_batch_of_equal_vectors_gives_finite_numbers():
    z = torch.ones(5, 3)
    stats = stats_of(Watch(4, 3), z, z, torch.zeros(5, dtype=torch.int64))
    assert np.isfinite(list(stats.values())).all()
    assert stats["relative_distortion"] == 0
