"""What every method of the linear laboratory promises, as tests that a class inherits.

A subclass provides the fixture ``kind``. The suite knows no method by name.
"""

import numpy as np
import pytest
import torch

from geovq.errors import InputError
from geovq.linear import LinearVQVAE, evaluate, low_rank_gaussian
from geovq.registry import resolve

D, RANK, M, K = 10, 5, 3, 8
SHORT = {"steps": 25, "batch": 128, "log_every": 10}
METRICS = {"sse_per_sample", "in_subspace_distortion", "usage_entropy_nats", "dead_fraction"}


def points(n=600, part="train", seed=0):
    return low_rank_gaussian(n, D, RANK, seed=seed, part=part)


class LinearMethodContract:
    @pytest.fixture
    def train(self, kind):
        method = resolve("linear-method", kind)

        def short(X_train=None, X_eval=None, m=M, K=K, **options):
            X_train = points() if X_train is None else X_train
            X_eval = points(200, "evaluation") if X_eval is None else X_eval
            return method(X_train, X_eval, m, K, **SHORT | options)

        return short

    def test_it_gives_a_model_its_metrics_and_a_log(self, train):
        result = train()
        assert set(result) == {"model", "metrics", "logs"}
        model = result["model"]
        assert isinstance(model, LinearVQVAE)
        assert (model.W.shape, model.E.shape) == ((M, D), (K, M))
        assert model.W.dtype == model.E.dtype == torch.float64
        assert not model.W.requires_grad
        assert not model.E.requires_grad
        assert result["metrics"] == evaluate(model, points(200, "evaluation"))

    def test_every_row_of_the_log_has_step_loss_and_metrics_and_the_last_is_the_models(self, train):
        result = train()
        steps = [row["step"] for row in result["logs"]]
        assert steps == sorted(set(steps))
        assert steps[0] == 0
        assert all(row.keys() == {"step", "loss"} | METRICS for row in result["logs"])
        assert all(np.isfinite(list(row.values())).all() for row in result["logs"])
        assert result["metrics"].keys() == METRICS
        assert {name: result["logs"][-1][name] for name in METRICS} == result["metrics"]

    def test_its_encoder_has_orthonormal_rows(self, train):
        assert train()["model"].orthonormality_error < 1e-10

    def test_no_method_loses_less_than_the_dropped_eigenvalues(self, train):
        X_eval = points(200, "evaluation")
        dropped = torch.linalg.eigvalsh(X_eval.T @ X_eval / len(X_eval))[:-M].sum()
        metrics = train(X_eval=X_eval)["metrics"]
        assert metrics["sse_per_sample"] >= dropped
        assert metrics["sse_per_sample"] >= metrics["in_subspace_distortion"]

    def test_the_codes_are_used(self, train):
        metrics = train()["metrics"]
        assert 0 < metrics["usage_entropy_nats"] <= np.log(K)
        assert metrics["dead_fraction"] < 1

    def test_the_same_seed_gives_the_same_model_and_another_seed_another(self, train):
        one, again, other = (train(seed=seed) for seed in (3, 3, 4))
        assert torch.equal(one["model"].W, again["model"].W)
        assert torch.equal(one["model"].E, again["model"].E)
        assert one["logs"] == again["logs"]
        assert not torch.equal(one["model"].E, other["model"].E)

    def test_neither_the_points_nor_the_global_generator_change(self, train):
        X_train, X_eval = points(), points(200, "evaluation")
        before = torch.get_rng_state()
        train(X_train, X_eval)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.equal(X_train, points())
        assert torch.equal(X_eval, points(200, "evaluation"))

    def test_points_in_float32_are_computed_with_in_float64(self, train):
        narrow = points().float()
        one, other = train(narrow), train(narrow.double())
        assert torch.equal(one["model"].W, other["model"].W)
        assert torch.equal(one["model"].E, other["model"].E)

    def test_one_code_one_dimension_and_one_log_row_are_enough(self, train):
        result = train(m=1, K=1, steps=1, log_every=1000)
        assert result["metrics"]["usage_entropy_nats"] == 0
        assert result["metrics"]["dead_fraction"] == 0

    def test_a_latent_wider_than_the_rank_of_the_data_is_allowed(self, train):
        metrics = train(m=RANK + 2)["metrics"]
        assert metrics["sse_per_sample"] >= metrics["in_subspace_distortion"] - 1e-12

    def test_as_many_codes_as_points_are_allowed(self, train):
        assert len(train(points(30), K=30)["model"].E) == 30

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"m": D + 1}, "m is 11 and D 10; expected a latent dimension m of at most D"),
            ({"m": 0}, "m is 0; expected at least 1"),
            ({"K": 601}, "K is 601 and X_train has 600 points; expected at most a code a point"),
            ({"K": 0}, "K is 0; expected at least 1"),
            ({"steps": 0}, "steps is 0; expected at least 1"),
            ({"steps": -5}, "steps is -5; expected at least 1"),
            ({"batch": 0}, "batch is 0; expected at least 1"),
            ({"log_every": 0}, "log_every is 0; expected at least 1"),
            ({"alpha": -1.0}, "alpha is -1.0; expected a finite weight of at least 0"),
            ({"beta": float("nan")}, "beta is nan; expected a finite weight of at least 0"),
            ({"lrW": 0.0}, "lrW is 0.0; expected a finite learning rate above 0"),
            ({"lrE": float("inf")}, "lrE is inf; expected a finite learning rate above 0"),
            ({"X_train": torch.zeros(5)}, r"X_train has shape \(5,\); expected \(n, D\)"),
            ({"X_eval": torch.zeros(0, D)}, r"X_eval has shape \(0, 10\); expected \(n, D\)"),
            ({"X_eval": torch.zeros(5, 4)}, "X_eval has D = 4 and X_train D = 10"),
            ({"X_train": torch.full((9, D), torch.nan)}, "X_train: 90 of 90 numbers are not finite"),
            ({"X_eval": torch.full((1, D), torch.inf)}, "X_eval: 10 of 10 numbers are not finite"),
        ],
    )
    def test_a_wrong_argument_is_refused_in_one_line(self, train, options, message):
        with pytest.raises(InputError, match=f"^{message}") as caught:
            train(**options)
        assert "\n" not in str(caught.value)
