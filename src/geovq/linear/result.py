"""What every method of the linear laboratory gives back."""

from __future__ import annotations

from typing import TypedDict

from geovq.linear.model import LinearVQVAE


class TrainingResult(TypedDict):
    """A trained model, ``evaluate`` of it on X_eval, and the log on the way there.

    Each row of ``logs`` has ``step``, the training ``loss`` of the model of that step, before its update, and
    the four metrics on X_eval; the first is the start's, the last is the trained model's.
    """

    model: LinearVQVAE
    metrics: dict[str, float]
    logs: list[dict[str, float]]
