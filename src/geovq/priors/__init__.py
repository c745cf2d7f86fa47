"""Priors over codes: exact likelihood, sampling, and the floors that a trained prior has to beat."""

from geovq.priors.artifact import PriorInfo, load_prior, save_prior
from geovq.priors.prior import Prior
from geovq.priors.transformer import TransformerPrior
from geovq.priors.uniform import UniformPrior
from geovq.priors.unigram import UnigramPrior

__all__ = [
    "Prior",
    "PriorInfo",
    "TransformerPrior",
    "UniformPrior",
    "UnigramPrior",
    "load_prior",
    "save_prior",
]
