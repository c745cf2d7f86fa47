"""Codes at medoids of shortest paths on a k-nearest-neighbour graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from geovq.geometry import (
    EDGES,
    Cells,
    NeighborIndex,
    connect,
    edge_lengths,
    improve_medoids,
    knn_graph,
    snap_to_points,
)
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_choice, check_count
from geovq.search import cell_means, distinct_rows, kmeans, nearest_codes, nearest_codes_weighted
from geovq.seeding import numpy_generator

TOLERANCE = 1e-3  # a step that gains less, relatively, is the last
ROWS_A_CHUNK = 65536


class GeodesicQuantizer(Quantizer):
    """k-medoids in the shortest-path distance of the k-NN graph of all points.

    The start is Euclidean k-means, every mean moved to its nearest point. Then Lloyd's algorithm runs on the
    graph: points go to the nearest medoid by one multi-source Dijkstra run on the full graph (no landmarks),
    and medoids move where that lowers the mean squared path length, which therefore never rises. Components
    of the graph are joined by the shortest bridges.

    A new point is joined to its nearest fitted points as they are to each other, and takes the code of the
    one through which its path to a medoid is shortest. A fitted point has its own code exactly.

    Parameters
    ----------
    n_codes : K
    n_neighbors : neighbours of every point; at most n - 1 are used
    edges : ``"euclidean"``; ``"wasserstein"``, the distance of ``[mean, sigma]``; or ``"precision"``, the
        distance of means weighted by ``1 / sigma^2``. Without sigma, all sigmas are 1.
    centers : what a code decodes to: ``"medoid"``, a fitted point, or ``"mean"``, the mean of its cell, which
        lies nearer to the cell's points
    n_iterations : Lloyd iterations at most; they end when one lowers the objective by less than 0.1 %
    assignment : of new points: ``"graph"``, or ``"nearest"`` code in the metric of the edges, which makes
        the fitted quantizer as small as its codebook
    random_state : seed, or ``np.random.RandomState``, of the start and of the pivots

    Attributes
    ----------
    codebook_ : (K, d)
    codebook_sigma_ : (K, d), the sigmas of the medoids or their means over the cell, if fitted with sigma
    objectives_ : mean squared path length to the medoid, at the start and after every iteration
    n_bridges_, bridge_length_ : edges added to connect the graph, and their total length
    nodes_ : (m, d), the distinct fitted points (``assignment="graph"``), with ``node_sigmas_``,
        ``node_distances_`` (m,) and ``node_codes_`` (m,)

    Source: geodesic centroidal tessellation, Peyré and Cohen, "Geodesic Remeshing Using Front
    Propagation", IJCV 2006; clustering on latent graphs, Yang et al., "Geodesic Clustering in Deep Generative
    Models", 2018.
    """

    codebook_sigma_: np.ndarray
    objectives_: np.ndarray
    n_bridges_: int
    bridge_length_: float
    nodes_: np.ndarray
    node_sigmas_: np.ndarray
    node_distances_: np.ndarray
    node_codes_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        n_neighbors: int = 15,
        edges: str = "euclidean",
        centers: str = "medoid",
        n_iterations: int = 10,
        assignment: str = "graph",
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_neighbors = n_neighbors
        self.edges = edges
        self.centers = centers
        self.n_iterations = n_iterations
        self.assignment = assignment
        self.random_state = random_state

    @property
    def takes_sigma(self) -> bool:
        """All edges but the Euclidean ones measure Gaussians."""
        return self.edges != "euclidean"

    def _fit(self, points: np.ndarray, sigma: np.ndarray | None, seed: int) -> None:
        self._check_parameters()
        sigmas = self._sigmas(points, sigma)
        # Equal points would be each other's only neighbours, cut off from the rest: they become one node.
        first, node = distinct_rows(points if sigmas is None else np.concatenate([points, sigmas], axis=1))
        weights = np.bincount(node).astype(np.float64)
        nodes, node_sigmas = points[first], None if sigmas is None else sigmas[first]
        index = NeighborIndex(EDGES[self.edges].coordinates(nodes, node_sigmas))
        graph = self._connected_graph(nodes, node_sigmas, index)
        start = Cells.around(graph, self._start(points, sigmas, index.points, seed))
        cells = self._lloyd(graph, start, index.points, weights, seed)
        self._set_codebook(points, sigmas, first[cells.medoids], cells.label[node])
        if self.assignment == "graph":
            self.nodes_, self.node_distances_, self.node_codes_ = nodes, cells.distance, cells.label
            if node_sigmas is not None:
                self.node_sigmas_ = node_sigmas
            self._index = index

    def _connected_graph(
        self, nodes: np.ndarray, node_sigmas: np.ndarray | None, index: NeighborIndex
    ) -> csr_matrix:
        edges = EDGES[self.edges]
        n_neighbors = min(self.n_neighbors, len(nodes) - 1)
        if n_neighbors == 0:
            graph = csr_matrix((1, 1))
        else:
            graph = knn_graph(nodes, n_neighbors, node_sigmas, edges, index)
        graph, bridges = connect(graph, nodes, node_sigmas, edges)
        self.n_bridges_, self.bridge_length_ = bridges.count, bridges.total_length
        return graph

    def _start(
        self, points: np.ndarray, sigmas: np.ndarray | None, node_coordinates: np.ndarray, seed: int
    ) -> np.ndarray:
        """Nodes nearest to the means of k-means, int64 (K,); all nodes if there are no more than codes."""
        if len(node_coordinates) <= self.n_codes:
            if len(node_coordinates) < self.n_codes:
                warnings.warn(
                    f"n_codes is {self.n_codes}, but only {len(node_coordinates)} points are distinct; "
                    f"{self.n_codes - len(node_coordinates)} codes will never be used",
                    UserWarning,
                    stacklevel=4,
                )
            return np.arange(len(node_coordinates))
        means = kmeans(EDGES[self.edges].coordinates(points, sigmas), self.n_codes, seed)
        cells = nearest_codes(as_tensor(node_coordinates), as_tensor(means)).numpy()
        return snap_to_points(node_coordinates, means, cells)

    def _lloyd(
        self, graph: csr_matrix, cells: Cells, coordinates: np.ndarray, weights: np.ndarray, seed: int
    ) -> Cells:
        objectives = [cells.mean_square(weights)]
        for iteration in range(self.n_iterations):
            generator = numpy_generator(seed, "pivots", iteration)
            cells = improve_medoids(graph, cells, coordinates, weights, generator)
            objectives.append(cells.mean_square(weights))
            if objectives[-1] > (1 - TOLERANCE) * objectives[-2]:
                break
        self.objectives_ = np.array(objectives)
        return cells

    def _set_codebook(
        self, points: np.ndarray, sigmas: np.ndarray | None, medoids: np.ndarray, cells: np.ndarray
    ) -> None:
        padding = np.zeros(self.n_codes - len(medoids), dtype=np.int64)
        rows = np.concatenate([np.arange(len(medoids)), padding])
        codebook, codebook_sigma = points[medoids], None if sigmas is None else sigmas[medoids]
        if self.centers == "mean":
            weighted = sigmas is not None and self.edges == "precision"
            weights = sigmas.astype(np.float64) ** -2 if sigmas is not None and weighted else None
            codebook = cell_means(points, cells, len(medoids), weights)[0].astype(points.dtype)
            if sigmas is not None:
                codebook_sigma = cell_means(sigmas, cells, len(medoids))[0].astype(points.dtype)
        self.codebook_ = codebook[rows]
        if codebook_sigma is not None:
            self.codebook_sigma_ = codebook_sigma[rows]

    def _encode(self, points: torch.Tensor, sigma: torch.Tensor | None) -> torch.Tensor:
        if self.assignment == "graph":
            means = points.cpu().numpy()
            sigmas = self._sigmas(means, None if sigma is None else sigma.cpu().numpy())
            return torch.from_numpy(self._attach(means, sigmas)).to(points.device)
        codebook = as_tensor(self.codebook_)
        if self.edges == "euclidean":
            return nearest_codes(points, codebook)
        if sigma is None:
            sigma = torch.ones_like(points)
        if self.edges == "precision":
            return nearest_codes_weighted(points, sigma**-2, codebook)
        both = torch.cat([codebook, as_tensor(self.codebook_sigma_)], dim=1)
        return nearest_codes(torch.cat([points, sigma], dim=1), both)

    def _attach(self, means: np.ndarray, sigmas: np.ndarray | None) -> np.ndarray:
        """Codes (n,) of points joined to the graph at their nearest nodes."""
        edges = EDGES[self.edges]
        count = min(self.n_neighbors + 1, len(self.nodes_))  # a fitted point counts itself
        node_sigmas = None if sigmas is None else self.node_sigmas_
        codes = np.empty(len(means), dtype=np.int64)
        for start in range(0, len(means), ROWS_A_CHUNK):
            part = slice(start, start + ROWS_A_CHUNK)
            part_sigmas = None if sigmas is None else sigmas[part]
            found = self._index.query(edges.coordinates(means[part], part_sigmas), count)
            lengths = edges.lengths(
                np.repeat(means[part], count, axis=0),
                None if part_sigmas is None else np.repeat(part_sigmas, count, axis=0),
                self.nodes_[found.ravel()],
                None if node_sigmas is None else node_sigmas[found.ravel()],
            ).reshape(found.shape)
            paths = lengths + self.node_distances_[found]
            on_node = lengths == 0
            paths[~on_node & on_node.any(1, keepdims=True)] = np.inf
            shortest = paths == paths.min(1, keepdims=True)
            codes[part] = np.where(shortest, self.node_codes_[found], self.n_codes).min(1)
        return codes

    def save(self, path: str | Path, *, compact: bool = False) -> None:
        """Write the fitted quantizer; ``compact`` leaves out the graph's nodes.

        A compact quantizer is as small as its codebook and gives new points the ``"nearest"`` code.
        """
        if not compact or self.assignment == "nearest":
            super().save(path)
            return
        check_is_fitted(self)
        small = clone(self).set_params(assignment="nearest")
        on_nodes = ("nodes_", "node_sigmas_", "node_distances_", "node_codes_")
        for name, value in vars(self).items():
            if name.endswith("_") and name not in on_nodes:
                setattr(small, name, value)
        small.save(path)

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Set the learnt attributes, and make the nodes searchable again."""
        super().restore(arrays, values)
        if self.assignment == "graph":
            node_sigmas = getattr(self, "node_sigmas_", None)
            self._index = NeighborIndex(EDGES[self.edges].coordinates(self.nodes_, node_sigmas))

    def _sigmas(self, points: np.ndarray, sigma: np.ndarray | None) -> np.ndarray | None:
        """The sigmas that the edges measure: none if Euclidean, 1 if there are none."""
        if self.edges == "euclidean":
            return None
        return np.ones_like(points) if sigma is None else sigma

    def _check_parameters(self) -> None:
        edge_lengths(self.edges)
        check_count("n_neighbors", self.n_neighbors)
        check_count("n_iterations", self.n_iterations)
        check_choice("centers", self.centers, ("medoid", "mean"))
        check_choice("assignment", self.assignment, ("graph", "nearest"))
