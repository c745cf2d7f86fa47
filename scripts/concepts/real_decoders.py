"""Codebooks of whole latents behind trained decoders: one code an image, judged on what it decodes to.

Codebook and assignment are told apart: a codebook is used with the assignment of its own graph, with the
nearest code in the metric of its edges, and with the code whose image is nearest to the decoded latent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from sklearn.metrics import normalized_mutual_info_score

from concepts.autoencoders import Encoded
from concepts.remembered import RememberedChord, RememberedFisher, RememberedPullback
from geovq.geometry import (
    DATA_EDGES,
    Cells,
    EdgeLengths,
    Latents,
    NeighborIndex,
    neighbor_graph,
    snap_to_points,
)
from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer, KMedoidsQuantizer
from geovq.search import cell_means, kmeans, nearest_codes
from geovq.tokenizer.autoencoder import Autoencoder

LATENT_DIMENSIONS = (2, 4, 8, 16)
N_CODES = (16, 64, 256)
N_FITTED, N_TEST, N_NEIGHBORS = 10_000, 2_000, 15
Row = dict[str, Any]
Used = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]
"""By (centers, assignment): vectors (K, d), and the code of every test image (n,)."""


class Judge:
    """What codes are compared with: test images, their classes, and what their latents decode to."""

    def __init__(self, autoencoder: Autoencoder, test: Encoded) -> None:
        self.autoencoder, self.test = autoencoder, test
        self.decoded = self.pixels(test.means)

    def pixels(self, latents: np.ndarray) -> np.ndarray:
        """Decoded images as rows of pixels, float32 (n, P)."""
        return self.autoencoder.decode_latents(latents).reshape(len(latents), -1)

    def nearest_images(self, vectors: np.ndarray) -> np.ndarray:
        """For every test image the code whose image is nearest to what the image's own latent decodes to."""
        return _nearest(self.decoded, self.pixels(vectors))

    def values(self, vectors: np.ndarray, codes: np.ndarray) -> dict[str, float]:
        """Mean squared pixel error against decoded latents and images, and agreement with classes."""
        shown = self.pixels(vectors)[codes]
        return {
            "decoded_error": _mean_square(shown - self.decoded),
            "mse": _mean_square(shown - self._images()),
            "class_nmi": float(normalized_mutual_info_score(self.test.labels, codes)),
        }

    def floor(self) -> float:
        """Mean squared pixel error of the latents themselves, without any code."""
        return _mean_square(self.decoded - self._images())

    def _images(self) -> np.ndarray:
        return self.test.images.reshape(len(self.test.images), -1)


def rows(autoencoder: Autoencoder, fitted: Encoded, test: Encoded, seed: int) -> Iterator[Row]:
    """Every codebook of every size under every assignment, after the continuous floor."""
    judge = Judge(autoencoder, test)
    yield {"codebook": "continuous", "mse": judge.floor()}
    decoded = judge.pixels(fitted.means)
    edges = all_edges(autoencoder, fitted.means)
    for n_codes in N_CODES:
        books = {
            "kmeans": _kmeans(fitted, test, n_codes, seed),
            "kmedoids": _kmedoids(fitted, test, n_codes, seed, edges["pullback"]),
            "decoded kmeans": _decoded_kmeans(fitted, test, decoded, n_codes, seed),
            **{name: _geodesic(fitted, test, n_codes, seed, edges[name]) for name in edges},
        }
        for codebook, uses in books.items():
            by_image = {
                (centers, "image"): (vectors, judge.nearest_images(vectors))
                for (centers, _), (vectors, _) in uses.items()
            }
            for (centers, assignment), (vectors, codes) in {**uses, **by_image}.items():
                yield {
                    "codebook": codebook,
                    "centers": centers,
                    "assignment": assignment,
                    "n_codes": n_codes,
                    **judge.values(vectors, codes),
                }


