"""The one training loop, for autoencoders, priors and decoders alike."""

from geovq.training.checkpoint import Progress, TrainingState
from geovq.training.loop import OnEpoch, TrainingResult, fit
from geovq.training.sources import ImageSource, Source, TensorSource

__all__ = [
    "ImageSource",
    "OnEpoch",
    "Progress",
    "Source",
    "TensorSource",
    "TrainingResult",
    "TrainingState",
    "fit",
]
