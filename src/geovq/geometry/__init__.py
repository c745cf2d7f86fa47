"""What "near" means: edge lengths, k-NN graphs, shortest paths on them, medoids."""

from geovq.geometry.bridges import Bridges, connect
from geovq.geometry.curves import along
from geovq.geometry.decoder_edges import (
    DECODER_EDGES,
    ChordEdges,
    DecoderEdges,
    FisherEdges,
    PullbackEdges,
    edge_lengths,
)
from geovq.geometry.decoder_metric import mean_metric, pullback_metrics
from geovq.geometry.edges import DATA_EDGES, EdgeLengths
from geovq.geometry.graph import GraphReport, NeighborGraph, knn_graph, neighbor_graph
from geovq.geometry.hubs import HubStatistics, hub_statistics
from geovq.geometry.latents import Latents
from geovq.geometry.medoids import Cells, cut_between_cells, improve_medoids, snap_to_points
from geovq.geometry.neighbors import NeighborIndex
from geovq.geometry.pairs import all_pairs, in_medians
from geovq.geometry.paths import farthest_first, multi_source, shortest_path
from geovq.geometry.polish import polish_medoids
from geovq.geometry.swaps import Swapped, draw_candidates, faster_pam, improve_by_swaps

__all__ = [
    "DATA_EDGES",
    "DECODER_EDGES",
    "Bridges",
    "Cells",
    "ChordEdges",
    "DecoderEdges",
    "EdgeLengths",
    "FisherEdges",
    "GraphReport",
    "HubStatistics",
    "Latents",
    "NeighborGraph",
    "NeighborIndex",
    "PullbackEdges",
    "Swapped",
    "all_pairs",
    "along",
    "connect",
    "cut_between_cells",
    "draw_candidates",
    "edge_lengths",
    "farthest_first",
    "faster_pam",
    "hub_statistics",
    "improve_by_swaps",
    "improve_medoids",
    "in_medians",
    "knn_graph",
    "mean_metric",
    "multi_source",
    "neighbor_graph",
    "polish_medoids",
    "pullback_metrics",
    "shortest_path",
    "snap_to_points",
]
