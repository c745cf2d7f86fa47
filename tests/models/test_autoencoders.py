"""The VAE and the VQ-VAE: shapes, terms of the loss per image, gradients everywhere."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from geovq.config import DataConfig
from geovq.data import load
from geovq.errors import ConfigError, CorruptArtifactError
from geovq.models import VAE, VQVAE
from geovq.models.cut import cut, paste
from geovq.models.likelihood import bernoulli_nats, gaussian_kl_nats
from geovq.models.weights import arrays_of, load_arrays, n_parameters
from geovq.seeding import seeded_weights, torch_generator
from geovq.vq import EMAVQ

EMA = {"kind": "ema", "params": {"n_codes": 8}}


def vae(image_shape=(1, 8, 8), latent_dim=8, widths=(8, 16), beta=1.0, spatial=False) -> VAE:
    with seeded_weights(0, "test"):
        return VAE(image_shape, latent_dim, widths, beta, spatial=spatial)


def vqvae(image_shape=(1, 8, 8), latent_dim=8, tokens=(2, 2), widths=(8, 16), spatial=False) -> VQVAE:
    with seeded_weights(0, "test"):
        return VQVAE(image_shape, EMA, latent_dim, tokens, widths, spatial=spatial)


@pytest.fixture(scope="module")
def digits() -> torch.Tensor:
    return torch.from_numpy(load(DataConfig("digits")).train.images(slice(0, 64)))


class NoNoise(nn.Module):
    """An encoder whose sigma is so small that the noise does not count: loss terms become exact."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images):
        mean, sigma = self.encoder(images)
        return mean, sigma * 1e-12


@pytest.mark.parametrize("image_shape", [(1, 8, 8), (3, 8, 12), (1, 28, 28), (2, 4, 4)])
@pytest.mark.parametrize("make", [vae, vqvae])
def test_shapes(make, image_shape):
    model = make(image_shape)
    images = torch.rand(5, *image_shape, generator=torch_generator(0, "test"))
    mean, sigma = model.encoder(images)
    assert mean.shape == sigma.shape == (5, *model.latent_shape) == (5, 8)
    decoded = model.decoder(mean)
    assert decoded.shape == images.shape
    assert ((decoded > 0) & (decoded < 1)).all()
    assert torch.allclose(model.decoder.logits(mean).sigmoid(), decoded)


def test_a_latent_map_has_a_site_for_every_four_by_four_pixels(digits):
    continuous, discrete = vae(latent_dim=3, spatial=True), vqvae(latent_dim=3, spatial=True)
    for model in (continuous, discrete):
        mean, sigma = model.encoder(digits)
        assert mean.shape == sigma.shape == (64, *model.latent_shape) == (64, 3, 2, 2)
        assert model.decoder(mean).shape == digits.shape
        total = model.loss((digits,), torch_generator(0, "loss"))["total"]
        total.backward()
        assert all(parameter.grad is not None for parameter in model.parameters())
    sizes = [n_parameters(model.encoder, model.decoder) for model in (continuous, discrete)]
    assert max(sizes) <= 1.05 * min(sizes), sizes
    with pytest.raises(ConfigError, match="2x2 sites cannot be cut into 1x4 tokens"):
        vqvae(tokens=(1, 4), spatial=True)


def test_a_site_of_a_map_sees_its_own_part_of_the_image(digits):
    model = vae(latent_dim=3, spatial=True)
    changed = digits.clone()
    changed[:, :, 7:, 7:] = 1 - changed[:, :, 7:, 7:]  # site (0, 0) reads pixels 0 to 6
    difference = (model.encoder(changed)[0] - model.encoder(digits)[0]).abs().amax((0, 1))
    assert difference[1, 1] > 0
    assert difference[0, 0] == 0


def test_a_posterior_has_positive_deviations_and_a_point_none(digits):
    assert (vae().encoder(digits)[1] > 0).all()
    assert (vqvae().encoder(digits)[1] == 0).all()


def test_extreme_weights_give_finite_deviations(digits):
    model = vae()
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(1e4)
    _, sigma = model.encoder(digits)
    assert torch.isfinite(sigma).all()
    assert (sigma > 0).all()


