"""What quantizers with codes at nodes of a neighbour graph share: the graph, and how new points join it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from sklearn.utils.validation import check_is_fitted

from geovq.errors import InputError
from geovq.geometry import Cells, EdgeLengths, Latents, NeighborIndex, edge_lengths, neighbor_graph
from geovq.quantizers.base import Quantizer, as_tensor
from geovq.quantizers.validation import check_choice, check_count, check_flag
from geovq.search import EqualRows, cell_means, distinct_rows, sample_rows

Self = TypeVar("Self", bound="GraphQuantizer")

ROWS_A_CHUNK = 65536
COMPARED = 50_000
METRICS = 2000  # averaged for the metric of the whole codebook
ON_NODES = ("nodes_", "node_sigmas_", "node_metrics_", "node_distances_", "node_codes_")


class GraphQuantizer(Quantizer):
    """Base of the quantizers whose codes are medoids of paths on a k-nearest-neighbour graph.

    A new point is joined to its nearest nodes, in the metric of the edges, and takes the code of the one
    through which its path to a medoid is shortest; a point that lies on a node takes that node's code.

    Attributes
    ----------
    codebook_ : (K, d)
    codebook_sigma_ : (K, d), sigmas of the medoids or their means over the cell, where the edges use sigma
    codebook_metric_ : (1, d, d), the mean metric of (at most 2,000 of) the nodes, for edges with a decoder
    nodes_ : (m, d), the distinct fitted points (``assignment="graph"``), with ``node_sigmas_``,
        ``node_metrics_`` (m, d, d), ``node_distances_`` (m,) and ``node_codes_`` (m,)
    graph_report_ : a ``geovq.geometry.GraphReport`` as a dictionary: edges, bridges, hubs, recall
    nearest_disagreement_ : fraction of (at most 50,000 of) the fitted points whose ``assignment="nearest"``
        code is another one
    """

    metric_params = ("edges", "assignment")

    n_neighbors: int
    edges: EdgeLengths | str
    centers: str
    assignment: str
    allow_bridges: bool
    codebook_: np.ndarray
    codebook_sigma_: np.ndarray
    codebook_metric_: np.ndarray
    nodes_: np.ndarray
    node_distances_: np.ndarray
    node_codes_: np.ndarray
    graph_report_: dict[str, float]
    nearest_disagreement_: float

    @property
    def takes_sigma(self) -> bool:
        """Whether the edges measure Gaussians; without sigma, all sigmas are then 1."""
        return edge_lengths(self.edges).takes_sigma

    def _latents(self, points: np.ndarray, sigma: np.ndarray | None) -> Latents:
        if not self.takes_sigma:
            return Latents(points)
        return Latents(points, np.ones_like(points) if sigma is None else sigma)

    def _distinct(self, latents: Latents) -> tuple[Latents, np.ndarray]:
        """The distinct latents, neighbours in memory where they are in space, and which one each latent is.

        Equal points would be each other's only neighbours, cut off from the rest: they become one node.
        """
        first, node = distinct_rows(_joined(latents))
        # Leaf by leaf of a tree: shortest paths then run through memory as they run through space.
        order = cKDTree(latents.means[first], balanced_tree=False, compact_nodes=False).indices
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return latents.take(first[order]), rank[node]

    def _neighbor_graph(self, nodes: Latents, index: NeighborIndex) -> csr_matrix:
        """The connected graph of the nodes; reports it in ``graph_report_``."""
        n_neighbors = min(self.n_neighbors, max(1, len(nodes) - 1))
        graph = neighbor_graph(
            nodes, n_neighbors, edge_lengths(self.edges), allow_bridges=self.allow_bridges, index=index
        )
        self.graph_report_ = asdict(graph.report)
        return graph.lengths

    def _all_nodes(self, n_nodes: int, what: str = "points") -> np.ndarray:
        """Every node as a medoid, for at least as many codes as nodes; warns of codes that are left over."""
        if n_nodes < self.n_codes:
            warnings.warn(
                f"n_codes is {self.n_codes}, but only {n_nodes} {what} are distinct; "
                f"{self.n_codes - n_nodes} codes will never be used",
                UserWarning,
                stacklevel=4,
            )
        return np.arange(n_nodes)

    def _set_codes(
        self, latents: Latents, nodes: Latents, node: np.ndarray, index: NeighborIndex, cells: Cells
    ) -> None:
        """Take over the codebook and what attaching needs. ``node`` says which node each latent is."""
        edges = edge_lengths(self.edges)
        label, n_cells = cells.label[node], len(cells.medoids)
        sampled = sample_rows(len(nodes), METRICS, seed=0)
        if self.assignment == "graph":
            nodes = edges.prepared(nodes)
            metrics = None if nodes.metrics is None else nodes.metrics[sampled]
        else:
            metrics = edges.prepared(nodes.take(sampled)).metrics
        codebook = nodes.means[cells.medoids]
        codebook_sigma = None if nodes.sigmas is None else nodes.sigmas[cells.medoids]
        if self.centers == "mean":
            codebook = edges.cell_centers(latents, label, n_cells).astype(codebook.dtype)
            if latents.sigmas is not None:
                codebook_sigma = cell_means(latents.sigmas, label, n_cells)[0]
        # Codes that are left over repeat the first one, so that they lose every tie and are never used.
        rows = np.concatenate([np.arange(n_cells), np.zeros(self.n_codes - n_cells, dtype=np.int64)])
        self.codebook_ = codebook[rows]
        if codebook_sigma is not None:
            self.codebook_sigma_ = codebook_sigma[rows].astype(codebook.dtype)
        if metrics is not None:
            self.codebook_metric_ = metrics.mean(0, keepdims=True, dtype=np.float64)
        self.nearest_disagreement_ = self._disagreement(latents, label)
        if self.assignment == "graph":
            self.nodes_, self.node_distances_, self.node_codes_ = nodes.means, cells.distance, cells.label
            for name, array in (("node_sigmas_", nodes.sigmas), ("node_metrics_", nodes.metrics)):
                if array is not None:
                    setattr(self, name, array)
            self._make_searchable(index)

    def _disagreement(self, latents: Latents, label: np.ndarray) -> float:
        rows = sample_rows(len(latents), COMPARED, seed=0)
        some = latents.take(rows)
        sigmas = None if some.sigmas is None else as_tensor(some.sigmas)
        return float((self._nearest(as_tensor(some.means), sigmas).numpy() != label[rows]).mean())

    def _encode(
        self, points: torch.Tensor, sigma: torch.Tensor | None, metric: torch.Tensor | None
    ) -> torch.Tensor:
        if self.takes_sigma and sigma is None:
            sigma = torch.ones_like(points)
        if self.assignment == "nearest":
            return self._nearest(points, sigma)
        latents = self._latents(points.cpu().numpy(), None if sigma is None else sigma.cpu().numpy())
        return torch.from_numpy(self._attached(latents)).to(points.device)

    def _nearest(self, points: torch.Tensor, sigma: torch.Tensor | None) -> torch.Tensor:
        sigmas, metric = (getattr(self, name, None) for name in ("codebook_sigma_", "codebook_metric_"))
        return edge_lengths(self.edges).nearest(points, sigma, Latents(self.codebook_, sigmas, metric))

    def _attached(self, latents: Latents) -> np.ndarray:
        """Codes (n,) of points joined to the graph at their nearest nodes."""
        edges, nodes = edge_lengths(self.edges), self._nodes()
        own = self._own_nodes.find(_joined(latents))
        count = min(self.n_neighbors + 1, len(nodes))  # a fitted point counts itself
        codes = np.empty(len(latents), dtype=np.int64)
        for start in range(0, len(latents), ROWS_A_CHUNK):
            part = latents.take(slice(start, start + ROWS_A_CHUNK))
            found = self._index.query(edges.coordinates(part), count)
            paths = edges.lengths_to(part, nodes, found) + self.node_distances_[found]
            least = paths.min(1, keepdims=True)
            lost = ~np.isfinite(least[:, 0])
            if lost.any():
                raise InputError(
                    f"edges '{edges.name}': no finite length leads from {lost.sum()} of {len(part)} points "
                    f"to the fitted ones, first from row {start + int(lost.argmax())} of X; expected points "
                    "and sigmas of the scale that was fitted"
                )
            shortest = np.where(paths == least, self.node_codes_[found], len(self.codebook_))
            codes[start : start + ROWS_A_CHUNK] = shortest.min(1)
        return np.where(own >= 0, self.node_codes_[own], codes)

    def _make_searchable(self, index: NeighborIndex) -> None:
        self._index, self._own_nodes = index, EqualRows(_joined(self._nodes()))

    def _nodes(self) -> Latents:
        return Latents(self.nodes_, getattr(self, "node_sigmas_", None), getattr(self, "node_metrics_", None))

    def save(self, path: str | Path, *, compact: bool = False) -> None:
        """Write the fitted quantizer; ``compact`` leaves out the graph's nodes.

        A compact quantizer is as small as its codebook and gives new points the ``"nearest"`` code. Edges
        that need a decoder are written by name: the fitted quantizer codes new points without the decoder,
        and only a new ``fit`` asks for it again.
        """
        if not compact or self.assignment == "nearest":
            super().save(path)
            return
        check_is_fitted(self, "codebook_")
        small = type(self)(**{**self.get_params(deep=False), "assignment": "nearest"})
        for name, value in vars(self).items():
            if name.endswith("_") and name not in ON_NODES:
                setattr(small, name, value)
        small.save(path)

    def restore(self, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
        """Set the learnt attributes, and make the nodes searchable again."""
        super().restore(arrays, values)
        if self.assignment == "graph":
            self._make_searchable(NeighborIndex(edge_lengths(self.edges).coordinates(self._nodes())))

    def json_params(self) -> dict[str, Any]:
        """Constructor arguments as JSON values; edges by name."""
        return {**super().json_params(), "edges": edge_lengths(self.edges).name}

    def _check_parameters(self) -> None:
        edge_lengths(self.edges)
        check_count("n_neighbors", self.n_neighbors)
        check_choice("centers", self.centers, ("medoid", "mean"))
        check_choice("assignment", self.assignment, ("graph", "nearest"))
        check_flag("allow_bridges", self.allow_bridges)


def _joined(latents: Latents) -> np.ndarray:
    """What makes two latents equal: their means and, if they have them, sigmas, (n, d) or (n, 2d)."""
    if latents.sigmas is None:
        return latents.means
    return np.concatenate([latents.means, latents.sigmas], axis=1)
