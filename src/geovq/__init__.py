"""GeoVQ: discrete codes from images and embeddings, compared at the same number of bits."""

__version__ = "0.1.0"
