"""Provoked collapses on the handwritten digits get their name, and the named change ends them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import Tensor, nn

from geovq.config import Spec
from geovq.registry import build
from geovq.seeding import seeded_weights, torch_generator
from geovq.vq import EMAVQ, FSQ, DiVeQ, ProductVQ, QuantizerLayer, ResidualVQ
from geovq.vq.collapse import RULES, Diagnosis, LayerSettings, diagnose, settings_of

EPOCH = 20  # steps
BATCH = 128
N_TOKENS, DIM = 4, 8
Loss = Callable[[Tensor], tuple[Tensor, Mapping[str, Tensor]]]


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return torch.from_numpy((load_digits().data / 16).astype(np.float32))


@pytest.fixture(scope="module")
def latents(digits: Tensor) -> Tensor:
    """Eight whitened principal components of the digits (n, 8): the latents of an encoder that is frozen."""
    return torch.from_numpy(PCA(8, whiten=True, svd_solver="full").fit_transform(digits).astype(np.float32))


def in_many_dimensions(latents: Tensor) -> Tensor:
    """The same latents, rotated into 8 of 256 dimensions."""
    directions = torch.linalg.qr(torch.randn(256, 8, generator=torch_generator(0, "directions")))[0]
    return latents @ directions.T


def make_layer(kind: str, dim: int, scale: float = 1.0, **params: Any) -> QuantizerLayer:
    layer: QuantizerLayer = build("layer", Spec(kind, {"n_codes": 64, **params}), dim=dim)
    if scale != 1:
        layer.start_from(layer.codebook.detach() * scale)
    return layer


def of_layer(latents: Tensor, *, steps: int = 60, **settings: Any) -> Diagnosis | None:
    """Train a layer alone on latents that do not move."""
    layer = make_layer("ema", latents.shape[1], **{"decay": 0.9, **settings})

    def loss(z: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return z.new_zeros(()), layer(z).stats

    return diagnose(list(train(layer, loss, latents, None, steps)), settings_of(layer))


def of_autoencoder(
    digits: Tensor, kind: str = "ema", *, rate: float = 1e-3, steps: int = 120, **params: Any
) -> Diagnosis | None:
    """Train a small autoencoder with a layer of four tokens between its halves."""
    layer = make_layer(kind, DIM, **({"decay": 0.9} | params))
    with seeded_weights(0, "autoencoder"):
        encoder = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, N_TOKENS * DIM))
        decoder = nn.Sequential(nn.Linear(N_TOKENS * DIM, 64), nn.ReLU(), nn.Linear(64, 64))
    model = nn.ModuleList([encoder, layer, decoder])

    def loss(images: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        quantized = layer(encoder(images).reshape(-1, N_TOKENS, DIM))
        error = (decoder(quantized.z_q.flatten(1)) - images).square().sum(1).mean()
        return error + N_TOKENS * quantized.loss, quantized.stats

    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0)
    return diagnose(list(train(model, loss, digits, optimizer, steps)), settings_of(layer, rate))


def train(
    model: nn.Module, loss: Loss, rows: Tensor, optimizer: torch.optim.Optimizer | None, steps: int
) -> Iterator[dict[str, Any]]:
    """Rows as ``TrainingResult.log`` holds them, epoch 0 included."""
    known, held_out = rows[:1400], rows[1400:]
    draw = torch_generator(0, "batches")

    def held_out_rows(epoch: int) -> Iterator[dict[str, Any]]:
        model.eval()
        with torch.no_grad():
            yield from mean_rows(epoch, "validation", [loss(held_out[:BATCH])[1], loss(held_out[-BATCH:])[1]])
        model.train()

    yield from held_out_rows(0)
    watched = []
    for step in range(1, steps + 1):
        total, stats = loss(known[torch.randint(len(known), (BATCH,), generator=draw)])
        if optimizer is not None:
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
        watched.append(stats)
        if step % EPOCH == 0:
            yield from mean_rows(step // EPOCH, "train", watched)
            yield from held_out_rows(step // EPOCH)
            watched = []


def mean_rows(epoch: int, split: str, stats: list[Mapping[str, Tensor]]) -> Iterator[dict[str, Any]]:
    for name in stats[0]:
        value = float(np.mean([float(s[name]) for s in stats]))
        yield {"epoch": epoch, "split": split, "name": name, "value": value}


def test_healthy_trainings_are_left_in_peace(digits, latents):
    assert of_layer(latents) is None
    assert of_layer(in_many_dimensions(latents)) is None
    assert of_autoencoder(digits) is None


def test_random_codes_of_another_scale_are_named_and_a_start_at_centres_ends_it(latents):
    scale = 30.0
    found = of_layer(latents, start="random", revival=0.0, scale=scale)
    assert found is not None
    assert found.cause == "initial scale"
    assert found.remedy == "start='kmeans'"
    assert found.utilization < 0.1
    codes, of_latents = (float(number) for number in re.findall(r"[\d.]+", found.evidence))
    # Normal codes and whitened latents in 8 dimensions are alike but for the scale.
    assert codes / of_latents == pytest.approx(scale, rel=0.5)
    assert of_layer(latents, start="kmeans", revival=0.0) is None


def test_many_dimensions_of_which_few_are_informative_are_named_and_fewer_end_it(latents):
    found = of_layer(in_many_dimensions(latents), start="random", revival=0.0)
    assert found is not None
    assert found.cause == "dimension"
    assert "of 256 dimensions" in found.evidence
    assert "dim=8" in found.remedy and "start='kmeans'" in found.remedy
    assert of_layer(latents, start="random", revival=0.0) is None
    assert of_layer(in_many_dimensions(latents), start="kmeans", revival=0.0) is None


def test_a_learning_rate_far_too_high_is_named_and_a_tenth_of_it_ends_it(digits):
    found = of_autoencoder(digits, rate=0.05)
    assert found is not None
    assert found.cause == "learning rate"
    assert found.remedy == "a tenth of the learning rate, 0.005"
    assert of_autoencoder(digits, rate=0.005) is None


def test_a_learning_rate_far_too_high_is_named_whatever_the_commitment(digits):
    found = of_autoencoder(digits, "vq", rate=0.05, commitment=16.0)
    assert found is not None
    assert found.cause == "learning rate"


def test_no_commitment_is_named_and_the_usual_weight_ends_it(digits):
    found = of_autoencoder(digits, "vq", n_codes=16, commitment=0.0, revival=0.0)
    assert found is not None
    assert found.cause == "commitment weight"
    assert "have left their codes" in found.evidence
    assert found.remedy == "commitment=0.25"
    assert of_autoencoder(digits, "vq", n_codes=16, commitment=0.25, revival=0.0) is None


def test_missing_revival_is_named_and_revival_ends_it(digits):
    found = of_autoencoder(digits, n_codes=128, revival=0.0)
    assert found is not None
    assert found.cause == "revival missing"
    assert found.remedy == "revival=0.03"
    assert of_autoencoder(digits, n_codes=128, revival=0.03) is None


def test_a_revival_that_comes_too_late_is_named(digits):
    found = of_autoencoder(digits, n_codes=256, decay=0.99, steps=80)
    assert found is not None
    assert found.cause == "revival missing"
    assert "never came to revive" in found.evidence
    assert found.remedy.startswith("decay=0.9")


# Invented statistics: a collapsed codebook of 256 codes in batches of 1,024, with nothing else unusual.
SETTINGS = LayerSettings(dim=8, n_codes=256, start="kmeans", revival=0.03, commitment=0.25)
COLLAPSED = {
    "batch_vectors": 1024.0,
    "batch_utilization": 0.05,
    "batch_perplexity": 6.0,
    "latent_norm": 2.0,
    "code_norm": 1.9,
    "relative_distortion": 0.1,
    "latent_dimensions": 5.0,
}


def invented(epochs: int = 5, **changes: float) -> list[dict[str, Any]]:
    rows = []
    for epoch in range(1, epochs + 1):
        for name, value in {**COLLAPSED, **changes}.items():
            rows.append({"epoch": epoch, "split": "validation", "name": name, "value": value})
        for name, value in {"encoder_drift": 0.05, "revived": 3.0, **changes}.items():
            rows.append({"epoch": epoch, "split": "train", "name": name, "value": value})
    return rows


def test_a_collapse_that_no_known_cause_explains_is_said_to_be_unclear():
    found = diagnose(invented(), SETTINGS)
    assert found is not None
    assert found.cause == "unclear"


# Latents that lie on their codes.
HELD = {"relative_distortion": 0.005, "encoder_drift": 0.05}


def before_training(latent_norm: float) -> dict[str, Any]:
    return {"epoch": 0, "split": "validation", "name": "latent_norm", "value": latent_norm}


@pytest.mark.parametrize("weight", [0.25, 16.0, 100.0])
def test_latents_drawn_onto_their_codes_point_to_the_commitment_whatever_its_weight(weight):
    log = [before_training(6.0), *invented(**HELD)]
    found = diagnose(log, replace(SETTINGS, commitment=weight))
    assert found is not None
    assert found.cause == "commitment weight"
    assert found.evidence == (
        f"at weight {weight:g} the latents shrank onto their codes, from norm 6 to 2, "
        "error 0.005 of their variance"
    )
    assert found.remedy == f"a tenth of the weight, commitment={weight / 10:g}"


@pytest.mark.parametrize(
    ("norm_before", "changes"),
    [(2.0, {}), (0.1, {}), (6.0, {"encoder_drift": 0.6}), (6.0, {"relative_distortion": 0.05})],
    ids=["kept their norm", "grew", "moved about", "lie off their codes"],
)
def test_a_heavy_commitment_alone_is_no_cause(norm_before, changes):
    log = [before_training(norm_before), *invented(**{**HELD, **changes})]
    found = diagnose(log, replace(SETTINGS, commitment=16.0))
    assert found is not None
    assert found.cause != "commitment weight"


def test_latents_that_leave_their_place_at_every_step_point_to_the_learning_rate():
    found = diagnose(invented(encoder_drift=3.0), SETTINGS)
    assert found is not None
    assert found.cause == "learning rate"
    assert "moved by 3 standard deviations" in found.evidence


def test_an_encoder_that_gives_few_vectors_points_to_the_learning_rate():
    found = diagnose(invented(relative_distortion=1e-6), SETTINGS)
    assert found is not None
    assert found.cause == "learning rate"
    assert found.remedy == "a tenth of the learning rate"


@pytest.mark.parametrize(("used", "collapsed"), [(25 / 256, True), (45 / 256, False)])
def test_a_small_batch_is_judged_by_what_it_could_use(used, collapsed):
    # 64 vectors use about 57 of 256 codes if all are equally likely.
    log = invented(batch_vectors=64.0, batch_utilization=used, batch_perplexity=40.0)
    assert (diagnose(log, SETTINGS) is not None) == collapsed


def test_many_codes_of_which_few_carry_all_have_collapsed_too():
    found = diagnose(invented(batch_utilization=0.9, batch_perplexity=8.0), SETTINGS)
    assert found is not None
    assert found.utilization == pytest.approx(0.9 / (1 - (255 / 256) ** 1024))


def of_levels(digits: Tensor, n_dead: int, **params: Any) -> Diagnosis | None:
    """The diagnosis of eight levels of 16 codes, the last ``n_dead`` of which use one code."""
    layer = ResidualVQ(64, {"kind": "ema", "params": {"n_codes": 16, **params}}, 8).train()
    layer(digits)
    with torch.no_grad():
        for level in list(layer.levels)[8 - n_dead :]:
            level.codebook[1:] = 1000.0
    stats = layer.eval()(digits[:512]).stats
    assert stats["batch_utilization"] >= 0.5  # the mean tells nothing
    return diagnose(list(mean_rows(1, "validation", [stats])), settings_of(layer))


def test_dead_levels_show_behind_those_that_carry_on(digits):
    assert of_levels(digits, 0) is None
    for n_dead in (1, 4):
        found = of_levels(digits, n_dead, revival=0.0)
        assert found is not None
        assert found.cause == "revival missing"
        assert (found.utilization, found.perplexity) == pytest.approx((1 / 16, 1 / 16), rel=1e-4)
        assert found.of_a_level
        assert found.sentence.startswith("the codebook of at least one level collapsed: a batch uses 6.3 %")


@pytest.mark.parametrize("name", ["lowest_level_utilization", "lowest_level_perplexity"])
def test_either_of_the_lowest_figures_tells(name):
    healthy = {"batch_utilization": 0.51, "batch_perplexity": 100.0}
    assert diagnose(invented(**healthy), SETTINGS) is None
    found = diagnose(
        invented(**healthy, **{name: 1 / 256 if name.endswith("utilization") else 1.0}), SETTINGS
    )
    assert found is not None and found.of_a_level


def test_only_the_last_epochs_count():
    early, late = invented(4), invented(8, batch_utilization=0.9, batch_perplexity=180.0)
    assert diagnose(early + [row for row in late if row["epoch"] > 4], SETTINGS) is None
    assert diagnose(late + [{**row, "epoch": row["epoch"] + 8} for row in early], SETTINGS) is not None


def test_without_a_validation_split_the_training_split_is_judged():
    rows = [{**row, "split": "train"} for row in invented()]
    assert diagnose(rows, SETTINGS) is not None


def test_a_log_without_statistics_of_a_layer_has_no_diagnosis():
    rows = [{"epoch": 1, "split": "validation", "name": "total", "value": 1.0}]
    assert diagnose(rows, SETTINGS) is None
    assert diagnose([], SETTINGS) is None


def test_the_sentence_holds_numbers_cause_and_change():
    found = Diagnosis("initial scale", "codes 90 long", "start='kmeans'", 0.0625, 0.031)
    assert found.sentence == (
        "the codebook collapsed: a batch uses 6.2 % of the codes that even use would, with 3.1 % of its "
        "perplexity. Likely cause: initial scale (codes 90 long); try start='kmeans'"
    )


def test_settings_are_read_from_the_layer_or_its_parts():
    layer = {"kind": "ema", "params": {"n_codes": 32, "start": "random", "revival": 0.0}}
    expected = LayerSettings(4, 32, "random", 0.0, 0.25, 1e-3)
    assert settings_of(EMAVQ(4, 32, start="random", revival=0.0), 1e-3) == expected
    assert settings_of(ResidualVQ(4, layer, 3), 1e-3) == expected
    assert settings_of(ProductVQ(8, layer, 2), 1e-3) == expected
    assert settings_of(FSQ(4, [5, 5, 5])) is None


def test_no_change_is_proposed_that_the_layer_does_not_take():
    settings = settings_of(DiVeQ(4, 32))
    assert settings is not None
    assert settings.commitment is None  # part of its construction, not a choice


def test_every_cause_has_one_rule():
    assert len({rule.cause for rule in RULES}) == len(RULES)


def test_the_page_lists_every_cause_and_every_statistic():
    page = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text(encoding="utf-8")
    causes, statistics = (
        [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")]
        for table in page.split("| cause |")[1].split("| statistic |")
    )
    assert causes[1:] == [rule.cause for rule in RULES]
    names = re.findall(r"`(\w+)`", " ".join(statistics))
    layer = ResidualVQ(2, {"kind": "ema", "params": {"n_codes": 4}}, 2).train()
    assert sorted(names) == sorted(layer(torch.randn(9, 2, generator=torch_generator(0, "z"))).stats)
