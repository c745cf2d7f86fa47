"""Images from files or the network: fixed splits, and batches as a pure function of (seed, step)."""

from geovq.data.arrays import image_set
from geovq.data.batches import BatchOrder
from geovq.data.images import ImageSet, chunks_of, to_bytes
from geovq.data.sources import load
from geovq.data.splits import ImageSplits

__all__ = [
    "BatchOrder",
    "ImageSet",
    "ImageSplits",
    "chunks_of",
    "image_set",
    "load",
    "to_bytes",
]
