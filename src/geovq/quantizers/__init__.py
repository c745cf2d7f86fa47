"""Quantizers fitted after the fact: scikit-learn estimators on latents or any embeddings."""

from geovq.quantizers.base import Quantizer
from geovq.quantizers.gaussian import GaussianQuantizer
from geovq.quantizers.geodesic import GeodesicQuantizer
from geovq.quantizers.kmeans import KMeansQuantizer
from geovq.quantizers.kmedoids import KMedoidsQuantizer
from geovq.quantizers.landmarks import LandmarkGeodesicQuantizer
from geovq.quantizers.module import FittedQuantizer
from geovq.quantizers.residual import ResidualQuantizer

__all__ = [
    "FittedQuantizer",
    "GaussianQuantizer",
    "GeodesicQuantizer",
    "KMeansQuantizer",
    "KMedoidsQuantizer",
    "LandmarkGeodesicQuantizer",
    "Quantizer",
    "ResidualQuantizer",
]
