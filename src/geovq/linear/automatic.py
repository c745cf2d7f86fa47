"""The loss of the linear autoencoder, differentiated by PyTorch under any estimator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geovq.linear.descent import Gradients
from geovq.search import nearest_codes


def automatic_gradients(
    estimator: Callable[[Tensor, Tensor], Tensor], W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float
) -> Gradients:
    """Gradients of ``mean |x - W'q|^2 + alpha |sg(z) - e|^2 + beta |z - sg(e)|^2`` with ``z = W x``.

    ``q = estimator(z, sg(e))`` is e in value and passes its gradient to z, so W learns as encoder and as
    decoder; E learns by the codebook term alone, for no estimator here lets the reconstruction reach it.
    van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3.

    Parameters
    ----------
    estimator : of ``(z (n, m), e (n, m))``
    W : (m, D)
    E : (K, m)
    X : a batch (n, D)
    alpha, beta : weights of the codebook and the commitment term
    """
    W, E = W.detach().requires_grad_(), E.detach().requires_grad_()
    z = X @ W.T
    e = E[nearest_codes(z, E)]
    q = estimator(z, e.detach())
    reconstruction = (X - q @ W).square().sum(1).mean()
    codebook_term = (z.detach() - e).square().sum(1).mean()
    commitment_term = (z - e.detach()).square().sum(1).mean()
    loss = reconstruction + alpha * codebook_term + beta * commitment_term
    of_W, of_E = torch.autograd.grad(loss, (W, E))
    return Gradients(of_W, of_E, float(loss.detach()))
