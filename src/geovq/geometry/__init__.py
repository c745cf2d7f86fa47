"""What "near" means: edge lengths, k-NN graphs, shortest paths on them, medoids."""

from geovq.geometry.bridges import Bridges, connect
from geovq.geometry.edges import EDGES, EdgeLengths, edge_lengths
from geovq.geometry.graph import knn_graph
from geovq.geometry.medoids import Cells, cut_between_cells, improve_medoids, snap_to_points
from geovq.geometry.neighbors import NeighborIndex
from geovq.geometry.paths import multi_source

__all__ = [
    "EDGES",
    "Bridges",
    "Cells",
    "EdgeLengths",
    "NeighborIndex",
    "connect",
    "cut_between_cells",
    "edge_lengths",
    "improve_medoids",
    "knn_graph",
    "multi_source",
    "snap_to_points",
]
