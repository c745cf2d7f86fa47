"""The Transformer prior's own promises: causality, caching, reproducible weights and dropout."""

import numpy as np
import pytest
import torch
from prior_cases import LAYOUTS, example, random_codes

from geovq.errors import ConfigError, InputError
from geovq.priors import TransformerPrior
from geovq.priors.alphabets import layout_alphabets
from geovq.priors.dropout import KeyedDropout
from geovq.seeding import torch_generator

each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
HIERARCHICAL = LAYOUTS["hierarchical"]


def slot_logits(prior, codes, labels=None):
    """Uncached logits slot by slot, each (N, K)."""
    slots = [None] * prior.layout.n_slots
    for alphabet, logits in zip(layout_alphabets(prior.layout), prior(codes, labels), strict=True):
        for i, slot in enumerate(range(prior.layout.n_slots)[alphabet.slots]):
            slots[slot] = logits[:, i]
    return slots


def test_slots_of_a_level_share_an_alphabet():
    expected = [(3, [0]), (2, [1, 4]), (1, [2, 5]), (3, [3, 6])]
    found = [(a.n_codes, list(range(7)[a.slots])) for a in layout_alphabets(HIERARCHICAL)]
    assert found == expected


@each_layout
def test_a_code_changes_later_logits_only(layout):
    prior = example("transformer", layout)
    codes = torch.from_numpy(random_codes(layout, 6))
    with torch.no_grad():
        before = slot_logits(prior, codes)
        for slot, n_codes in enumerate(layout.slot_alphabets):
            if n_codes == 1:
                continue
            changed = codes.clone()
            changed[:, slot] = (codes[:, slot] + 1) % n_codes
            for at, (old, new) in enumerate(zip(before, slot_logits(prior, changed), strict=True)):
                if at <= slot:
                    assert torch.equal(old, new), (slot, at)
                else:
                    assert (old - new).abs().amax(1).min() > 1e-4, (slot, at)


@each_layout
def test_logits_have_the_slots_own_alphabet(layout):
    prior = example("transformer", layout)
    logits = slot_logits(prior, torch.from_numpy(random_codes(layout, 2)))
    assert tuple(slot.shape[-1] for slot in logits) == layout.slot_alphabets


@each_layout
@pytest.mark.parametrize("n_classes", [0, 3])
def test_cached_logits_equal_uncached_ones_and_their_log_probabilities_the_nll(layout, n_classes):
    prior = example("transformer", layout, n_classes=n_classes)
    codes = torch.from_numpy(random_codes(layout, 6))
    labels = torch.arange(6) % n_classes if n_classes else None
    caches, nats = prior.empty_caches(6), torch.zeros(6, dtype=torch.float64)
    with torch.no_grad():
        for slot, uncached in enumerate(slot_logits(prior, codes, labels)):
            cached = prior.next_logits(codes[:, :slot], caches, labels)
            torch.testing.assert_close(cached, uncached, rtol=1e-4, atol=1e-4)
            nats -= cached.double().log_softmax(-1)[torch.arange(6), codes[:, slot]]
    np.testing.assert_allclose(prior.nll(codes, labels), nats.numpy(), rtol=1e-5)


def test_loss_is_the_mean_nll():
    prior = example("transformer", HIERARCHICAL).eval()
    codes = torch.from_numpy(random_codes(HIERARCHICAL, 20))
    loss = prior.loss((codes,), torch_generator(0, "test"))
    assert loss["total"].item() == pytest.approx(prior.nll(codes).mean(), rel=1e-6)
    assert loss["nats_per_token"].item() == pytest.approx(prior.nll(codes).mean() / 7, rel=1e-6)
    assert loss["total"].requires_grad


def test_every_weight_gets_a_gradient():
    prior = example("transformer", HIERARCHICAL, n_classes=2)
    batch = torch.from_numpy(random_codes(HIERARCHICAL, 20)), torch.arange(20) % 2
    prior.loss(batch, torch_generator(0, "test"))["total"].backward()
    assert [name for name, weight in prior.named_parameters() if weight.grad is None] == []


