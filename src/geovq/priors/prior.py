"""What every prior does: score codes, draw codes, and say what it is so that it can be stored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from geovq.tokenizer.layout import CodeLayout


@runtime_checkable
class Prior(Protocol):
    """A probability distribution over the codes (N, S) of a layout.

    A class registered under the family ``prior`` takes ``layout`` and the keywords of ``params``. A trainable
    prior is also an ``nn.Module`` with ``loss(batch, generator)``.
    """

    layout: CodeLayout
    n_classes: int
    """Classes that the prior is conditioned on; 0: none, and labels are refused."""

    @property
    def params(self) -> Mapping[str, Any]:
        """The constructor's keywords besides ``layout``, as JSON values."""

    def nll(self, codes: ArrayLike | Tensor, labels: ArrayLike | Tensor | None = None) -> np.ndarray:
        """Negative log-likelihood of each image's codes (N, S): float64 nats (N,), exact.

        Raises ``InputError`` for codes outside the layout, and for labels missing or not expected.
        """

    def sample(
        self,
        n: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        labels: ArrayLike | Tensor | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """Codes of ``n`` new images, int64 (n, S); see ``geovq.priors.sampling.SamplingRule``.

        Image i is drawn from random numbers of its own, so it does not depend on ``n``.
        """

    def tensors(self) -> dict[str, np.ndarray]:
        """The learnt state by name; an unfitted prior gives the same names and shapes."""

    def load_tensors(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take over the state that ``tensors`` gave."""
