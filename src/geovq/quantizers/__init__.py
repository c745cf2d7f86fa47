"""Quantizers fitted after the fact: scikit-learn estimators on latents or any embeddings."""

from geovq.quantizers.base import Quantizer
from geovq.quantizers.decoded_kmeans import DecodedKMeansQuantizer
from geovq.quantizers.gaussian import GaussianQuantizer
from geovq.quantizers.gaussian_quant import GaussianQuant
from geovq.quantizers.geodesic import GeodesicQuantizer
from geovq.quantizers.kmeans import KMeansQuantizer
from geovq.quantizers.kmedoids import KMedoidsQuantizer
from geovq.quantizers.landmarks import LandmarkGeodesicQuantizer
from geovq.quantizers.module import FittedQuantizer
from geovq.quantizers.optimized_product import OptimizedProductQuantizer
from geovq.quantizers.product import ProductQuantizer
from geovq.quantizers.pullback import PullbackQuantizer
from geovq.quantizers.residual import ResidualQuantizer
from geovq.quantizers.scalar import ScalarQuantizer
from geovq.quantizers.tokenbridge import TokenBridgeQuantizer

__all__ = [
    "DecodedKMeansQuantizer",
    "FittedQuantizer",
    "GaussianQuant",
    "GaussianQuantizer",
    "GeodesicQuantizer",
    "KMeansQuantizer",
    "KMedoidsQuantizer",
    "LandmarkGeodesicQuantizer",
    "OptimizedProductQuantizer",
    "ProductQuantizer",
    "PullbackQuantizer",
    "Quantizer",
    "ResidualQuantizer",
    "ScalarQuantizer",
    "TokenBridgeQuantizer",
]
