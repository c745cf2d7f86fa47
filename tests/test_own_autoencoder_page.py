"""docs/own-autoencoder.md: its code runs as it is, on an autoencoder that GeoVQ knows nothing about."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geovq.config import DataConfig
from geovq.data import load
from geovq.models.weights import arrays_of
from geovq.seeding import seeded_weights, torch_generator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own-autoencoder.md"
FLAT = (
    "From latents to codes",
    "Lower error for the same bits",
    "A decoder that must stay as it is",
    "Which metric to use",
)
DIM = 6


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2 * DIM))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_sigma = self.body(images).chunk(2, dim=1)
        return mean, log_sigma.exp()


class Decoder(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(
            nn.Linear(DIM, 64), nn.Tanh(), nn.Linear(64, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))
        )


def trained(encoder: nn.Module, decoder: nn.Module, images: np.ndarray) -> None:
    """Train a VAE for a second or two."""
    pixels, draws = torch.from_numpy(images), torch_generator(0, "training of a page's autoencoder")
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 5e-3)
    for _ in range(500):
        batch = pixels[torch.randint(len(pixels), (128,), generator=draws)]
        mean, sigma = encoder(batch)
        decoded = decoder(mean + sigma * torch.randn(mean.shape, generator=draws))
        kl = (mean.square() + sigma.square() - 1).sum(1) / 2 - sigma.log().sum(1)
        loss = (decoded - batch).square().flatten(1).sum(1) + 0.02 * kl
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


def blocks(section: str) -> list[str]:
    """The code under a heading of the page."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def carry_out(sections: tuple[str, ...], names: dict[str, Any]) -> None:
    for section in sections:
        for block in blocks(section):
            exec(compile(block, f"{PAGE}: {section}", "exec"), names)


def error(tokenizer: Any, images: np.ndarray, codes: np.ndarray | None = None) -> float:
    decoded = tokenizer.decode(tokenizer.encode(images) if codes is None else codes)
    return float(np.square(decoded - images).mean())


@pytest.fixture(scope="module")
def given() -> dict[str, Any]:
    """What the reader of the page brings."""
    splits = load(DataConfig("digits"))
    images, held_out = (part.images(slice(None)) for part in (splits.train, splits.validation))
    with seeded_weights(0, "page"):
        encoder, decoder = Encoder(), Decoder()
    trained(encoder, decoder, images)
    return {
        "Encoder": Encoder,
        "Decoder": Decoder,
        "encoder": encoder,
        "decoder": decoder,
        "images": images,
        "held_out": held_out,
    }


@pytest.fixture(scope="module")
def names(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything that the page's code has named in the end, and the decoder's weights before it ran."""
    names = {**given, "weights_before": arrays_of(given["decoder"])}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        carry_out(FLAT, names)
    return names


def test_the_way_to_a_tuned_tokenizer_has_fewer_than_20_lines():
    first = blocks(FLAT[0])[0]
    assert "finetune(" in first and len(first.splitlines()) < 20


def test_no_code_of_the_page_goes_unrun():
    headings = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert headings == [*FLAT, "Latent maps"]
    assert all(blocks(heading) for heading in headings)


def test_images_become_codes_of_64_bits_and_back(names):
    assert names["codes"].dtype == np.int64 and names["codes"].shape == (300, 8)
    assert names["tuned"].bits_per_image == 64
    assert names["decoded"].shape == (300, 1, 8, 8)


def test_tuning_helps_and_leaves_the_readers_decoder_and_the_codes_alone(names):
    tokenizer, tuned, held_out = names["tokenizer"], names["tuned"], names["held_out"]
    assert error(tuned, held_out) < error(tokenizer, held_out)
    assert np.array_equal(tokenizer.encode(held_out), names["codes"])
    weights = arrays_of(names["decoder"])
    assert all(np.array_equal(weights[name], array) for name, array in names["weights_before"].items())


def test_what_was_saved_is_loaded_around_new_modules(names):
    assert names["loaded"].decoder is not names["decoder"]
    assert np.array_equal(names["loaded"].encode(names["held_out"]), names["codes"])
    assert np.array_equal(names["loaded"].decode(names["codes"]), names["decoded"])


def test_decoder_aware_codes_of_the_page_have_a_lower_error(names):
    tuned, held_out = names["tuned"], names["held_out"]
    assert error(tuned, held_out, names["better"]) < error(tuned, held_out, names["codes"])


def test_a_rectifier_helps_and_the_decoder_is_the_readers_own(names):
    rectified, held_out = names["rectified"], names["held_out"]
    assert error(rectified, held_out) < error(names["tokenizer"], held_out)
    weights = arrays_of(rectified.decoder)
    assert all(np.array_equal(weights[name], array) for name, array in names["weights_before"].items())


def test_the_diagnosis_is_one_sentence_and_the_number_named_is_there(names):
    assert names["diagnosis"].recommendation.startswith("Quantize ")
    assert 0 < names["diagnosis"].mean_metric_error <= 1.001


def test_a_latent_map_gets_a_code_for_every_site(given):
    carry: dict[str, Any] = {}
    exec(compile("\n".join(blocks(FLAT[0])[0].splitlines()[:5]), str(PAGE), "exec"), carry)
    with seeded_weights(0, "map of a page"):
        carry["encoder"] = nn.Conv2d(1, 3, kernel_size=2, stride=2)
        carry["decoder"] = nn.Sequential(nn.ConvTranspose2d(3, 1, kernel_size=2, stride=2), nn.Sigmoid())
    carry["images"] = given["images"][:400]
    carry_out(("Latent maps",), carry)
    codes = carry["tokenizer"].encode(given["held_out"][:20])
    assert codes.shape == (20, 16) and codes.max() > 0
    assert carry["tokenizer"].decode(codes).shape == (20, 1, 8, 8)
