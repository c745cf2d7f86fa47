"""How decoder lengths call the decoder: how often, in which mode, and what they refuse."""

import copy
import pickle

import numpy as np
import pytest
import torch
from decoder_cases import KINDS, draw, network, pairs, tokens_of
from torch import nn

from geovq.errors import InputError
from geovq.geometry import (
    ChordEdges,
    DecoderEdges,
    FisherEdges,
    Latents,
    PullbackEdges,
    decoded_images,
    decoder_calls,
)
from geovq.seeding import seeded_weights


def test_calls_are_counted_and_every_image_is_decoded_once():
    latents = draw(0, 40, 6)
    whole, tokens = Latents(latents), Latents(tokens_of(latents, 3))
    starts, ends = pairs(40, 300)
    chord = ChordEdges(network(6), latents)
    for _ in range(2):
        chord.lengths(whole, starts, ends)
    assert (chord.calls.decodes, chord.calls.jvps) == (1 + 40, 0)  # one to try the decoder
    chord.lengths(tokens, starts, ends)
    assert chord.calls.decodes == 1 + 40 + 2 * 300
    polyline = ChordEdges(network(6), latents, segments=4)
    polyline.lengths(whole, starts, ends)
    assert polyline.calls.decodes == 1 + 40 + 3 * 300
    pullback = PullbackEdges(network(6), latents)
    pullback.lengths(whole, starts, ends)
    assert (pullback.calls.decodes, pullback.calls.jvps) == (1, 300)
    pullback.lengths(tokens, starts, ends)
    assert pullback.calls.jvps == 300 + 2 * 300
    pullback.prepared(tokens)
    assert pullback.calls.jvps == 900 + 80 * 3


def test_images_too_many_to_keep_are_decoded_when_needed(monkeypatch):
    latents = draw(0, 40, 6)
    starts, ends = pairs(40, 300)
    expected = ChordEdges(network(6), latents).lengths(Latents(latents), starts, ends)
    monkeypatch.setattr(decoded_images, "NUMBERS_KEPT", 40 * 25 - 1)
    monkeypatch.setattr(decoder_calls, "LARGEST_BATCH", 64)
    edges = ChordEdges(network(6), latents)
    np.testing.assert_allclose(edges.lengths(Latents(latents), starts, ends), expected, rtol=1e-5)
    assert edges.calls.decodes > 41
    assert edges.lengths(Latents(latents), starts[:1], ends[:1]).shape == (1,)


def test_a_new_fit_sees_what_the_decoder_has_become():
    latents, decoder = draw(0, 10, 6), network(6)
    edges, points = ChordEdges(decoder, latents), Latents(latents)
    starts, ends = pairs(10, 20)
    before = edges.lengths(points, starts, ends)
    with torch.no_grad():
        decoder[3].weight *= 2
        decoder[3].bias *= 2
    edges.check(points)
    np.testing.assert_allclose(edges.lengths(points, starts, ends), 2 * before, rtol=1e-5)


def test_float32_throughout_agrees_with_float64():
    latents = draw(0, 30, 6).astype(np.float32)
    points, (starts, ends) = Latents(latents), pairs(30, 100)
    for kind in KINDS.values():
        narrow = kind(network(6, last=nn.Sigmoid), latents).lengths(points, starts, ends)
        wide = kind(network(6, last=nn.Sigmoid, wide=True), latents).lengths(points, starts, ends)
        np.testing.assert_allclose(narrow, wide, rtol=1e-4)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_decoder_runs_in_eval_mode_and_gets_its_modes_back(kind):
    with seeded_weights(0, "decoder"):
        noisy = nn.Sequential(
            nn.Linear(6, 9), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 4), nn.Sigmoid()
        )
    noisy[1].eval()  # frozen, while the rest is being trained
    latents = draw(0, 20, 6)
    buffers = copy.deepcopy(dict(noisy.named_buffers()))
    edges, points = KINDS[kind](noisy, latents), Latents(latents)
    edges.check(points)
    first, again = (edges.lengths(points, *pairs(20, 30)) for _ in range(2))
    edges.prepared(points)
    np.testing.assert_array_equal(first, again)
    assert [part.training for part in noisy] == [True, False, True, True, True]
    assert noisy.training
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in noisy.named_buffers())
    assert all(weight.requires_grad and weight.grad is None for weight in noisy.parameters())
    quiet = KINDS[kind](copy.deepcopy(noisy).eval(), latents)
    np.testing.assert_array_equal(first, quiet.lengths(points, *pairs(20, 30)))


