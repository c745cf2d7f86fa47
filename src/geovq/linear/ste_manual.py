"""Training by the straight-through estimator with its gradients derived by hand.

van den Oord, Vinyals & Kavukcuoglu, "Neural Discrete Representation Learning" (2017), equation 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geovq.linear.descent import Gradients, descend
from geovq.linear.result import TrainingResult
from geovq.linear.settings import Settings
from geovq.search import nearest_codes


def gradients(W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float) -> Gradients:
    """Euclidean gradients of ``mean |x - W'q|^2 + alpha |sg(z) - e|^2 + beta |z - sg(e)|^2``, ``z = W x``.

    For one point let ``r = x - W'q`` be its residual; in value ``q = e``. By the product rule W learns twice:

    - as decoder, q held: ``d|r|^2 = -2 r' dW' q``, so ``-2 q r'``;
    - as encoder: ``d|r|^2 / dq = -2 W r`` is handed to z straight through, the commitment term adds
      ``2 beta (z - e)``, and ``dz = dW x``, so ``(2 beta (z - e) - 2 W r) x'``.

    The codebook term alone reaches E: ``2 alpha (e_k - z)`` for the code k of the point. Over a batch, with
    rows for points,::

        dW = 2/n (-Q'R + (beta (Z - Q) - R W')' X)        dE_k = 2 alpha/n sum_{i: k_i = k} (e_k - z_i)

    With orthonormal W, ``W r = z - e``: the encoder's part is ``2 (beta - 1) (z - e) x'``, which pushes
    latents *away* from their codes while beta < 1 and is nothing at beta = 1.

    Parameters
    ----------
    W : (m, D)
    E : (K, m)
    X : a batch (n, D)
    alpha, beta : weights of the codebook and the commitment term
    """
    Z = X @ W.T
    codes = nearest_codes(Z, E)
    Q = E[codes]
    R = X - Q @ W
    difference = Z - Q
    of_Z = beta * difference - R @ W.T
    of_W = (of_Z.T @ X - Q.T @ R) * (2 / len(X))
    of_E = torch.zeros_like(E).index_add_(0, codes, difference, alpha=-2 * alpha / len(X))
    loss = (R.square().sum() + (alpha + beta) * difference.square().sum()) / len(X)
    return Gradients(of_W, of_E, float(loss))


def train(
    X_train: Tensor,
    X_eval: Tensor,
    m: int,
    K: int,
    *,
    steps: int = 200,
    batch: int = 1024,
    alpha: float = 1.0,
    beta: float = 0.25,
    lrW: float = 0.08,
    lrE: float = 0.2,
    orthonormal: bool = True,
    seed: int = 0,
    log_every: int = 10,
) -> TrainingResult:
    """Train as "ste-autograd" does, with no automatic differentiation anywhere.

    Parameters
    ----------
    X_train, X_eval : (n, D), what is learnt from and what is measured on
    m : latent dimension
    K : codes
    steps, batch : gradient steps, and the points of each
    alpha, beta : weights of the codebook and the commitment term
    lrW, lrE : learning rates of encoder and codebook
    orthonormal : whether W stays on the Stiefel manifold
    seed : of the start and the batches
    log_every : steps from one row of the log to the next

    Raises ``InputError`` if an argument is out of range, ``TrainingError`` if the loss diverges.
    """
    settings = Settings(m, K, steps, batch, alpha, beta, lrW, lrE, orthonormal, seed, log_every)
    return descend(gradients, X_train, X_eval, settings)
