"""What every registered quantizer layer keeps. A new layer is picked up from the registry."""

from __future__ import annotations

import copy
import inspect
import math

import pytest
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.registry import FAMILIES, resolve
from geovq.seeding import torch_generator
from geovq.vq import QuantizerLayer

DIM = 3
LEVEL = {"kind": "ema", "params": {"n_codes": 8}}
SIZES = {"dim": DIM, "n_codes": 8, "n_levels": 2, "levels": (5, 4, 3), "layer": LEVEL}

pytestmark = pytest.mark.parametrize("kind", sorted(FAMILIES["layer"]))


def make(kind: str) -> QuantizerLayer:
    component = resolve("layer", kind)
    parameters = inspect.signature(component).parameters.values()
    layer = component(**{p.name: SIZES[p.name] for p in parameters if p.default is inspect.Parameter.empty})
    assert isinstance(layer, QuantizerLayer)
    return layer


def vectors(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "layer contract", step))


def trained(kind: str) -> QuantizerLayer:
    layer = make(kind).train()
    for step in range(3):
        layer(vectors(64, DIM, step=step))
    return layer.eval()


def state_of(layer: QuantizerLayer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in layer.state_dict().items()}


def same_state(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_the_constructor_is_small(kind):
    assert len(inspect.signature(resolve("layer", kind)).parameters) <= 12


def test_alphabets_and_bits(kind):
    layer = make(kind)
    assert isinstance(layer.n_codes, tuple)
    assert all(isinstance(size, int) and size >= 1 for size in layer.n_codes)
    assert layer.bits == pytest.approx(sum(math.log2(size) for size in layer.n_codes))
    assert layer.codebook.shape[-1] == DIM


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(16,), (8, 4), (4, 2, 3), (1, 16)])
def test_shapes(kind, training, shape):
    layer = make(kind).train(training)
    z = vectors(*shape, DIM)
    quantized = layer(z)
    assert quantized.z_q.shape == z.shape
    assert quantized.z_q.dtype == torch.float32
    assert quantized.codes.dtype == torch.int64
    assert quantized.codes.shape in (shape, (*shape, len(layer.n_codes)))
    assert (quantized.codes.ndim == len(shape)) == (len(layer.n_codes) == 1)
    assert (quantized.codes >= 0).all()
    per_level = quantized.codes.reshape(-1, len(layer.n_codes))
    assert (per_level < torch.tensor(layer.n_codes)).all()
    assert quantized.loss.shape == ()
    assert quantized.loss >= 0


@pytest.mark.parametrize("training", [True, False])
def test_stats_are_detached_scalars(kind, training):
    layer = trained(kind).train(training)
    for name, value in layer(vectors(32, DIM).requires_grad_()).stats.items():
        assert value.shape == (), name
        assert torch.isfinite(value), name
        assert not value.requires_grad, name


def test_lookup_of_the_codes_is_the_output(kind):
    layer = trained(kind)
    quantized = layer(vectors(8, 5, DIM, step=9) * 100)
    assert torch.equal(layer.lookup(quantized.codes), quantized.z_q)


def test_a_gradient_reaches_the_input(kind):
    z = vectors(32, DIM).requires_grad_()
    trained(kind).train()(z).z_q.square().sum().backward()
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0


def test_evaluation_changes_nothing(kind):
    layer = trained(kind)
    before = state_of(layer)
    layer(vectors(64, DIM, step=5))
    layer.lookup(layer(vectors(4, DIM, step=6)).codes)
    assert same_state(before, state_of(layer))


def test_training_does_not_depend_on_the_global_generator(kind):
    torch.manual_seed(1)
    first = trained(kind)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = trained(kind)
    assert same_state(state_of(first), state_of(second))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_state_is_everything(kind):
    layer, fresh = trained(kind), make(kind)
    fresh.load_state_dict(state_of(layer))
    for step in range(3, 6):
        z = vectors(64, DIM, step=step)
        ours, theirs = layer.train()(z), fresh.train()(z)
        assert torch.equal(ours.codes, theirs.codes)
        assert torch.equal(ours.z_q, theirs.z_q)
        assert torch.equal(ours.loss, theirs.loss)
    assert same_state(state_of(layer), state_of(fresh))


def test_codes_do_not_depend_on_how_the_batch_is_cut(kind):
    layer, z = trained(kind), vectors(101, DIM, step=7)
    whole = layer(z).codes
    for size in (1, 7, 50, 100):
        assert torch.equal(torch.cat([layer(part).codes for part in z.split(size)]), whole)


def test_the_loss_is_a_mean_over_tokens(kind):
    layer, z = trained(kind), vectors(20, DIM, step=7)
    assert layer(z.repeat(3, 1)).loss.item() == pytest.approx(layer(z).loss.item(), rel=1e-5)
    assert layer(z.reshape(4, 5, DIM)).loss.item() == pytest.approx(layer(z).loss.item(), rel=1e-6)


def test_mixed_precision_gives_the_same_codes(kind):
    layer, z = trained(kind), vectors(500, DIM, step=8)
    expected = layer(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(z)
    assert torch.equal(found.codes, expected.codes)
    assert torch.equal(found.z_q, expected.z_q)
    assert found.loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)


def test_half_precision_vectors_are_taken(kind):
    layer, z = trained(kind), vectors(50, DIM, step=8).bfloat16()
    assert torch.equal(layer(z).codes, layer(z.float()).codes)


def test_a_copy_is_independent(kind):
    layer = trained(kind)
    before, twin = state_of(layer), copy.deepcopy(layer)
    twin.train()(vectors(64, DIM, step=11))
    assert same_state(before, state_of(layer))


def test_vectors_of_another_width_are_refused(kind):
    with pytest.raises(InputError, match=rf"z has shape \(4, 5\); expected \(\.\.\., {DIM}\)"):
        make(kind)(torch.zeros(4, 5))
