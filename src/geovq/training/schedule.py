"""The learning rate as a function of the step alone."""

from __future__ import annotations

import math


def warmup_cosine(step: int, n_steps: int, n_warmup: int) -> float:
    """Factor in (0, 1]: linear warm-up over ``n_warmup`` steps, then a half cosine towards 0."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    return 0.5 * (1 + math.cos(math.pi * progress))