def test_the_modes_come_back_after_a_failure_too():
    decoder = nn.Sequential(nn.Dropout(), nn.Linear(5, 3))
    with pytest.raises(InputError):
        PullbackEdges(decoder, draw(0, 4, 6)).check(Latents(draw(0, 4, 6)))
    assert decoder.training and decoder[0].training


def test_a_method_of_a_module_runs_in_eval_mode_and_in_its_dtype():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(nn.Dropout(0.5), network(6, wide=True))

        def decode(self, latents):
            return self.layers(latents)

    model, latents = Model(), draw(0, 10, 6)
    starts, ends = pairs(10, 20)
    found = PullbackEdges(model.decode, latents).lengths(Latents(latents), starts, ends)
    expected = PullbackEdges(network(6, wide=True), latents).lengths(Latents(latents), starts, ends)
    np.testing.assert_array_equal(found, expected)
    assert model.layers[0].training


def test_an_enclosing_autocast_or_inference_mode_changes_nothing():
    latents = draw(0, 10, 6)
    starts, ends = pairs(10, 20)
    for kind in KINDS.values():
        edges = kind(network(6, last=nn.Sigmoid), latents)
        expected = edges.lengths(Latents(latents), starts, ends)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            edges = kind(network(6, last=nn.Sigmoid), torch.from_numpy(latents))
            np.testing.assert_array_equal(edges.lengths(Latents(latents), starts, ends), expected)
            edges.prepared(Latents(latents))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_copies_measure_the_same_and_are_independent(kind):
    latents = draw(0, 10, 6)
    decoder, points = network(6, last=nn.Sigmoid), Latents(latents)
    edges = KINDS[kind](decoder, latents)
    expected = edges.lengths(points, *pairs(10, 20))
    for twin in (copy.deepcopy(edges), pickle.loads(pickle.dumps(edges))):
        np.testing.assert_array_equal(twin.lengths(points, *pairs(10, 20)), expected)
        assert twin.decoder is not decoder and twin.calls.decoder is twin.decoder
        assert twin.calls is not edges.calls
    before = edges.calls.decodes
    copy.deepcopy(edges).lengths(points, *pairs(10, 20))
    assert edges.calls.decodes == before


def test_they_print_in_a_short_line():
    assert repr(PullbackEdges(network(6), draw(0, 50, 6))) == "PullbackEdges(Sequential, latents (50, 6))"
    chord = ChordEdges(tokens_of, draw(0, 50, 6), segments=3)
    assert repr(chord) == "ChordEdges(tokens_of, latents (50, 6), segments=3)"


def broken(decode):
    """Edges of the decoder ``decode`` on 300 latents, and the points."""
    latents = draw(0, 300, 6).astype(np.float32)
    return PullbackEdges(decode, latents), ChordEdges(decode, latents), Latents(latents)


def test_images_that_are_not_finite_are_named_by_their_latent():
    def decode(z):
        return torch.where(z[:, :1] > bound, torch.nan, z)

    largest = int(draw(0, 300, 6)[:, 0].argmax())
    bound = float(np.sort(draw(0, 300, 6)[:, 0])[-2:].mean())
    pullback, chord, points = broken(decode)
    message = (
        rf"edges 'chord': decoder decode gave NaN or infinity in the image of latent row {largest}; .*weights"
    )
    with pytest.raises(InputError, match=message):
        chord.lengths(points, *pairs(300, 3000))
    row = np.array([largest])
    with pytest.raises(InputError, match=f"edges 'pullback'.*in the image of latent row {largest}"):
        pullback.lengths(points, row, row)
    with pytest.raises(InputError, match=f"latent row {largest}"):
        pullback.prepared(points)


