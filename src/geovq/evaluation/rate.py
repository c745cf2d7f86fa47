"""What codes cost: nominally, by their histograms, under a prior."""

from __future__ import annotations

import math

import numpy as np

from geovq.priors import Prior, UnigramPrior
from geovq.tokenizer.layout import CodeLayout


def code_rate(layout: CodeLayout, train_codes: np.ndarray, codes: np.ndarray) -> dict[str, float]:
    """``bits_nominal`` and ``bits_entropy`` an image of ``codes``, with histograms from ``train_codes``."""
    unigram = UnigramPrior(layout).fit(train_codes)
    return {"bits_nominal": layout.bits, "bits_entropy": float(unigram.nll(codes).mean() / math.log(2))}


def prior_rate(prior: Prior, codes: np.ndarray) -> dict[str, float]:
    """Held-out bits of ``codes`` under ``prior``; the two rates of ``code_rate`` are its floors."""
    bits = float(prior.nll(codes).mean() / math.log(2))
    return {"bits_prior": bits, "prior_bits_per_token": bits / prior.layout.n_slots}
