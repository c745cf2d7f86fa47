"""Graphs that several tests search."""

import numpy as np
from scipy.sparse import csr_matrix

from geovq.geometry import Latents, neighbor_graph


def connected(points, k):
    return neighbor_graph(Latents(points), k).lengths


def grid_graph(side):
    """Integer lengths, so that sums are exact and ties are many."""
    index = np.arange(side * side).reshape(side, side)
    pairs = np.concatenate(
        [np.c_[index[:, :-1].ravel(), index[:, 1:].ravel()], np.c_[index[:-1].ravel(), index[1:].ravel()]]
    )
    half = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(side**2, side**2))
    return half + half.T
