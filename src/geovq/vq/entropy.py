"""Entropy regularisation: every vector sure of its code, all codes used alike.

Yu et al., "Language Model Beats Diffusion: Tokenizer is Key to Visual Generation" (2023), equation 5.
"""

from __future__ import annotations

import torch
from torch import Tensor

REGULARISED_VECTORS = 2048  # of a batch, evenly spread: the term needs every distance


def entropy_penalty(logits: Tensor) -> Tensor:
    """``E[H(p)] - H(E[p])`` in nats, between -ln K and 0, for logits (n, K) of each vector's code."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    of_each = -(p * log_p).sum(1).mean()
    average = p.mean(0)
    return of_each + (average * average.clamp_min(torch.finfo(average.dtype).tiny).log()).sum()


def codebook_entropy_penalty(flat: Tensor, codebook: Tensor) -> Tensor:
    """``entropy_penalty`` of vectors (n, d) that choose softly among codes (K, d) by squared distance.

    The temperature is the mean squared distance to the nearest code, so that the units of the latents do not
    matter.
    """
    # Far from the origin the squares would swallow the differences, which alone matter.
    centre = codebook.detach().mean(0)
    some, codebook = flat[:: max(1, len(flat) // REGULARISED_VECTORS)] - centre, codebook - centre
    distances = (
        some.square().sum(1, keepdim=True) - 2 * some @ codebook.T + codebook.square().sum(1)
    ).clamp_min(0)
    temperature = distances.detach().amin(1).mean().clamp_min(torch.finfo(flat.dtype).tiny)
    return entropy_penalty(-distances / temperature)
