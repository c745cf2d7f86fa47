"""Residual levels against brute force and against the single layer; gradients, start, level dropout, beam."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import Tensor, nn

from geovq.config import Spec
from geovq.errors import ConfigError, InputError
from geovq.models.vqvae import VQVAE
from geovq.registry import FAMILIES
from geovq.search import beam_search, kmeans
from geovq.seeding import derive_seed, torch_generator
from geovq.tokenizer import LatentTokenizer
from geovq.vq import EMAVQ, Quantized, QuantizerLayer, ResidualVQ


def ema(n_codes: int, **options: Any) -> dict[str, Any]:
    return {"kind": "ema", "params": {"n_codes": n_codes, **options}}


def normal(*shape: int, step: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(0, "residual vectors", step))


def trained(layer: ResidualVQ, n_steps: int = 3) -> ResidualVQ:
    layer.train()
    for step in range(n_steps):
        layer(normal(200, layer.dim, step=step))
    return layer


def partial_sums(layer: ResidualVQ, codes: Tensor) -> Tensor:
    """Sums (L, n, d) of the first 1 .. L codes (n, L)."""
    vectors = [layer.codebook[level, codes[:, level]] for level in range(len(layer.n_codes))]
    return torch.stack(vectors).cumsum(0)


def same_state(a: nn.Module, b: nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


def test_codes_are_those_of_brute_force(digits):
    layer = ResidualVQ(64, ema(32), 3).train()
    layer(digits[:1000])
    layer.eval()
    found = layer(digits)
    residual = digits.double().numpy()
    for level, book in enumerate(layer.codebook.double().numpy()):
        nearest = np.square(residual[:, None] - book).sum(-1).argmin(1)
        assert np.array_equal(found.codes[:, level].numpy(), nearest)
        residual = residual - book[nearest]
    assert np.allclose(found.z_q.numpy(), digits.numpy() - residual, atol=1e-5)


def test_every_level_brings_the_sum_nearer(digits):
    layer = ResidualVQ(64, ema(32), 5).train()
    layer(digits)
    sums = partial_sums(layer, layer.eval()(digits).codes)
    errors = (sums - digits).square().sum(-1).mean(1)
    assert (errors[1:] < 0.95 * errors[:-1]).all()


def test_the_gradient_of_the_output_reaches_the_input_once():
    layer = trained(ResidualVQ(3, ema(8), 4))
    z = normal(50, 3, step=9).requires_grad_()
    upstream = normal(50, 3, step=10)
    layer(z).z_q.backward(upstream)
    assert torch.equal(z.grad, upstream)


@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_the_commitment_to_every_partial_sum(training):
    layer = trained(ResidualVQ(3, ema(8, commitment=0.5), 4)).train(training)
    book = layer.codebook
    z = normal(5, 6, 3, step=9).requires_grad_()
    found = layer(z)
    codes = found.codes.reshape(30, 4)
    sums = torch.stack([book[level, codes[:, level]] for level in range(4)]).cumsum(0).reshape(4, 5, 6, 3)
    expected = 0.5 * (z.detach() - sums).square().sum((0, 3)).mean()
    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    found.loss.backward()
    # Of every level, not of the first alone.
    assert torch.allclose(z.grad, 0.5 * 2 * (z.detach() - sums).sum(0) / 30, atol=1e-6)


def test_every_level_is_the_plain_layer_on_what_the_ones_before_left_over(digits):
    options = {"n_codes": 16, "decay": 0.8, "revival": 0.2, "commitment": 0.3}
    layer = ResidualVQ(64, {"kind": "ema", "params": options}, 3, seed=5).train()
    plain = [EMAVQ(64, seed=derive_seed(5, "ResidualVQ level", i), **options).train() for i in range(3)]
    for batch in digits.split(300):
        found, residual, losses = layer(batch), batch, []
        for level, single in enumerate(plain):
            quantized = single(residual)
            assert torch.equal(quantized.codes, found.codes[:, level])
            residual = residual - quantized.z_q
            losses.append(quantized.loss)
        assert found.loss.item() == pytest.approx(sum(losses).item(), rel=1e-6)
    for level, single in zip(layer.levels, plain, strict=True):
        assert same_state(level, single)


def test_one_level_is_the_plain_layer(digits):
    layer = ResidualVQ(64, ema(16), 1, seed=5).train()
    plain = EMAVQ(64, 16, seed=derive_seed(5, "ResidualVQ level", 0)).train()
    ours, theirs = layer(digits.reshape(3, 599, 64)), plain(digits.reshape(3, 599, 64))
    assert layer.n_codes == (16,)
    assert torch.equal(layer.codebook, plain.codebook)
    assert ours.codes.shape == (3, 599)
    assert torch.equal(ours.codes, theirs.codes)
    assert torch.equal(ours.z_q, theirs.z_q)
    assert torch.equal(ours.loss, theirs.loss)


def test_a_large_first_batch_starts_the_levels_by_itself(digits):
    layer = ResidualVQ(64, ema(16), 2, seed=3).train()
    found = layer(digits[:256])
    seeds = [derive_seed(derive_seed(3, "ResidualVQ level", i), "k-means start") for i in range(2)]
    first = torch.from_numpy(kmeans(digits[:256].numpy(), 16, seeds[0]))[found.codes[:, 0]]
    residual = digits[:256] - first
    second = torch.from_numpy(kmeans(residual.numpy(), 16, seeds[1]))[found.codes[:, 1]]
    assert torch.equal(found.z_q, first + second)


def test_a_first_batch_of_fewer_vectors_than_codes_starts_every_level(digits):
    layer = ResidualVQ(64, ema(64), 3, seed=1).train()
    layer(digits[:40])
    assert torch.isfinite(layer.codebook).all()
    for book in layer.codebook:
        assert len(book.unique(dim=0)) == 64
    # Codes fitted to 40 vectors alone would leave nothing to the later levels: no unseen error would fall.
    sums = partial_sums(layer, layer.eval()(digits[40:]).codes)
    errors = (sums - digits[40:]).square().sum(-1).mean(1)
    assert (errors[1:] < 0.97 * errors[:-1]).all()


def test_a_first_batch_without_two_vectors_is_refused():
    layer = ResidualVQ(3, ema(8), 2).train()
    with pytest.raises(InputError, match=r"first training batch gives 1 vector .* at least 2; enlarge"):
        layer(torch.ones(1, 3))
    assert same_state(layer, ResidualVQ(3, ema(8), 2))


def test_the_start_is_the_same_again_and_another_with_another_seed(digits):
    def started(seed: int) -> Tensor:
        layer = ResidualVQ(64, ema(32), 2, seed=seed).train()
        layer(digits[:50])
        return layer.codebook

    assert torch.equal(started(0), started(0))
    assert not torch.equal(started(0), started(1))


def test_level_dropout_puts_out_the_first_levels_alone():
    layer = trained(ResidualVQ(3, ema(8), 3, level_dropout=1.0))
    lengths = []
    for step in range(90):
        z, book = normal(60, 3, step=step), layer.codebook.clone()
        found = layer(z)
        assert found.codes.shape == (60, 3)
        sums = list(accumulate(book[level, found.codes[:, level]] for level in range(3)))
        (length,) = [n + 1 for n in range(3) if torch.equal(found.z_q, sums[n])]
        lengths.append(length)
    assert np.bincount(lengths, minlength=4).tolist()[1:] == pytest.approx([30, 30, 30], abs=12)


def test_level_dropout_leaves_a_share_of_batches_whole():
    layer = trained(ResidualVQ(2, ema(4), 4, level_dropout=0.5))
    whole = 0
    for step in range(200):
        z, book = normal(20, 2, step=step), layer.codebook.clone()
        found = layer(z)
        whole += torch.equal(found.z_q, sum(book[level, found.codes[:, level]] for level in range(4)))
    assert whole == pytest.approx(200 * (0.5 + 0.5 / 4), abs=20)


def test_all_levels_learn_under_level_dropout_as_without():
    dropped, kept = ResidualVQ(3, ema(8), 3, level_dropout=1.0), ResidualVQ(3, ema(8), 3)
    assert same_state(trained(dropped, 8), trained(kept, 8))


def test_evaluation_drops_no_level():
    layer = trained(ResidualVQ(3, ema(8), 3, level_dropout=1.0)).eval()
    for step in range(10):
        found = layer(normal(40, 3, step=step))
        assert torch.equal(found.z_q, layer.lookup(found.codes))


def test_level_dropout_goes_on_after_a_restart_as_it_would_have():
    straight = trained(ResidualVQ(3, ema(8), 4, level_dropout=0.7), 4)
    resumed = ResidualVQ(3, ema(8), 4, level_dropout=0.7).train()
    resumed.load_state_dict(straight.state_dict())
    for step in range(4, 30):
        z = normal(50, 3, step=step)
        assert torch.equal(straight(z).z_q, resumed(z).z_q)


@settings(max_examples=20, deadline=None)
@given(n_levels=st.integers(1, 4), beam=st.integers(2, 9), seed=st.integers(0, 99))
def test_a_beam_is_never_farther_away_and_its_codes_are_the_output(n_levels, beam, seed):
    greedy = trained(ResidualVQ(4, ema(6, revival=0.0), n_levels, seed=seed)).eval()
    wide = ResidualVQ(4, ema(6, revival=0.0), n_levels, seed=seed, beam=beam).eval()
    wide.load_state_dict(greedy.state_dict())
    z = normal(3, 20, 4, step=50)
    ours, theirs = wide(z), greedy(z)
    assert ours.codes.shape == theirs.codes.shape
    assert torch.equal(wide.lookup(ours.codes), ours.z_q)
    assert ((ours.z_q - z).square().sum(-1) <= (theirs.z_q - z).square().sum(-1) + 1e-5).all()


@pytest.mark.parametrize("beam", [2, 8])
def test_a_beam_is_that_of_the_search_and_gains(beam, digits):
    layer = ResidualVQ(64, ema(32), 4, beam=beam).train()
    layer(digits)
    layer.eval()
    wide = layer(digits)
    assert torch.equal(wide.codes, beam_search(digits, layer.codebook, beam))
    layer.beam = 1
    greedy = layer(digits)
    assert (wide.z_q - digits).square().sum() < (greedy.z_q - digits).square().sum()
    assert torch.equal(wide.loss, greedy.loss)


def test_training_is_greedy_whatever_the_beam():
    wide, greedy = ResidualVQ(3, ema(8), 3, beam=8), ResidualVQ(3, ema(8), 3)
    assert same_state(trained(wide, 6), trained(greedy, 6))
    z = normal(100, 3, step=20)
    assert torch.equal(wide(z).z_q, greedy(z).z_q)


def test_stats_are_those_of_the_levels_and_bear_the_same_names_at_every_step():
    layer = ResidualVQ(3, ema(8, decay=0.5, revival=0.2), 3, level_dropout=0.5).train()
    names = {*layer.levels[0](normal(30, 3)).stats, "lowest_level_utilization", "lowest_level_perplexity"}
    assert names > {"batch_utilization", "batch_perplexity", "revived", "encoder_drift"}
    for step in range(8):
        assert set(layer(normal(30, 3, step=step)).stats) == names
    stats = layer.eval()(torch.zeros(4, 3)).stats
    assert set(stats) == names - {"revived", "encoder_drift"}
    assert stats["batch_utilization"].item() == pytest.approx(1 / 8)
    assert stats["batch_perplexity"].item() == pytest.approx(1)


def test_the_weakest_level_shows():
    layer = ResidualVQ(2, ema(2), 2).eval()
    with torch.no_grad():
        layer.levels[0].codebook.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
        layer.levels[1].codebook.copy_(torch.tensor([[0.0, 1.0], [0.0, 50.0]]))
    stats = layer(torch.tensor([[0.0, 1.0], [4.0, 1.0]])).stats
    assert stats["batch_perplexity"].item() == pytest.approx(1.5)
    assert stats["lowest_level_perplexity"].item() == pytest.approx(1)


class GradientLevel(QuantizerLayer):
    """A level of a third party, whose codes are parameters and learn by the loss."""

    def __init__(self, dim: int, n_codes: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(normal(n_codes, dim))

    @property
    def n_codes(self) -> tuple[int, ...]:
        return (len(self.rows),)

    def lookup(self, codes: Tensor) -> Tensor:
        return self.rows[codes]

    def forward(self, z: Tensor) -> Quantized:
        codes = torch.cdist(z.detach(), self.rows.detach()).argmin(-1)
        return Quantized(self.rows[codes], codes, (z - self.rows[codes]).square().sum(-1).mean())


class RecordingLevel(EMAVQ):
    """Keeps the vectors that it starts on."""

    first: Tensor | None = None

    def start_on(self, flat: Tensor) -> None:
        self.first = flat
        super().start_on(flat)


def test_the_start_mixes_vectors_of_the_mean_and_covariance_of_the_first_batch(monkeypatch):
    monkeypatch.setitem(FAMILIES["layer"], "recording", f"{__name__}:RecordingLevel")
    layer = ResidualVQ(2, {"kind": "recording", "params": {"n_codes": 256}}, 1).train()
    batch = normal(120, 2) @ torch.tensor([[1.0, 2.0], [0.0, 3.0]]) + 100
    layer(batch)
    started = layer.levels[0].first
    assert started.shape == (16 * 256, 2)
    assert torch.equal(started[:120], batch)
    mixed = started[120:]
    assert len(mixed.unique(dim=0)) > 3900
    assert torch.allclose(mixed.mean(0), batch.mean(0), atol=0.3)
    assert torch.allclose(mixed.T.cov(), batch.T.cov(), rtol=0.15, atol=0.2)


def test_any_layer_of_one_code_a_vector_is_a_level(monkeypatch):
    monkeypatch.setitem(FAMILIES["layer"], "gradient", f"{__name__}:GradientLevel")
    layer = ResidualVQ(3, {"kind": "gradient", "params": {"n_codes": 6}}, 3).train()
    assert layer.n_codes == (6, 6, 6)
    z = normal(200, 3, step=1)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        found = layer(z)
        optimizer.zero_grad()
        found.loss.backward()
        assert all(bool(p.grad.any()) for p in layer.parameters())
        optimizer.step()
        losses.append(found.loss.item())
    assert losses[-1] < 0.6 * losses[0]
    found = layer.eval()(z)
    assert torch.equal(layer.lookup(found.codes), found.z_q)


def test_a_model_with_it_trains_and_its_tokenizer_loads(tmp_path):
    params = {"n_levels": 3, "layer": ema(16), "beam": 4}
    spec = {
        "latent_dim": 8,
        "tokens": [1, 1],
        "widths": [4, 8],
        "layer": {"kind": "residual", "params": params},
    }
    model = VQVAE((1, 8, 8), **spec).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images = torch.from_numpy((load_digits().images / 16).astype(np.float32))[:600, None]
    bce = []
    for step in range(40):
        terms = model.loss((images[step % 10 :: 10],), torch_generator(0, "loss", step))
        optimizer.zero_grad()
        terms["total"].backward()
        optimizer.step()
        bce.append(terms["bce_nats"].item())
    assert bce[-1] < 0.8 * bce[0]
    tokenizer = LatentTokenizer(
        model.encoder,
        model.decoder,
        model.layer,
        image_shape=(1, 8, 8),
        latent_shape=model.latent_shape,
        tokens=model.tokens,
        architecture=Spec("vqvae", spec),
    )
    codes = tokenizer.encode(images.numpy())
    assert codes.shape == (600, 3)
    assert tokenizer.bits_per_image == 12
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    loaded = LatentTokenizer.from_pretrained(tmp_path / "tokenizer")
    assert np.array_equal(loaded.encode(images.numpy()), codes)
    assert np.array_equal(loaded.decode(codes), tokenizer.decode(codes))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_levels": 0}, "n_levels is 0 and beam 1; expected both to be at least 1"),
        ({"n_levels": 2, "beam": 0}, "n_levels is 2 and beam 0"),
        ({"n_levels": 2, "level_dropout": 1.5}, "level_dropout is 1.5; expected a probability"),
        ({"n_levels": 2, "level_dropout": float("nan")}, "level_dropout is nan"),
        (
            {"n_levels": 3, "layer": {"kind": "residual", "params": {"n_levels": 2, "layer": ema(4)}}},
            "layer 'residual' gives 2 codes a vector; expected a layer that gives one",
        ),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        ResidualVQ(**{"dim": 2, "layer": ema(4), **arguments})


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"kind": "emma", "params": {}}, "ema"),
        ({"kind": "ema", "params": {"n_codes": 4, "decai": 0.9}}, "decay"),
        ({"kind": "ema"}, "n_codes"),
        ({"params": {"n_codes": 4}}, r"layer\.kind"),
    ],
)
def test_a_level_that_cannot_be_built_is_refused_with_the_name_it_lacks(layer, message):
    with pytest.raises(ConfigError, match=message):
        ResidualVQ(2, layer, 2)


@pytest.mark.parametrize("kind", sorted(FAMILIES["layer"]))
def test_levels_may_be_of_any_kind_that_learns_without_the_gradient_of_its_output(kind):
    params = {"fsq": {"levels": (4, 4, 4)}, "lfq": {}, "bsq": {}}.get(kind, {"n_codes": 8})
    if kind in ("residual", "product"):
        params = {"layer": {"kind": "ema", "params": {"n_codes": 8}}}
        params |= {"n_levels": 1} if kind == "residual" else {"n_groups": 1}
    spec = {"kind": kind, "params": params}
    if kind in ("diveq", "gumbel"):
        with pytest.raises(InputError, match=f"level of kind '{kind}' learns by the gradient of its own"):
            ResidualVQ(3, spec, 2)
        return
    layer = ResidualVQ(3, spec, 2).train()
    optimizer = torch.optim.Adam(parameters, lr=0.01) if (parameters := [*layer.parameters()]) else None
    for step in range(40):
        found = layer(normal(200, 3, step=step))
        if optimizer is not None and found.loss.requires_grad:
            optimizer.zero_grad()
            found.loss.backward()
            optimizer.step()
    z = normal(500, 3, step=99)
    found = layer.eval()(z)
    one_level = layer.levels[0](z).z_q
    assert (found.z_q - z).square().mean() < (one_level - z).square().mean()
