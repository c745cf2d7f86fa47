"""How the tokenizers of these tests are made, and their names."""

from __future__ import annotations

import numpy as np
import torch

from geovq.config import AwareConfig, Spec
from geovq.data.splits import ImageSplits
from geovq.geometry import pullback_metrics
from geovq.models.cut import cut
from geovq.models.model import AutoencoderModel
from geovq.models.rectifier import Rectifier
from geovq.pipeline.decoder_lengths import measure_with
from geovq.registry import build
from geovq.seeding import seeded_weights, torch_generator
from geovq.tokenizer import Autoencoder, LatentMap, LatentTokenizer
from geovq.tokenizer.mapped_decoder import MappedDecoder
from geovq.tokenizer.vectors import CodeVectors

ARCHITECTURES = {
    "vae": Spec("vae", {"latent_dim": 8, "widths": [8, 16], "beta": 0.2}),
    "vae of maps": Spec("vae", {"latent_dim": 3, "widths": [8, 16], "beta": 0.2, "spatial": True}),
    "vqvae": Spec(
        "vqvae",
        {
            "layer": {"kind": "ema", "params": {"n_codes": 16}},
            "latent_dim": 8,
            "tokens": [2, 2],
            "widths": [8, 16],
        },
    ),
}


def seeded(kind: str, **params: object) -> Spec:
    return Spec(kind, {"random_state": 0, **params})


QUANTIZERS = {
    "kmeans": (seeded("kmeans", n_codes=16), (2, 2)),
    "gaussian wasserstein": (seeded("gaussian", n_codes=16, metric="wasserstein"), (2, 2)),
    "gaussian precision": (seeded("gaussian", n_codes=16, metric="precision"), (4, 1)),
    "geodesic": (seeded("geodesic", n_codes=16, n_neighbors=5), (2, 2)),
    "residual": (seeded("residual", n_codes=12, n_levels=3), (1, 1)),
    "scalar": (seeded("scalar", n_codes=3), (1, 1)),
    "scalar kl": (seeded("scalar", n_codes=3, allotment="kl"), (1, 1)),
    "scalar of a coordinate": (seeded("scalar", n_codes=4), (4, 2)),
    "product": (seeded("product", n_codes=16, n_groups=3), (1, 1)),
    "pullback": (seeded("pullback", n_codes=16), (2, 2)),
    "decoded-kmeans": (seeded("decoded-kmeans", n_codes=16), (1, 1)),
}
MAPPED = ("kmeans", "pullback", "decoded-kmeans")
AWARE = {
    "residual by image": ("residual", AwareConfig("image")),
    "product by metric": ("product", AwareConfig("metric")),
    "ema by image": ("ema", AwareConfig("image")),
}
KINDS = ["ema", *QUANTIZERS, *(f"{name} mapped" for name in MAPPED), *AWARE, "all parts"]
FOLLOWING = [name for name in KINDS if name.startswith(("pullback", "decoded-kmeans"))]
"""Their codes depend on the decoder."""


def fitted(
    models: dict[str, AutoencoderModel],
    digits: ImageSplits,
    spec: Spec,
    tokens: tuple[int, int],
    latent_map: LatentMap | None = None,
    model: str = "vae",
) -> LatentTokenizer:
    """A tokenizer around a VAE whose quantizer is fitted on 600 training images, with all that it takes."""
    vae = models[model]
    floor = Autoencoder(vae.encoder, vae.decoder, digits.image_shape)
    mean, sigma = map(torch.from_numpy, floor.posterior(digits.train.images(slice(0, 600))))
    decoder = vae.decoder
    if latent_map is not None:
        mean, sigma = latent_map(mean), latent_map.sigma(sigma)
        decoder = MappedDecoder(latent_map, decoder)
    quantizer = build("quantizer", spec)
    measure_with(quantizer, decoder, mean.numpy())
    points = cut(mean, tokens).flatten(0, 1).numpy()
    given = {"sigma": cut(sigma, tokens).flatten(0, 1).numpy()} if quantizer.takes_sigma else {}
    if quantizer.takes_metric:
        given["metric"] = np.concatenate(pullback_metrics(decoder, mean, tokens))
    return LatentTokenizer(
        vae.encoder,
        vae.decoder,
        quantizer.fit(points, **given).as_module(),
        image_shape=digits.image_shape,
        latent_shape=vae.latent_shape,
        tokens=tokens,
        latent_map=latent_map,
        architecture=ARCHITECTURES[model],
    )


def with_all_parts(tokenizer: LatentTokenizer) -> LatentTokenizer:
    """The tokenizer with vectors and a rectifier, neither of which is what it starts as, and aware."""
    vectors = CodeVectors.of(tokenizer.quantizer)
    with seeded_weights(0, "rectifier"):
        rectifier = Rectifier(tokenizer.latent_shape, width=5, n_blocks=1)
    generator = torch_generator(0, "parts")
    with torch.no_grad():
        for parameter in [*vectors.parameters(), *rectifier.parameters()]:
            parameter += 0.02 * torch.randn(parameter.shape, generator=generator)
    return tokenizer.changed(vectors=vectors, rectifier=rectifier, aware=AwareConfig("image", 3, 1))