@pytest.mark.parametrize("shape", [(1, 10, 8), (1, 8, 10), (3, 7, 7)])
@pytest.mark.parametrize("make", [vae, vqvae])
def test_sides_that_are_not_multiples_of_four_are_refused(make, shape):
    with pytest.raises(ConfigError, match=f"images are {shape[1]}x{shape[2]}; .* multiples of 4; resize"):
        make(shape)


@pytest.mark.parametrize("make", [vae, vqvae])
@pytest.mark.parametrize(("latent_dim", "widths"), [(0, (8, 16)), (8, ()), (8, (8, 0)), (8, (-1, 8, 8))])
def test_impossible_sizes_are_refused(make, latent_dim, widths):
    message = (
        rf"widths are {re.escape(str(list(widths)))}, latent_dim {latent_dim} and blocks 0; expected one "
        "channel count or more, all above 0"
    )
    with pytest.raises(ConfigError, match=message):
        make(latent_dim=latent_dim, widths=widths)


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("widths", [(6,), (6, 5, 4)])
def test_every_width_halves_both_sides(widths, spatial):
    sides = (16 // 2 ** len(widths), 8 // 2 ** len(widths))
    tokens = sides if spatial else (2, 2)
    for model in (
        vae((3, 16, 8), 8, widths, spatial=spatial),
        vqvae((3, 16, 8), 8, tokens, widths, spatial=spatial),
    ):
        images = torch.rand(2, 3, 16, 8, generator=torch_generator(0, "test"))
        mean, _ = model.encoder(images)
        assert mean.shape == (2, *model.latent_shape) == ((2, 8, *sides) if spatial else (2, 8))
        assert model.decoder(mean).shape == images.shape
        strided = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        doubling = [m for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
        assert [m.out_channels for m in strided] == list(widths)
        assert [m.in_channels for m in doubling] == list(reversed(widths))


def test_sides_that_three_halvings_do_not_divide_are_refused():
    with pytest.raises(
        ConfigError, match=r"images are 8x12; .* multiples of 8; .* fewer than 3 halvings: fewer"
    ):
        vae((1, 8, 12), widths=(4, 4, 4))


def test_a_cut_that_does_not_come_out_even_is_refused():
    with pytest.raises(ConfigError, match="8 dimensions cannot be cut into 1x3"):
        vqvae(tokens=(1, 3))


def test_a_layer_is_checked_with_its_path():
    with pytest.raises(ConfigError, match=r"key 'layer\.kind' is missing"):
        VQVAE((1, 8, 8), {"params": {}})
    with pytest.raises(ConfigError, match="unknown layer 'emma'; did you mean 'ema'"):
        VQVAE((1, 8, 8), {"kind": "emma", "params": {"n_codes": 8}})


def test_the_terms_of_the_vae_are_those_of_the_definition(digits):
    model = vae(beta=0.3)
    model.encoder = NoNoise(model.encoder)
    terms = model.loss((digits,), torch_generator(0, "loss"))
    mean, sigma = model.encoder(digits)
    kl = kl_divergence(Normal(mean.double(), sigma.double()), Normal(0, 1)).sum() / len(digits)
    bce = -Bernoulli(logits=model.decoder.logits(mean), validate_args=False).log_prob(digits).sum() / len(
        digits
    )
    assert terms["kl_nats"].item() == pytest.approx(kl.item(), rel=1e-5)
    assert terms["bce_nats"].item() == pytest.approx(bce.item(), rel=1e-5)
    assert terms["total"].item() == pytest.approx(bce.item() + 0.3 * kl.item(), rel=1e-5)


def test_the_terms_of_the_vqvae_are_those_of_the_definition(digits):
    model = vqvae().eval()
    terms = model.loss((digits,), torch_generator(0, "loss"))
    latents, _ = model.encoder(digits)
    tokens = latents.reshape(-1, 2)
    distances = (tokens[:, None] - model.layer.codebook).square().sum(-1)
    quantized = model.layer.codebook[distances.argmin(1)].reshape(latents.shape)
    bce = bernoulli_nats(model.decoder.logits(quantized), digits)
    commitment = 0.25 * (latents - quantized).square().sum(1).mean()
    assert terms["bce_nats"].item() == pytest.approx(bce.item(), rel=1e-6)
    assert terms["commitment"].item() == pytest.approx(commitment.item(), rel=1e-5)
    assert terms["total"].item() == pytest.approx((bce + commitment).item(), rel=1e-6)


def test_repeating_a_batch_leaves_the_terms_of_the_vae(digits):
    model = vae()
    model.encoder = NoNoise(model.encoder)
    once = model.loss((digits,), torch_generator(0, "loss"))
    thrice = model.loss((digits.repeat(3, 1, 1, 1),), torch_generator(0, "loss"))
    for name, value in once.items():
        assert thrice[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_repeating_a_batch_leaves_the_terms_of_the_vqvae(digits):
    model = vqvae().eval()
    once = model.loss((digits,), torch_generator(0, "loss"))
    thrice = model.loss((digits.repeat(3, 1, 1, 1),), torch_generator(0, "loss"))
    for name in ("total", "bce_nats", "commitment", "batch_utilization", "batch_perplexity"):
        assert thrice[name].item() == pytest.approx(once[name].item(), rel=1e-5), name


def test_the_noise_is_the_generators_alone(digits):
    model = vae()
    first, again = (model.loss((digits,), torch_generator(0, "loss", 1))["total"] for _ in range(2))
    other = model.loss((digits,), torch_generator(0, "loss", 2))["total"]
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("make", [vae, vqvae])
def test_gradients_reach_every_parameter(make, digits):
    model = make()
    model.loss((digits,), torch_generator(0, "loss"))["total"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_every_commitment_gradient_is_the_encoders(digits):
    model = vqvae()
    model.loss((digits,), torch_generator(0, "loss"))["commitment"].backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.encoder.parameters())
    assert all(parameter.grad is None for parameter in model.decoder.parameters())


def test_the_divergence_is_the_closed_form():
    generator = torch_generator(0, "test")
    mean = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    sigma = torch.rand(7, 5, generator=generator, dtype=torch.float64) * 3 + 0.01
    expected = kl_divergence(Normal(mean, sigma), Normal(0, 1)).sum(1).mean()
    assert gaussian_kl_nats(mean, sigma).item() == pytest.approx(expected.item(), rel=1e-12)
    assert gaussian_kl_nats(torch.zeros(3, 2), torch.ones(3, 2)).item() == 0


def test_the_layer_is_built_for_the_cut():
    model = vqvae(latent_dim=8, tokens=(2, 1))
    assert isinstance(model.layer, EMAVQ)
    assert model.layer.dim == 4


def test_weights_come_back_as_arrays(digits):
    model, other = vqvae().train(), vqvae(widths=(8, 16))
    model.loss((digits,), torch_generator(0, "loss"))
    arrays = arrays_of(model)
    load_arrays(other, arrays)
    assert all(np.array_equal(array, arrays_of(other)[name]) for name, array in arrays.items())
    assert other.layer.n_updates == 1


def test_arrays_are_copies():
    model = vae()
    arrays = arrays_of(model)
    before = {name: array.copy() for name, array in arrays.items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(np.array_equal(array, before[name]) for name, array in arrays.items())
    load_arrays(model, arrays)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(np.array_equal(array, before[name]) for name, array in arrays.items())


@pytest.mark.parametrize("widths", [(8, 8), (4, 16)])
def test_weights_of_another_size_are_refused_on_one_line(widths):
    with pytest.raises(
        CorruptArtifactError, match=r"stored weights do not fit VAE: .*size mismatch"
    ) as caught:
        load_arrays(vae(), arrays_of(vae(widths=widths)))
    assert "\n" not in str(caught.value)


def test_the_vqvae_can_minimise_the_squared_error(digits):
    layer = {"kind": "ema", "params": {"n_codes": 16, "start": "random"}}
    model = VQVAE((1, 8, 8), layer, latent_dim=8, widths=(8, 16), reconstruction="mse").eval()
    terms = model.loss((digits,), torch_generator(0, "loss"))
    tokens = cut(model.encoder(digits)[0], (2, 4))
    decoded = model.decoder(paste(model.layer(tokens).z_q, (8,)))
    expected = (decoded - digits).square().flatten(1).sum(1).mean()
    assert terms["squared_error"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert terms["total"].item() == pytest.approx((terms["squared_error"] + terms["commitment"]).item())


def test_an_unknown_reconstruction_loss_is_refused():
    layer = {"kind": "ema", "params": {"n_codes": 16}}
    with pytest.raises(ConfigError, match=r"unknown reconstruction 'l1'; .*bce, logistic, mse"):
        VQVAE((1, 8, 8), layer, latent_dim=8, widths=(8, 16), reconstruction="l1")
