"""Vector quantization whose training codes come from an optimal transport plan that uses all codes alike.

Zhang et al., "Preventing Local Pitfalls in Vector Quantization via Optimal Transport" (2024), section 3:
``A = Sinkhorn(-D / eps)`` of standardised Euclidean distances, the code of a vector the largest in its row.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from geovq.errors import InputError
from geovq.search import nearest_codes
from geovq.vq.distributed import gathered, summed
from geovq.vq.vq import StraightThroughVQ

PLANNED_DISTANCES = 2**24  # 64 MB in float32; of a larger batch, vectors evenly spread make the plan
SMALLEST_SPREAD = 1e-12  # of distances: equal ones prefer no code


class OptVQ(StraightThroughVQ):
    """``StraightThroughVQ`` whose codes in training mode are those of a transport plan; nearest in eval mode.

    The plan sends every vector's mass to the codes at least cost while every code receives the same, over the
    vectors of all processes. So hardly a code starves and none is revived; a code may be far from the vectors
    that it is given at first, and its loss then draws them together. The largest entries of a plan are not as
    even as the plan, least so among codes that are alike from afar: the less ``epsilon``, the more even, if
    ``n_iterations`` grow.

    Parameters
    ----------
    dim : vector length d.
    n_codes : codebook size K.
    commitment : weight of ``|z - sg(e)|^2``, which acts on the encoder alone.
    epsilon : weight of the plan's entropy, in standard deviations of the distances.
    n_iterations : of Sinkhorn's algorithm.
    entropy : weight of the entropy penalty in nats (``geovq.vq.entropy``).
    start : ``kmeans`` of the first training batch, or ``random`` normal vectors.
    seed : of the start.
    """

    def __init__(
        self,
        dim: int,
        n_codes: int,
        *,
        commitment: float = 0.25,
        epsilon: float = 0.1,
        n_iterations: int = 5,
        entropy: float = 0.0,
        start: Literal["kmeans", "random"] = "kmeans",
        seed: int = 0,
    ) -> None:
        super().__init__(
            dim, n_codes, commitment=commitment, revival=0.0, entropy=entropy, start=start, seed=seed
        )
        if not 0 < epsilon < math.inf or n_iterations < 1:
            raise InputError(
                f"OptVQ: epsilon is {epsilon} and n_iterations {n_iterations}; expected a number above 0 and "
                "at least 1"
            )
        self.epsilon, self.n_iterations = epsilon, n_iterations

    def _assign(self, flat: Tensor) -> Tensor:
        if not self.training:
            return nearest_codes(flat, self.codebook)
        return balanced_codes(flat, self.codebook, self.epsilon, self.n_iterations)


@torch.no_grad()
def balanced_codes(flat: Tensor, codebook: Tensor, epsilon: float, n_iterations: int) -> Tensor:
    """Codes (n,) of vectors (n, d), chosen by an entropic transport plan to the codes (K, d) in equal parts.

    In a row of the plan ``exp(f_i + g_k - D_ik / eps)`` the largest entry does not depend on ``f``. So the K
    numbers ``g`` are all that the vectors have in common: they are found from at most 2**24 distances, of
    vectors evenly spread over the batch (for K = 1,024, 16,384 of them), and applied to all in chunks. Time
    goes with n K, memory does not. The distances' unit is their standard deviation, as in the paper, whose
    shift of the smallest to 0 changes no plan; ``g`` holds log-sums, so that nothing underflows.
    """
    # Far from the origin a distance computed by products loses its digits.
    centre = codebook.mean(0)
    flat, codebook = flat - centre, codebook - centre
    n_planned = max(1, PLANNED_DISTANCES // len(codebook))
    every = -(-len(flat) // n_planned)
    distances = torch.cdist(flat[::every], codebook)
    unit = epsilon * standard_deviation(distances)
    potentials = column_potentials(distances.div_(unit), n_iterations)
    if every == 1:
        return (distances - potentials).argmin(1)
    parts = flat.split(n_planned)
    return torch.cat([(torch.cdist(part, codebook).div_(unit) - potentials).argmin(1) for part in parts])


def standard_deviation(distances: Tensor) -> float:
    """Of the distances (n, K) of all processes together."""
    size = summed(torch.tensor(float(distances.numel()), device=distances.device))
    mean = summed(distances.sum()) / size
    variance = summed((distances - mean).square_().sum()) / size
    return max(float(variance.sqrt()), SMALLEST_SPREAD)


def column_potentials(cost: Tensor, n_iterations: int) -> Tensor:
    """``g (K,)`` of the plan ``exp(f_i + g_k - cost_ik)`` (n, K) with equal sums of rows and of columns.

    Sinkhorn's algorithm in the log domain, columns first. Rows belong to one process; a column's sum goes
    over all, and its logarithm is taken of the processes' log-sums.
    """
    n_rows = float(summed(torch.tensor(float(len(cost)), device=cost.device)))
    log_row, log_column = -math.log(n_rows), -math.log(cost.shape[1])
    potentials = cost.new_zeros(cost.shape[1])
    of_rows = cost.new_zeros(len(cost), 1)
    for iteration in range(n_iterations):
        if iteration:
            of_rows = log_row - torch.logsumexp(potentials - cost, 1, keepdim=True)
        of_process = torch.logsumexp(of_rows - cost, 0, keepdim=True)
        potentials = log_column - torch.logsumexp(gathered(of_process), 0)
    return potentials
