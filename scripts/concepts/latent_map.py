"""A two-dimensional latent space as its decoder stretches it, and where codes lie in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from concepts.autoencoders import Encoded
from concepts.real_decoders import N_NEIGHBORS
from geovq.geometry import Latents, PullbackEdges
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer
from geovq.tokenizer.autoencoder import Autoencoder

N_CODES, N_DRAWN = 16, 1_500


def points(autoencoder: Autoencoder, fitted: Encoded) -> list[dict[str, float]]:
    """Latents and how much larger the decoder makes a small area there: the root of det J'J."""
    drawn = fitted.means[:N_DRAWN]
    metrics = PullbackEdges(autoencoder.decoder, drawn).prepared(Latents(drawn)).metrics
    assert metrics is not None
    stretch = np.sqrt(np.maximum(np.linalg.det(metrics.astype(np.float64)), 0))
    return [
        {"x": float(x), "y": float(y), "stretch": float(s)} for (x, y), s in zip(drawn, stretch, strict=True)
    ]


def codes(autoencoder: Autoencoder, fitted: Encoded, seed: int) -> dict[str, Any]:
    """Vectors (K, 2) of Euclidean k-means and of pull-back geodesics, fitted on all latents."""
    edges = PullbackEdges(autoencoder.decoder, fitted.means)
    quantizers = {
        "kmeans": KMeansQuantizer(N_CODES, random_state=seed),
        "pullback": GeodesicQuantizer(N_CODES, N_NEIGHBORS, edges, random_state=seed),
    }
    return {name: _rounded(quantizer.fit(fitted.means).codebook_) for name, quantizer in quantizers.items()}


def _rounded(vectors: np.ndarray) -> list[list[float]]:
    return [[round(float(value), 4) for value in vector] for vector in vectors]