def all_edges(autoencoder: Autoencoder, latents: np.ndarray) -> Mapping[str, EdgeLengths]:
    """The edges that are compared, those of the decoder measured once for all codebooks."""
    pullback = RememberedPullback(autoencoder.decoder, latents)
    return {
        "euclidean": DATA_EDGES["euclidean"],
        "precision": DATA_EDGES["precision"],
        "chord": RememberedChord(pullback),
        "pullback": pullback,
        "fisher": RememberedFisher(autoencoder.decoder, latents),
    }


def _kmeans(fitted: Encoded, test: Encoded, n_codes: int, seed: int) -> Used:
    quantizer = KMeansQuantizer(n_codes, random_state=seed).fit(fitted.means)
    return {("mean", "nearest"): (quantizer.codebook_, quantizer.predict(test.means))}


def _kmedoids(fitted: Encoded, test: Encoded, n_codes: int, seed: int, edges: EdgeLengths) -> Used:
    """Euclidean codes, assigned as Euclidean ones and over the graph of ``edges``."""
    quantizer = KMedoidsQuantizer(n_codes, random_state=seed).fit(fitted.means)
    over_graph = assigned_over_graph(fitted.means, test.means, quantizer.medoids_, edges)
    return {
        ("medoid", "nearest"): (quantizer.codebook_, quantizer.predict(test.means)),
        ("medoid", f"{edges.name} graph"): (quantizer.codebook_, over_graph),
    }


def _decoded_kmeans(fitted: Encoded, test: Encoded, decoded: np.ndarray, n_codes: int, seed: int) -> Used:
    """Cells of k-means on decoded images; codes are the latents nearest to its means, or the cells' means."""
    means = kmeans(decoded, n_codes, seed)
    cells = _nearest(decoded, means)
    medoids = fitted.means[snap_to_points(decoded, means, cells)]
    centers = cell_means(fitted.means, cells, n_codes)[0].astype(np.float32)
    return {
        ("medoid", "nearest"): (medoids, _nearest(test.means, medoids)),
        ("mean", "nearest"): (centers, _nearest(test.means, centers)),
    }


def _geodesic(fitted: Encoded, test: Encoded, n_codes: int, seed: int, edges: EdgeLengths) -> Used:
    quantizer = GeodesicQuantizer(n_codes, N_NEIGHBORS, edges, random_state=seed)
    sigma, test_sigma = (fitted.sigmas, test.sigmas) if edges.takes_sigma else (None, None)
    quantizer.fit(fitted.means, sigma=sigma)
    codes = quantizer.predict(test.means, sigma=test_sigma)
    cells = quantizer.predict(fitted.means, sigma=sigma)
    means = cell_means(fitted.means, cells, n_codes)[0].astype(np.float32)
    nearest = quantizer.set_params(assignment="nearest").predict(test.means, sigma=test_sigma)
    return {
        ("medoid", "graph"): (quantizer.codebook_, codes),
        ("medoid", "nearest"): (quantizer.codebook_, nearest),
        ("mean", "graph"): (means, codes),
    }


def assigned_over_graph(
    fitted: np.ndarray, points: np.ndarray, medoids: np.ndarray, edges: EdgeLengths
) -> np.ndarray:
    """Codes of ``points`` over the graph of ``fitted (n, d)``, for medoids that were found in another way.

    Points are joined to the graph as ``GeodesicQuantizer`` joins them.
    """
    nodes = Latents(fitted)
    cells = Cells.around(neighbor_graph(nodes, N_NEIGHBORS, edges).lengths, medoids)
    found = NeighborIndex(fitted).query(points, N_NEIGHBORS + 1)
    paths = edges.lengths_to(Latents(points), edges.prepared(nodes), found) + cells.distance[found]
    return np.take_along_axis(cells.label[found], paths.argmin(1)[:, None], axis=1)[:, 0]


def _nearest(points: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return nearest_codes(torch.from_numpy(points), torch.from_numpy(codes)).numpy()


def _mean_square(differences: np.ndarray) -> float:
    return float(np.square(differences).mean(dtype=np.float64))