def test_it_starts_as_the_uniform_prior():
    nats = TransformerPrior(HIERARCHICAL).nll(random_codes(HIERARCHICAL, 50))
    np.testing.assert_allclose(nats, HIERARCHICAL.bits * np.log(2), rtol=1e-6)


def test_initial_weights_depend_on_the_seed_alone():
    first, again, other = (TransformerPrior(HIERARCHICAL, n_classes=2, seed=s).tensors() for s in (1, 1, 2))
    for name, weight in first.items():
        np.testing.assert_array_equal(weight, again[name])
    assert (first["code_embedding.weight"] != other["code_embedding.weight"]).any()


def test_initial_weights_have_the_scale_of_gpt2():
    weights = TransformerPrior(HIERARCHICAL, width=128, n_layers=2, n_classes=2).state_dict()
    for name, std in {
        "code_embedding.weight": 0.02,
        "blocks.0.attention.query_key_value.weight": 0.02,
        "blocks.1.expand.weight": 0.02,
        "blocks.0.attention.output.weight": 0.01,  # 0.02 over the root of two branches in two layers
        "blocks.1.contract.weight": 0.01,
    }.items():
        assert weights[name].std().item() == pytest.approx(std, rel=0.1), name
    assert (weights["norm.weight"] == 1).all()
    assert not weights["blocks.0.expand.bias"].any()


def test_dropout_is_repeatable_and_only_active_in_training():
    prior = example("transformer", HIERARCHICAL, dropout=0.5)
    batch = (torch.from_numpy(random_codes(HIERARCHICAL, 20)),)

    def loss(step):
        with torch.no_grad():
            return prior.loss(batch, torch_generator(0, "test dropout", step))["total"].item()

    prior.train()
    exact = prior.nll(batch[0]).mean()
    assert loss(1) == loss(1)
    assert loss(1) != loss(2)
    assert loss(1) != pytest.approx(exact, rel=1e-6)
    prior.eval()
    assert loss(1) == pytest.approx(exact, rel=1e-6)
    assert loss(1) == loss(2)


def test_dropout_keeps_the_mean_and_drops_its_rate():
    dropped = KeyedDropout(0.2)(torch.ones(100_000), torch_generator(0, "test"))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1, abs=0.02)
    assert set(dropped.unique().tolist()) == {0, 1.25}


def test_labels_are_required_and_checked():
    prior = example("transformer", HIERARCHICAL, n_classes=3)
    codes = random_codes(HIERARCHICAL, 2)
    for refused, message in [
        (None, "labels are missing; this prior has 3 classes and needs 2 labels"),
        ([0], r"labels are int64 \(1,\); expected integers \(2,\)"),
        ([0.0, 1.0], "labels are float64"),
        ([0, 3], r"label 3 of image 1 is outside 0\.\.2"),
        ([-1, 0], "label -1 of image 0"),
    ]:
        with pytest.raises(InputError, match=message):
            prior.nll(codes, refused)
        with pytest.raises(InputError, match=message):
            prior.sample(2, labels=refused)
    with pytest.raises(InputError, match="labels are missing"):
        prior.loss((torch.from_numpy(codes),), torch_generator(0, "test"))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"width": 30, "n_heads": 4}, "width 30 is not a multiple of n_heads 4"),
        ({"n_layers": 0}, "n_layers is 0; expected a whole number of at least 1"),
        ({"n_heads": 0}, "n_heads is 0"),
        ({"width": -8}, "width is -8"),
        ({"dropout": 1.0}, r"dropout is 1\.0"),
        ({"dropout": "high"}, "dropout is 'high'"),
        ({"n_classes": -1}, "n_classes is -1; expected a whole number of at least 0"),
        ({"width": "wide"}, "width is 'wide'"),
        ({"n_layers": 1.5}, r"n_layers is 1\.5"),
    ],
)
def test_impossible_sizes_are_refused(params, message):
    with pytest.raises(ConfigError, match=message):
        TransformerPrior(HIERARCHICAL, **params)
