"""Jacobian-vector products equal those of PyTorch, whatever the layers, alone and under vmap."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from geovq.geometry.jacobian_products import has_derivative, jvp
from geovq.seeding import seeded_weights


class Modulated(nn.Module):
    """A convolution whose weights follow from the latent, as in StyleGAN 2."""

    def __init__(self):
        super().__init__()
        self.style = nn.Linear(4, 3)
        self.weight = nn.Parameter(torch.randn(1, 3, 3, 3))

    def forward(self, latents):
        weights = self.weight * self.style(latents)[:, None, :, None, None]
        images = latents[:, None, :, None] * torch.ones(1, 3, 4, 5)
        groups = len(latents)
        return F.conv2d(images.reshape(1, -1, 4, 5), weights.flatten(0, 1), groups=groups).reshape(groups, -1)


def named_arguments(latents):
    weight = torch.arange(24.0).reshape(2, 3, 4) / 24
    return F.conv1d(
        input=latents.reshape(-1, 1, 4).expand(-1, 3, 4), weight=weight, bias=None, padding=2
    ).tanh()


DECODERS = {
    "linear": nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 5, bias=False)),
    "convolutions": nn.Sequential(
        nn.Unflatten(1, (4, 1, 1)),
        nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect", bias=False),
        nn.BatchNorm2d(4),
        nn.GELU(),
        nn.Conv2d(4, 2, 2, dilation=2),
        nn.Sigmoid(),
    ),
    "volumes": nn.Sequential(
        nn.Unflatten(1, (1, 1, 2, 2)), nn.ConvTranspose3d(1, 2, 2), nn.ELU(), nn.Conv3d(2, 1, 2)
    ),
    "lines": nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.ConvTranspose1d(2, 3, 3), nn.LayerNorm(4), nn.Conv1d(3, 1, 2)
    ),
    "modulated": Modulated(),
    "named arguments": named_arguments,
    "shared input": lambda latents: F.linear(latents, latents),
}


@pytest.fixture(autouse=True)
def initialised_decoders():
    with seeded_weights(0, "decoders"):
        for decoder in DECODERS.values():
            if isinstance(decoder, nn.Module):
                decoder.eval()
                for weight in decoder.parameters():
                    nn.init.normal_(weight, std=0.5)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", DECODERS)
def test_equals_the_products_of_pytorch(name):
    points, tangents = draw(1, 6, 4), draw(2, 6, 4)
    products = jvp(DECODERS[name], points, tangents)
    expected = torch.func.jvp(DECODERS[name], (points,), (tangents,))[1]
    torch.testing.assert_close(products, expected)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize("name", DECODERS)
def test_equals_finite_differences(name):
    decoder = DECODERS[name]
    points, tangents = draw(1, 3, 4), draw(2, 3, 4)
    step = 1e-2
    slope = (decoder(points + step * tangents) - decoder(points - step * tangents)) / (2 * step)
    # A kink of a ReLU may lie between the two points; most numbers have none.
    near = torch.isclose(jvp(decoder, points, tangents), slope, rtol=0.02, atol=0.02)
    assert near.float().mean() > 0.9


@pytest.mark.parametrize("name", DECODERS)
def test_all_directions_at_once_equal_one_after_the_other(name):
    points, tangents = draw(1, 5, 4), draw(2, 7, 5, 4)
    one_by_one = torch.stack([jvp(DECODERS[name], points, tangent) for tangent in tangents])
    together = torch.func.vmap(lambda tangent: jvp(DECODERS[name], points, tangent))(tangents)
    torch.testing.assert_close(together, one_by_one)


def test_no_reverse_graph_is_left_behind():
    with torch.no_grad():
        products = jvp(DECODERS["convolutions"], draw(1, 2, 4), draw(2, 2, 4))
    assert not products.requires_grad


def test_detached_outputs_have_no_derivative():
    assert has_derivative(DECODERS["linear"], draw(1, 2, 4))
    assert has_derivative(torch.no_grad()(DECODERS["linear"]), draw(1, 2, 4))
    assert not has_derivative(lambda latents: latents.detach() * 2, draw(1, 2, 4))
    assert not has_derivative(lambda latents: torch.ones(len(latents), 3), draw(1, 2, 4))
