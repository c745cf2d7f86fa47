"""A Transformer prior learns what there is to learn, on a source of known entropy and on real digits."""

import numpy as np
import pytest
import torch
from prior_cases import train
from sklearn.datasets import load_digits

from geovq.priors import TransformerPrior, UniformPrior, UnigramPrior
from geovq.seeding import numpy_generator
from geovq.tokenizer.layout import CodeGrid, CodeLayout


def markov_codes(transitions, n, length, seed):
    """Sequences (n, length) of a stationary chain with a doubly stochastic matrix, and their exact nats."""
    uniforms = numpy_generator(seed, "test chain").random((n, length))
    n_codes = len(transitions)
    codes = np.empty((n, length), dtype=np.int64)
    codes[:, 0] = uniforms[:, 0] * n_codes
    nats = np.full(n, np.log(n_codes))
    for t in range(1, length):
        cumulative = transitions[codes[:, t - 1]].cumsum(1)
        codes[:, t] = (uniforms[:, t : t + 1] > cumulative[:, :-1]).sum(1)
        nats -= np.log(transitions[codes[:, t - 1], codes[:, t]])
    return codes, nats


def test_a_markov_chain_is_learnt_almost_to_its_entropy():
    transitions = np.stack([np.roll([0.7, 0.2, 0.08, 0.02], shift) for shift in range(4)])
    layout = CodeLayout((CodeGrid("codes", 1, 10, (4,)),))
    seen, _ = markov_codes(transitions, 5000, 10, seed=1)
    new, entropy = markov_codes(transitions, 1000, 10, seed=2)
    prior = TransformerPrior(layout, width=32, n_layers=1, n_heads=2, dropout=0.0)
    train(prior, (torch.from_numpy(seen),), n_steps=400)
    learnt = prior.nll(new).mean()
    assert learnt < 1.02 * entropy.mean()
    assert learnt > 0.995 * entropy.mean()
    assert UnigramPrior(layout).fit(seen).nll(new).mean() > 1.5 * learnt


def test_real_digits_cost_less_than_their_histogram_and_that_less_than_uniform():
    pixels = load_digits().images.reshape(-1, 4, 2, 4, 2).mean((2, 4)).astype(np.int64)
    codes = pixels.reshape(len(pixels), 16)
    layout = CodeLayout((CodeGrid("pixels", 4, 4, (17,)),))
    seen, new = codes[:1400], codes[1400:]
    prior = TransformerPrior(layout, width=32, n_layers=2, n_heads=4)
    train(prior, (torch.from_numpy(seen),), n_steps=400)
    nats = [p.nll(new).mean() for p in (prior, UnigramPrior(layout).fit(seen), UniformPrior(layout))]
    assert nats[0] < 0.95 * nats[1] < 0.95 * 0.7 * nats[2]


@pytest.fixture(scope="module")
def conditional():
    """A prior of two classes: codes mostly 0 in class 0, mostly 2 in class 1; and new codes with labels."""
    layout = CodeLayout((CodeGrid("codes", 1, 4, (3,)),))
    rng = numpy_generator(0, "test classes")
    labels = np.arange(2000) % 2
    codes = np.where(rng.random((2000, 4)) < 0.9, 2 * labels[:, None], 1)
    prior = TransformerPrior(layout, width=16, n_layers=1, n_heads=2, dropout=0.0, n_classes=2)
    train(prior, (torch.from_numpy(codes[:1500]), torch.from_numpy(labels[:1500])), n_steps=300)
    return prior, codes[1500:], labels[1500:]


def test_the_right_label_makes_codes_cheaper(conditional):
    prior, codes, labels = conditional
    entropy = -4 * (0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert prior.nll(codes, labels).mean() == pytest.approx(entropy, rel=0.1)
    assert prior.nll(codes, 1 - labels).mean() > 3 * entropy


def test_samples_are_of_the_class_asked_for(conditional):
    prior = conditional[0]
    labels = np.arange(400) % 2
    samples = prior.sample(400, labels=labels)
    for label in (0, 1):
        frequencies = np.bincount(samples[labels == label].ravel(), minlength=3) / 800
        assert frequencies[2 * label] == pytest.approx(0.9, abs=0.05)
        assert frequencies[2 - 2 * label] < 0.02