def test_derivatives_that_are_not_finite_are_named_by_their_latent():
    latents = np.array([[1.0], [0.0], [2.0]])
    edges = PullbackEdges(lambda z: z.abs().sqrt(), latents)
    with pytest.raises(InputError, match="NaN or infinity in the derivative of latent row 1"):
        edges.prepared(Latents(latents))


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (
            lambda z: z.numpy(),
            r"returned ndarray for 1 latents from row 0 on; expected a tensor \(1, \.\.\.\)",
        ),
        (lambda z: z.sum(), r"returned \(\) for 1 latents"),
        (lambda z: torch.cat([z, z]), r"returned \(2, 6\) for 1 latents"),
        (
            nn.Linear(5, 3),
            r"decoder Linear failed on a latent of shape \(6,\): .*mat1 and mat2.*of these latents",
        ),
        (nn.Conv2d(6, 3, 1), r"decoder Conv2d failed on a latent of shape \(6,\)"),
    ],
)
def test_decoders_of_something_else_are_refused_before_the_fit(decode, message):
    for edges in broken(decode)[:2]:
        with pytest.raises(InputError, match=rf"edges '{edges.name}': .*{message}"):
            edges.check(broken(decode)[2])


@pytest.mark.parametrize(
    ("decode", "message"),
    [
        (lambda z: z.detach().tanh(), "has no derivative: .*expected PyTorch operations"),
        (
            lambda z: torch.from_numpy(np.tanh(z.detach().numpy())),
            "has no forward derivative: .*expected PyTorch",
        ),
    ],
)
def test_a_decoder_that_detaches_its_latents_has_chords_but_no_products(decode, message):
    pullback, chord, points = broken(decode)
    assert (chord.lengths(points, *pairs(300, 5)) > 0).all()
    for call in (lambda: pullback.lengths(points, *pairs(300, 5)), lambda: chord.prepared(points)):
        with pytest.raises(InputError, match=message):
            call()


def test_fisher_refuses_images_that_are_no_probabilities():
    latents = draw(0, 5, 6)
    with pytest.raises(InputError, match=r"numbers outside \[0, 1\] in the image of latent row 0"):
        FisherEdges(network(6), latents).check(Latents(latents))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_points_that_are_not_the_latents_are_refused(kind):
    latents = draw(0, 12, 6)
    edges = KINDS[kind](network(6, last=nn.Sigmoid), latents)
    edges.check(Latents(latents.astype(np.float32)))  # another dtype is the same data
    with pytest.raises(InputError, match=r"X has 11 rows, but edges '\w+' have 12 latents of 1 tokens"):
        edges.check(Latents(latents[:11]))
    with pytest.raises(InputError, match=r"X has 40 rows.*12 latents of 3 tokens; expected token r % 3"):
        edges.check(Latents(draw(1, 40, 2)))
    with pytest.raises(InputError, match=r"X has 4 columns.*of shape \(6,\), which have no tokens of 4"):
        edges.check(Latents(draw(1, 18, 4)))
    swapped = tokens_of(latents, 2)
    swapped[[4, 30]] = swapped[[30, 4]]
    with pytest.raises(
        InputError, match="in 2 of 36 rows, first in row 4; expected token 1 of latent 1 there"
    ):
        edges.check(Latents(swapped))


def test_tokens_of_a_map_taken_channel_by_channel_are_refused():
    maps = draw(0, 3, 2, 2, 2)
    edges = ChordEdges(nn.Identity(), maps)
    edges.check(Latents(tokens_of(maps, 2)))
    with pytest.raises(InputError, match="X differs from the latents"):
        edges.check(Latents(maps.reshape(-1, 2)))


@pytest.mark.parametrize("latents", [draw(0, 5), draw(0, 5, 2, 3), np.empty((0, 3)), np.array(["a"])])
def test_latents_of_another_shape_are_refused(latents):
    with pytest.raises(InputError, match="edges 'pullback': latents"):
        PullbackEdges(nn.Identity(), latents)


def test_arguments_of_another_kind_are_refused():
    with pytest.raises(InputError, match="decoder is a str; expected a module or function"):
        PullbackEdges("decoder.pt", draw(0, 5, 2))
    for segments in (0, -1, 1.5, True, "2"):
        with pytest.raises(InputError, match=r"segments is .*; expected a whole number of at least 1"):
            ChordEdges(nn.Identity(), draw(0, 5, 2), segments)


def test_read_only_and_integer_latents_are_taken():
    latents = np.arange(12).reshape(4, 3)
    latents.flags.writeable = False
    edges = PullbackEdges(nn.Identity(), latents)
    edges.check(Latents(latents.astype(np.float64)))
    assert edges.lengths(Latents(latents), np.array([0]), np.array([1]))[0] == pytest.approx(3 * np.sqrt(3))


def test_all_kinds_are_decoder_edges():
    assert all(isinstance(kind(nn.Identity(), draw(0, 3, 2)), DecoderEdges) for kind in KINDS.values())
