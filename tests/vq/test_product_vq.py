"""Groups of coordinates with a layer each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.quantizers import ProductQuantizer
from geovq.seeding import derive_seed, torch_generator
from geovq.vq import EMAVQ, ProductVQ

EMA = {"kind": "ema", "params": {"n_codes": 8}}


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "product", step))


def test_every_group_is_a_layer_of_its_own():
    layer = ProductVQ(6, EMA, 3, seed=4).train()
    alone = [EMAVQ(2, 8, seed=derive_seed(4, "ProductVQ group", i)).train() for i in range(3)]
    for step in range(3):
        z = normal(50, 6, step=step).requires_grad_()
        found = layer(z)
        parts = [group(part) for group, part in zip(alone, z.split(2, dim=1), strict=True)]
        assert torch.equal(found.z_q, torch.cat([part.z_q for part in parts], dim=1))
        assert torch.equal(found.codes, torch.stack([part.codes for part in parts], dim=1))
        assert found.loss.item() == pytest.approx(sum(part.loss.item() for part in parts))


def test_the_codebook_is_additive():
    layer = ProductVQ(6, EMA, 3).train()
    layer(normal(50, 6))
    codes = layer.eval()(normal(20, 6, step=1)).codes
    summed = sum(layer.codebook[level][codes[:, level]] for level in range(3))
    assert torch.equal(summed, layer.lookup(codes))


def test_a_single_group_gives_one_code():
    layer = ProductVQ(6, EMA, 1).train()
    assert layer(normal(4, 5, 6)).codes.shape == (4, 5)
    assert layer.codebook.shape == (8, 6)


def test_it_starts_from_a_fitted_product_quantizer():
    x = normal(400, 6).numpy()
    fitted = ProductQuantizer(8, n_groups=3, random_state=0).fit(x)
    layer = ProductVQ(6, EMA, 3)
    layer.start_from(torch.from_numpy(fitted.codebook_))
    assert layer.eval()(torch.from_numpy(x)).codes.tolist() == fitted.predict(x).tolist()
    before = layer.codebook.clone()
    assert torch.equal(before, layer.train().codebook)
    found = layer(torch.from_numpy(x))
    assert found.codes.tolist() == fitted.predict(x).tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((6, EMA, 4), "dim is 6 and n_groups 4; expected a divisor of dim"),
        ((6, EMA, 0), "dim is 6 and n_groups 0"),
        ((6, {"kind": "residual", "params": {"layer": EMA, "n_levels": 2}}, 3), "gives 2 codes a vector"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ProductVQ(*arguments)


@pytest.mark.parametrize(
    ("codebook", "message"),
    [
        (torch.zeros(2, 8, 6), "has 2 levels; expected 3, n_groups"),
        (torch.ones(3, 8, 6), "group 0: .* 32 numbers outside coordinates 0 to 1"),
        (torch.zeros(3, 7, 6), r"group 0: .* has shape \(7, 6\); expected \(8, 6\)"),
    ],
)
def test_a_codebook_that_is_not_of_these_groups_is_refused(codebook, message):
    with pytest.raises(InputError, match=message):
        ProductVQ(6, EMA, 3).start_from(codebook)
