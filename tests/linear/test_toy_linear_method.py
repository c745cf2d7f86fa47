"""Adding a linear method takes one function and one registry line: this one then keeps the whole contract."""

import pytest
import torch
from linear_method_contract import LinearMethodContract

from geovq.linear import LinearVQVAE, TrainingResult, evaluate
from geovq.linear.measure import log_row, loss
from geovq.linear.settings import Settings, checked_points
from geovq.linear.start import kmeans_plus_plus
from geovq.registry import FAMILIES, register
from geovq.seeding import torch_generator


def train(
    X_train, X_eval, m, K, *, steps=200, batch=1024, alpha=1.0, beta=0.25, lrW=0.08, lrE=0.2,
    orthonormal=True, seed=0, log_every=10,
) -> TrainingResult:  # fmt: skip
    """A random subspace, and codes that are points of it."""
    Settings(m, K, steps, batch, alpha, beta, lrW, lrE, orthonormal, seed, log_every)
    X_train, X_eval = checked_points(X_train, X_eval, m, K)
    generator = torch_generator(seed, "random subspace")
    normal = torch.randn(X_train.shape[1], m, dtype=torch.float64, generator=generator)
    W = torch.linalg.qr(normal).Q.T
    model = LinearVQVAE(W, kmeans_plus_plus(X_train @ W.T, K, seed))
    logs = [log_row(0, model, loss(model, X_train, alpha, beta), X_eval)]
    return {"model": model, "metrics": evaluate(model, X_eval), "logs": logs}


class TestToyLinearMethod(LinearMethodContract):
    @pytest.fixture
    def kind(self, monkeypatch):
        monkeypatch.setitem(FAMILIES, "linear-method", dict(FAMILIES["linear-method"]))
        register("linear-method", "random-subspace", f"{__name__}:train")
        return "random-subspace"
