"""The pull-back metric of a decoder, at given latents and on average.

J'J, with J the Jacobian of the decoded image: to first order, a step dz of the latent moves the image by the
squared distance dz' J'J dz, summed over the numbers of the image.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.geometry.decoder_calls import DIFFERENTIABLE, Decoder, DecoderCalls
from geovq.geometry.decoder_edges import PullbackEdges
from geovq.geometry.latents import Latents
from geovq.geometry.token_contexts import TokenContexts
from geovq.models.cut import token_dim
from geovq.seeding import torch_generator

MeanOver = Literal["whole", "shared", "site"]

PROBES = 4  # an image: its own probes then vary no more than metrics vary from image to image
NUMBERS_A_CHUNK = 2**22  # of the metrics that are added up at once


def pullback_metrics(
    decoder: Decoder, latents: np.ndarray | Tensor, tokens: tuple[int, int] | None = None
) -> np.ndarray:
    """J'J of the decoded image at every latent, or its diagonal blocks for the tokens of the latents.

    The decoder runs in eval mode, as for ``PullbackEdges``. Takes D Jacobian-vector products a latent, D all
    its numbers; the blocks are exact.

    Parameters
    ----------
    decoder : latents (N, *latent_shape) -> images (N, ...), row by row
    latents : (N, D) or (N, D, h, w)
    tokens : grid (height, width) that the latents are cut into

    Returns
    -------
    float32 (N, D, D), D all numbers of a latent in its own order; with ``tokens`` (N, T, d, d)

    Raises
    ------
    InputError
        If the latents are not finite or cannot be cut so, or the decoder does not take them, gives anything
        but one finite image for each, or has no derivative.

    Source: Arvanitidis, Hansen and Hauberg, "Latent Space Oddity: on the Curvature of Deep Generative
    Models", ICLR 2018.
    """
    edges = DecoderMetric(decoder, latents)
    shape = edges.latents.shape[1:]
    points = _points(edges, shape.numel() if tokens is None else token_dim(shape, tokens))
    edges.check(points)
    metrics = _at(edges, points)
    return metrics if tokens is None else metrics.reshape(len(edges.latents), -1, *metrics.shape[1:])


def mean_metric(
    decoder: Decoder, latents: np.ndarray | Tensor, per: MeanOver = "whole", seed: int = 0
) -> np.ndarray:
    """E[J'J] over the latents given: a few hundred are enough.

    ``whole`` is the exact mean for flat latents, by D Jacobian-vector products each. Of a map, ``site`` gives
    the diagonal block of every site and ``shared`` the mean of these over sites. They are estimated from
    products v'J with random signs v over the numbers of an image, because E[J'v v'J] = J'J: one backward
    pass for all sites at once, 4 an image. The estimate is unbiased and positive semi-definite; beside what
    the choice of latents contributes, an entry (i, j) of a site has a standard error of at most
    sqrt(M_ii M_jj / (2 N)) where the metrics M of all N latents are alike. ``shared`` has less.

    Parameters
    ----------
    decoder : latents (N, *latent_shape) -> images (N, ...), row by row
    latents : (N, D), or (N, D, h, w) for ``shared`` and ``site``
    per : what the mean is taken for
    seed : of the signs

    Returns
    -------
    float64 (D, D), symmetric; for ``site`` (h w, D, D), sites in row order

    Raises
    ------
    InputError
        As ``pullback_metrics``, and if ``per`` does not fit the latents.

    Source: random signs for a trace, Hutchinson, "A Stochastic Estimator of the Trace of the Influence
    Matrix", 1989; for a matrix, Martens, Sutskever and Swersky, "Estimating the Hessian by Back-propagating
    Curvature", ICML 2012.
    """
    edges = DecoderMetric(decoder, latents)
    expected = {"whole": 2, "shared": 4, "site": 4}
    if expected.get(per) != edges.latents.ndim:
        raise InputError(
            f"a mean metric per '{per}' of latents {tuple(edges.latents.shape)}; expected 'whole' for flat "
            "latents (N, D), 'shared' or 'site' for maps (N, D, h, w)"
        )
    if per == "whole":
        return _exact_mean(edges)
    blocks = _mean_of_probes(edges, seed)
    return blocks if per == "site" else blocks.mean(0)


class DecoderMetric(PullbackEdges):
    """The metric of which ``PullbackEdges`` measures lengths, at points and without a graph."""

    @property
    def subject(self) -> str:
        """What messages begin with: nobody asked for edges."""
        return "pull-back metric"


class ProbedCalls(DecoderCalls):
    """Calls of a decoder backwards: products of random signs over an image with its Jacobian."""

    def probed(self, latents: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
        """v'J at ``latents (b, *latent_shape)`` for 4 draws of signs v each, (4, b, *latent_shape)."""
        with torch.enable_grad():
            points = self._placed(latents).clone().requires_grad_()
            try:
                features = self.features(points, images)
                pulled = [self._pulled(features, points, generator) for _ in range(PROBES)]
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                raise self._refusal(
                    f"has no derivative: {' '.join(str(error).split())}", f"expected {DIFFERENTIABLE}"
                ) from error
        products = torch.stack(pulled)
        self._check_finite(products.movedim(1, 0), images, "the derivative")
        return products

    def _pulled(self, features: Tensor, points: Tensor, generator: torch.Generator) -> Tensor:
        signs = torch.randint(2, features.shape, generator=generator).to(features) * 2 - 1
        (product,) = torch.autograd.grad(features, points, signs, retain_graph=True)
        return product


def _points(edges: DecoderMetric, dim: int) -> Latents:
    tokens = TokenContexts(edges.latents, dim).tokens
    return Latents(tokens.reshape(-1, dim).numpy())


def _at(edges: DecoderMetric, points: Latents) -> np.ndarray:
    metrics = edges.prepared(points).metrics
    assert metrics is not None
    return metrics


def _exact_mean(edges: DecoderMetric) -> np.ndarray:
    n, dim = edges.latents.shape
    points = _points(edges, dim)
    edges.check(points)
    total = np.zeros((dim, dim))
    rows = max(1, NUMBERS_A_CHUNK // dim**2)
    for start in range(0, n, rows):
        total += _at(edges, points.take(slice(start, start + rows))).sum(0, dtype=np.float64)
    return (total + total.T) / (2 * n)


def _mean_of_probes(edges: DecoderMetric, seed: int) -> np.ndarray:
    n, dim, height, width = edges.latents.shape
    calls = ProbedCalls(edges.decoder, edges.latents[:1], edges.subject)
    with calls.running():
        calls.check()
    # Outside inference mode, in which nothing can be differentiated.
    with torch.inference_mode(False), calls.running():
        total = torch.zeros(height * width, dim, dim, dtype=torch.float64)
        for start in range(0, n, calls.batch):
            images = torch.arange(start, min(n, start + calls.batch))
            latents = edges.latents[start : start + calls.batch].clone()
            pulled = calls.probed(latents, images, torch_generator(seed, "signs over an image", start))
            per_site = pulled.flatten(3).permute(3, 0, 1, 2).flatten(1, 2).double().cpu()
            total += per_site.mT @ per_site
    return (total / (n * PROBES)).numpy()
