"""What was published of the low-rank experiments: ``sse_per_sample``, each of one seed.

GitHub, nikitus20/vqvae, README.md and ANALYSIS.md. Its "Rotation" projects on the unit vector of the code and
is not the rotation trick; its "Manual STE" divides a code's gradient by the code's own samples, not by the
batch, and takes another step on the encoder than its "Autograd STE". Its training of 500 steps took ``lrW``
0.05, not the 0.08 of its defaults, and a Euclidean step on W that was made orthonormal after it.
"""

from __future__ import annotations

from collections.abc import Mapping

from geovq.config import LaboratoryConfig
from geovq.config.laboratory import BASELINE
from geovq.reports.laboratory_files import CODEBOOK_SIZE, COMMITMENT, CONVERGENCE

SETTINGS = {
    "D": 64,
    "rank": 6,
    "m": 4,
    "n_train": 20_000,
    "n_eval": 4000,
    "batch": 1024,
    "alpha": 1.0,
    "lrW": 0.08,
    "lrE": 0.2,
    "orthonormal": True,
}
"""Settings of a run beside which published figures may stand: the published defaults."""

K, BETA = 32, 0.25
STEPS = {CONVERGENCE: 500, CODEBOOK_SIZE: 300, COMMITMENT: 300}
ERRORS: Mapping[str, Mapping[float, Mapping[str, float]]] = {
    CONVERGENCE: {
        K: {BASELINE: 2.4893, "ste-autograd": 2.4475, "ste-manual": 2.4577, "rotation": 2.4479},
    },
    CODEBOOK_SIZE: {
        8: {BASELINE: 3.8991, "ste-manual": 3.8946, "rotation": 3.9005},
        16: {BASELINE: 3.0632, "ste-manual": 3.0471, "rotation": 3.0670},
        32: {BASELINE: 2.4893, "ste-manual": 2.4470, "rotation": 2.4494},
        64: {BASELINE: 2.0131, "ste-manual": 2.0007, "rotation": 2.0072},
    },
    COMMITMENT: {
        0.0: {BASELINE: 2.4893, "ste-manual": 2.4483, "rotation": 2.4498},
        0.1: {BASELINE: 2.4893, "ste-manual": 2.4473, "rotation": 2.4500},
        0.25: {BASELINE: 2.4893, "ste-manual": 2.4470, "rotation": 2.4502},
        0.5: {BASELINE: 2.4893, "ste-manual": 2.4480, "rotation": 2.4503},
        1.0: {BASELINE: 2.4893, "ste-manual": 2.4447, "rotation": 2.4511},
    },
}
"""By part of the experiment, then by K or beta, then by method."""


def published_errors(config: LaboratoryConfig, part: str, value: float) -> Mapping[str, float]:
    """Published errors by method at one K or beta; empty if they are of other settings than the run's."""
    same = all(getattr(config, name) == wanted for name, wanted in SETTINGS.items())
    steps = config.steps if part == CONVERGENCE else config.sweep_steps
    fixed = config.beta == BETA if part != COMMITMENT else config.K == K
    if not (same and fixed and steps == STEPS.get(part)):
        return {}
    return ERRORS[part].get(value, {})


def published_change(errors: Mapping[str, float], method: str) -> float | None:
    """The published change of a method's error from the baseline's, in percent."""
    return 100 * (errors[method] / errors[BASELINE] - 1) if method in errors and method != BASELINE else None
