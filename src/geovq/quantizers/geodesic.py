"""Codes at medoids of shortest paths on the k-nearest-neighbour graph of all points."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from geovq.geometry import (
    Cells,
    EdgeLengths,
    NeighborIndex,
    edge_lengths,
    farthest_first,
    improve_medoids,
    polish_medoids,
    snap_to_points,
)
from geovq.quantizers.graph_codes import GraphQuantizer
from geovq.quantizers.validation import check_choice, check_count, check_flag, check_power
from geovq.search import kmeans
from geovq.seeding import derive_seed, numpy_generator

TOLERANCE = 2e-3  # a step that gains less, relatively, is the last: polishing gains more


class GeodesicQuantizer(GraphQuantizer):
    """k-medoids in the shortest-path distance of the k-NN graph of all points.

    The start is Euclidean k-means, every mean moved to its nearest point. Then Lloyd's algorithm runs on the
    graph: points go to the nearest medoid by one multi-source Dijkstra run on the full graph (no landmarks),
    and medoids move where that lowers the mean ``length ** power``, which therefore never rises. Components
    of the graph are joined by the shortest bridges.

    Parameters
    ----------
    n_codes : K
    n_neighbors : neighbours of every point; at most n - 1 are used
    edges : ``"euclidean"``; ``"wasserstein"``, the distance of ``[mean, sigma]``; ``"precision"``, the
        distance of means weighted by ``1 / sigma^2``; or an object for lengths that need a decoder, as in
        ``geovq.geometry.PullbackEdges(decoder, latents)``. Without sigma, all sigmas are 1.
    centers : what a code decodes to: ``"medoid"``, a fitted point (of one person, perhaps: mind what is
        published), or ``"mean"``, the mean of its cell, which lies nearer to the cell's points
    power : 2 for squared path lengths, 1 for path lengths as in k-medoids
    init : ``"kmeans"``; ``"random"`` points; or ``"farthest"``, farthest-first over the graph
    polish : finish by swaps of medoids with other points, which leave the optima where Lloyd's algorithm gets
        stuck. Holds K x n float32 (all n x n up to 10,000 points), and takes many times as long
    n_iterations : Lloyd iterations at most; they end when one lowers the objective by less than 0.2 %
    assignment : of new points: ``"graph"``, or ``"nearest"`` code in the metric of the edges, which makes
        the fitted quantizer as small as its codebook; ``nearest_disagreement_`` says how often they differ
    allow_bridges : whether components of the graph may be joined; if not, several are an ``InputError``
    random_state : seed, or ``np.random.RandomState``, of the start and of the swaps

    Attributes
    ----------
    objectives_ : mean ``length ** power`` to the medoid: at the start, after every iteration, after polishing

    The others are those of ``GraphQuantizer``.

    Source: geodesic centroidal tessellation, Peyré and Cohen, "Geodesic Remeshing Using Front
    Propagation", IJCV 2006; clustering on latent graphs, Yang et al., "Geodesic Clustering in Deep Generative
    Models", 2018.
    """

    objectives_: np.ndarray

    def __init__(
        self,
        n_codes: int = 8,
        n_neighbors: int = 15,
        edges: EdgeLengths | str = "euclidean",
        centers: str = "medoid",
        power: int = 2,
        init: str = "kmeans",
        polish: bool = False,
        n_iterations: int = 10,
        assignment: str = "graph",
        allow_bridges: bool = True,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_neighbors = n_neighbors
        self.edges = edges
        self.centers = centers
        self.power = power
        self.init = init
        self.polish = polish
        self.n_iterations = n_iterations
        self.assignment = assignment
        self.allow_bridges = allow_bridges
        self.random_state = random_state

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        self._check_parameters()
        latents = self._latents(points, sigma)
        edge_lengths(self.edges).check(latents)
        nodes, node = self._distinct(latents)
        weights = np.bincount(node).astype(np.float64)
        index = NeighborIndex(edge_lengths(self.edges).coordinates(nodes))
        graph = self._neighbor_graph(nodes, index)
        if len(nodes) <= self.n_codes:
            start = self._all_nodes(len(nodes))
        else:
            start = self._start(graph, index.points, node, seed)
        cells = Cells.around(graph, start)
        cells = self._lloyd(graph, cells, index.points, weights, seed)
        self._set_codes(latents, nodes, node, index, cells)

    def _start(self, graph: csr_matrix, coordinates: np.ndarray, node: np.ndarray, seed: int) -> np.ndarray:
        """The first medoids, int64 (K,), fewer than there are nodes."""
        n_nodes = len(coordinates)
        generator = numpy_generator(seed, "start")
        if self.init == "random":
            return generator.choice(n_nodes, self.n_codes, replace=False)
        if self.init == "farthest":
            return farthest_first(graph, self.n_codes, int(generator.integers(n_nodes)))
        with warnings.catch_warnings():  # nodes that differ in sigma alone have one place here, but own codes
            warnings.simplefilter("ignore", UserWarning)
            means = kmeans(coordinates[node], self.n_codes, seed)
        return snap_to_points(coordinates, means, NeighborIndex(means).query(coordinates, 1)[:, 0])

    def _lloyd(
        self, graph: csr_matrix, cells: Cells, coordinates: np.ndarray, weights: np.ndarray, seed: int
    ) -> Cells:
        objectives = [cells.mean_cost(weights, self.power)]
        for _ in range(self.n_iterations):
            cells = improve_medoids(graph, cells, coordinates, weights, self.power)
            objectives.append(cells.mean_cost(weights, self.power))
            if objectives[-1] >= (1 - TOLERANCE) * objectives[-2]:
                break
        if self.polish:
            cells = polish_medoids(graph, cells, weights, self.power, derive_seed(seed, "polish"))
            objectives.append(cells.mean_cost(weights, self.power))
        self.objectives_ = np.array(objectives)
        return cells

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count("n_iterations", self.n_iterations)
        check_power(self.power)
        check_choice("init", self.init, ("kmeans", "random", "farthest"))
        check_flag("polish", self.polish)
