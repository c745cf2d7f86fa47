"""Training by the rotation trick.

Fifty et al., "Restructuring Vector Quantization with the Rotation Trick" (2024).
"""

from __future__ import annotations

from torch import Tensor

from geovq.linear.automatic import automatic_gradients
from geovq.linear.descent import Gradients, descend
from geovq.linear.result import TrainingResult
from geovq.linear.settings import Settings
from geovq.vq.estimators import rotated


def gradients(W: Tensor, E: Tensor, X: Tensor, alpha: float, beta: float) -> Gradients:
    """``automatic_gradients`` with ``q = (|e| / |z|) R z``, the rotation R and the scale held constant.

    ``R z`` has the direction of e, so what reaches q passes to z turned back and scaled. Straight-through
    where e lies 90 degrees or more away from z. A projection ``u u'`` on the direction u of e, which has
    gone by this name as well, is not it: it drops what is not along u, and a rotation drops nothing.
    """
    return automatic_gradients(rotated, W, E, X, alpha, beta)


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
    """Train from the paired start by stochastic gradient steps with gradients rotated from e to z.

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
