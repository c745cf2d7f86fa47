"""What a run of the linear laboratory is made of: synthetic data, a linear model, methods, sweeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from geovq.config.reading import check_choices
from geovq.errors import ConfigError

BASELINE = "pca-lloyd"
"""The method that every other one is compared with, on the same data and seed."""

CONVERGED = "pca-lloyd-converged"
"""The baseline from many starts, each run to a fixed point: a gain over it is none over a local optimum."""

WITHOUT_STEPS = (BASELINE, CONVERGED)
"""Methods that take no gradient steps: of the settings, only the data, m, K and the seed concern them."""


@dataclass(frozen=True)
class LaboratoryConfig:
    """A linear VQ-VAE on low-rank Gaussian data, trained by several methods.

    The names are those of the published comparison (GitHub, nikitus20/vqvae) that the laboratory repeats.

    Parameters
    ----------
    experiment : ``comparison`` trains every method once a seed; ``comprehensive`` also checks the gradients
        and varies ``K`` and ``beta``.
    D, rank, m : dimension of the data, rank of its covariance, dimension of the latent.
    K : codes in the codebook.
    n_train, n_eval : samples to train on and to measure on.
    steps, batch : gradient steps and samples a step.
    alpha, beta : weights of the codebook loss and of the commitment loss.
    lrW, lrE : learning rates of the encoder and of the codebook.
    orthonormal : whether the rows of the encoder stay orthonormal.
    methods : kinds of the family ``linear-method``, in the order of the tables.
    seeds : one training of every method each; a seed determines data, start and batches.
    sweep_steps, sweep_K, sweep_beta : of the comprehensive experiment alone: steps of each training of its
        sweeps, and the values that they try.
    """

    recipe: str
    experiment: Literal["comparison", "comprehensive"]
    D: int = 64
    rank: int = 6
    m: int = 4
    K: int = 32
    n_train: int = 20_000
    n_eval: int = 4000
    steps: int = 200
    batch: int = 1024
    alpha: float = 1.0
    beta: float = 0.25
    lrW: float = 0.08
    lrE: float = 0.2
    orthonormal: bool = True
    methods: tuple[str, ...] = (BASELINE, CONVERGED, "ste-autograd", "ste-manual", "rotation")
    seeds: tuple[int, ...] = (0,)
    sweep_steps: int = 300
    sweep_K: tuple[int, ...] = (8, 16, 32, 64)
    sweep_beta: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("D", "rank", "m", "K", "n_train", "n_eval", "steps", "batch", "sweep_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("lrW", "lrE"):
            _expect_finite(name, getattr(self, name), above=True)
        for name, values in (("alpha", [self.alpha]), ("beta", [self.beta]), ("sweep_beta", self.sweep_beta)):
            for value in values:
                _expect_finite(name, value, above=False)
        for name in ("rank", "m"):
            if getattr(self, name) > self.D:
                raise ConfigError(f"{name} is {getattr(self, name)} and D is {self.D}; expected at most D")
        for name, sizes in (("K", [self.K]), ("sweep_K", self.sweep_K)):
            for size in sizes:
                if not 1 <= size <= self.n_train:
                    raise ConfigError(
                        f"{name} is {size} and n_train is {self.n_train}; expected at least 1 code and "
                        "no more codes than samples to place them on"
                    )
        for name in ("methods", "seeds", "sweep_K", "sweep_beta"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name} is {list(values)}; expected different values, at least one")


def _expect_finite(name: str, value: float, *, above: bool) -> None:
    if not math.isfinite(value) or value < 0 or (above and value == 0):
        range_ = "above 0" if above else "of 0 or more"
        raise ConfigError(f"{name} is {value}; expected a finite number {range_}")
