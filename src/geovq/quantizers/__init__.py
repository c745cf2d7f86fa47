"""Quantizers fitted after the fact: scikit-learn estimators on latents or any embeddings."""

from geovq.quantizers.gaussian import GaussianQuantizer
from geovq.quantizers.geodesic import GeodesicQuantizer
from geovq.quantizers.kmeans import KMeansQuantizer
from geovq.quantizers.residual import ResidualQuantizer

__all__ = ["GaussianQuantizer", "GeodesicQuantizer", "KMeansQuantizer", "ResidualQuantizer"]
