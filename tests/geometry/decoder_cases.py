"""Decoders, latents and edges that the tests of decoder lengths share."""

import numpy as np
from torch import nn

from geovq.geometry import ChordEdges, FisherEdges, PullbackEdges
from geovq.seeding import seeded_weights

KINDS = {
    "chord": ChordEdges,
    "polyline": lambda decoder, latents: ChordEdges(decoder, latents, segments=4),
    "pullback": PullbackEdges,
    "fisher": FisherEdges,
}
STRAIGHT = ["chord", "polyline", "pullback"]
CUTS = {  # name: shape of a latent, numbers of a token
    "whole": ((6,), 6),
    "chunks": ((6,), 2),
    "whole maps": ((2, 2, 3), 12),
    "sites": ((2, 2, 3), 2),
}


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def tokens_of(latents, dim):
    """Points in the order of the contract, by loops: image by image, chunk by chunk or site by site."""
    if latents[0].size == dim:
        return latents.reshape(len(latents), dim)
    if latents.ndim == 2:
        return np.array([z[start : start + dim] for z in latents for start in range(0, len(z), dim)])
    return np.array([z[:, i, j] for z in latents for i in range(z.shape[1]) for j in range(z.shape[2])])


def network(n_inputs, *, wide=False, last=nn.Identity):
    with seeded_weights(0, "decoder"):
        layers = nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, 40), nn.Tanh(), nn.Linear(40, 25), last())
    return layers.double() if wide else layers


def pairs(n, count, seed=0):
    rng = np.random.default_rng(seed)
    starts = rng.integers(n, size=count)
    return starts, (starts + rng.integers(1, n, size=count)) % n
