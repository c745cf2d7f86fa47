"""Codes at medoids of all pairs of paths among landmarks."""

from __future__ import annotations

from typing import Any

import numpy as np

from geovq.errors import InputError
from geovq.geometry import Cells, EdgeLengths, NeighborIndex, all_pairs, edge_lengths, faster_pam, in_medians
from geovq.quantizers.graph_codes import GraphQuantizer
from geovq.quantizers.validation import check_count, check_power
from geovq.search import sample_rows
from geovq.seeding import derive_seed


class LandmarkGeodesicQuantizer(GraphQuantizer):
    """k-medoids by FasterPAM on the matrix of all shortest paths among L landmarks.

    The landmarks are a random sample of the points, and the graph joins them alone; ``GeodesicQuantizer``
    needs neither landmarks nor the matrix, whose L^2 float32 are 0.4 GB for 10,000 landmarks. All points are
    assigned by one rule, through their neighbours among the landmarks, whether they are to be decoded or
    modelled.

    Parameters
    ----------
    n_codes : K
    n_landmarks : L, at most the number of points is used
    n_neighbors : neighbours of every landmark
    edges, centers, assignment, allow_bridges : as for ``GeodesicQuantizer``; means are over landmarks
    power : 1 for the sum of path lengths, as in k-medoids; 2 for that of their squares
    random_state : seed, or ``np.random.RandomState``, of the sample and of the medoids' start

    Attributes
    ----------
    objective_ : mean ``length ** power`` from a landmark to its medoid

    The others are those of ``GraphQuantizer``; ``nodes_`` are the landmarks.

    Source: alessiol8888/DLAI_project (10,000 landmarks of a grid VAE, 15 neighbours, 128 codes); FasterPAM,
    Schubert and Rousseeuw, "Fast and eager k-medoids clustering", Information Systems 2021.
    """

    objective_: float

    def __init__(
        self,
        n_codes: int = 8,
        n_landmarks: int = 10_000,
        n_neighbors: int = 15,
        edges: EdgeLengths | str = "euclidean",
        centers: str = "medoid",
        power: int = 1,
        assignment: str = "graph",
        allow_bridges: bool = True,
        random_state: Any = None,
    ) -> None:
        self.n_codes = n_codes
        self.n_landmarks = n_landmarks
        self.n_neighbors = n_neighbors
        self.edges = edges
        self.centers = centers
        self.power = power
        self.assignment = assignment
        self.allow_bridges = allow_bridges
        self.random_state = random_state

    def _fit(
        self, points: np.ndarray, sigma: np.ndarray | None, metric: np.ndarray | None, seed: int
    ) -> None:
        self._check_parameters()
        latents = self._latents(points, sigma)
        edge_lengths(self.edges).check(latents)
        landmarks = latents.take(sample_rows(len(latents), self.n_landmarks, seed))
        nodes, node = self._distinct(landmarks)
        weights = np.bincount(node).astype(np.float64)
        index = NeighborIndex(edge_lengths(self.edges).coordinates(nodes))
        graph = self._neighbor_graph(nodes, index)
        if len(nodes) <= self.n_codes:
            medoids = self._all_nodes(len(nodes), "landmarks")
        else:
            paths = all_pairs(in_medians(graph))
            start = derive_seed(seed, "medoids")
            medoids = faster_pam(paths, self.n_codes, start, power=self.power, weights=weights).medoids
        cells = Cells.around(graph, medoids)
        self.objective_ = cells.mean_cost(weights, self.power)
        self._set_codes(landmarks, nodes, node, index, cells)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_count("n_landmarks", self.n_landmarks)
        check_power(self.power)
        if self.n_landmarks < self.n_codes:
            raise InputError(
                f"n_landmarks is {self.n_landmarks} for n_codes {self.n_codes}; expected a landmark a code "
                "or more; raise n_landmarks"
            )
