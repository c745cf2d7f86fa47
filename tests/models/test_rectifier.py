"""The rectifier: the identity before it is trained, whatever the latents; nothing but their shape counts."""

from __future__ import annotations

import pytest
import torch

from geovq.errors import ConfigError
from geovq.models.rectifier import Rectifier
from geovq.models.weights import n_parameters
from geovq.seeding import seeded_weights, torch_generator

SHAPES = [(6,), (3, 2, 4), (1,), (2, 1, 1)]


def made(shape: tuple[int, ...], **options: int) -> Rectifier:
    with seeded_weights(0, "rectifier"):
        return Rectifier(shape, **options)


def latents(shape: tuple[int, ...], n: int = 5) -> torch.Tensor:
    return torch.randn(n, *shape, generator=torch_generator(0, "latents"))


def trained(rectifier: Rectifier, shape: tuple[int, ...]) -> Rectifier:
    """A few steps that take all latents nearer to 1."""
    optimizer = torch.optim.Adam(rectifier.parameters(), lr=1e-2)
    for _ in range(10):
        loss = (rectifier(latents(shape)) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return rectifier


@pytest.mark.parametrize("shape", SHAPES)
def test_it_starts_as_the_identity_and_every_weight_learns(shape):
    rectifier, given = made(shape, width=7, n_blocks=3), latents(shape)
    assert torch.equal(rectifier(given), given)
    before = {name: parameter.clone() for name, parameter in rectifier.named_parameters()}
    moved = trained(rectifier, shape)(given)
    assert moved.shape == given.shape
    assert (moved - 1).square().mean() < (given - 1).square().mean()
    assert all(not torch.equal(parameter, before[name]) for name, parameter in rectifier.named_parameters())


@pytest.mark.parametrize("shape", SHAPES)
def test_every_latent_is_moved_by_itself(shape):
    rectifier, given = trained(made(shape, width=7), shape), latents(shape, 9)
    torch.testing.assert_close(torch.cat([rectifier(row[None]) for row in given]), rectifier(given))
    assert rectifier(given[:0]).shape == (0, *shape)


def test_width_and_blocks_say_how_large_it_is():
    assert n_parameters(made((6,), width=4, n_blocks=3)) == 3 * ((6 * 4 + 4) + (4 * 6 + 6))
    assert n_parameters(made((3, 5, 5), width=4, n_blocks=1)) == (27 * 4 + 4) + (36 * 3 + 3)
    rectifier = made((6,))
    rebuilt = Rectifier((6,), width=rectifier.width, n_blocks=rectifier.n_blocks)
    rebuilt.load_state_dict(trained(rectifier, (6,)).state_dict())
    assert torch.equal(rebuilt(latents((6,))), rectifier(latents((6,))))


@pytest.mark.parametrize("options", [{"width": 0}, {"n_blocks": 0}, {"width": -3}])
def test_a_rectifier_without_units_or_blocks_is_refused(options):
    with pytest.raises(ConfigError, match=r"a rectifier of width .* blocks; expected at least 1 of both"):
        made((6,), **options)
