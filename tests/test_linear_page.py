"""docs/linear.md: its tables are those of the measurements, its words hold in them, its code runs."""

from __future__ import annotations

import inspect
import math
import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from geovq.cli import _parser
from geovq.config import LaboratoryConfig, with_overrides
from geovq.evaluation.statistics import Estimate
from geovq.linear import low_rank_gaussian
from geovq.linear.start import paired_start
from geovq.pipeline.laboratory import check_laboratory
from geovq.recipes import recipe
from geovq.registry import FAMILIES, resolve
from geovq.storage.artifact import read_json

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "linear"
PAGE = (ROOT / "docs" / "linear.md").read_text(encoding="utf-8")
PARTS = ("replica", "methods", "gradients", "rates", "encoder")
GRADIENT_METHODS = ("ste-autograd", "ste-manual", "rotation")


@pytest.fixture
def measure_linear(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import measure_linear

    return measure_linear


@pytest.fixture
def means(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from concepts import means

    return means


def rows_of(name):
    return read_json(RESULTS / f"{name}.json")["rows"]


def test_the_tables_are_what_the_measurements_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_linear
    from concepts.tables import replaced

    assert replaced(PAGE, write_linear.tables(ROOT)) == PAGE


def test_a_change_of_one_seed_stands_without_an_interval(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_linear

    assert write_linear.percent(Estimate(-0.0043, None, None, 1)) == "-0.43"
    assert write_linear.percent(Estimate(-0.0043, -0.0055, -0.0031, 20)) == "**-0.43** [-0.55, -0.31]"
    assert write_linear.percent(Estimate(0.0, 0.0, 0.0, 20)) == "0.00 [0.00, 0.00]"


@pytest.mark.parametrize("name", PARTS)
def test_every_measurement_says_how_it_was_made(name, measure_linear):
    content = read_json(RESULTS / f"{name}.json")
    assert content["command"] == "python scripts/measure_linear.py"
    assert content["machine"]["cpu"] and content["machine"]["cores"] >= 1
    assert (content["n_train"], content["n_eval"], content["n_fresh"]) == (20_000, 4000, 100_000)
    assert content["seeds"] == list(measure_linear.PARTS[name].seeds)
    assert {row["seed"] for row in content["rows"]} == set(content["seeds"])
    assert content["about"] == measure_linear.PARTS[name].about


def test_every_part_that_can_be_measured_is_there_and_no_other(measure_linear):
    assert sorted(path.stem for path in RESULTS.iterdir()) == sorted(measure_linear.PARTS) == sorted(PARTS)


@pytest.mark.parametrize("seed", [0, 13])
def test_the_baseline_measured_again_has_the_same_errors(seed, measure_linear):
    data = measure_linear.points(seed)
    c = measure_linear.CONFIG
    model = resolve("linear-method", "pca-lloyd")(data.train, data.evaluation, c.m, c.K, seed=seed)["model"]
    (stored,) = [row for row in rows_of("methods") if (row["seed"], row["method"]) == (seed, "pca-lloyd")]
    assert measure_linear.errors(model, data) == pytest.approx(
        {part: stored[part] for part in ("train", "evaluation", "fresh")}, rel=1e-4
    )


def test_fresh_points_are_none_of_the_evaluation_points(measure_linear):
    data = measure_linear.points(0)
    assert (len(data.train), len(data.evaluation), len(data.fresh)) == (20_000, 4000, 100_000)
    assert not torch.isin(data.fresh[:, 0], data.evaluation[:, 0]).any()
    assert not torch.isin(data.fresh[:, 0], data.train[:, 0]).any()


def test_the_parts_of_the_encoders_gradient_are_those_of_autograd(measure_linear):
    X = low_rank_gaussian(500, 64, 6, seed=0, part="train")
    model = paired_start(X, 4, 32, seed=0)
    W = model.W.clone().requires_grad_()
    q = model.quantize(model.encode(X))
    (X - q @ W).square().sum(1).mean().backward()
    found = measure_linear.decoder_part(model.W, model.E, X, 1.0, 0.25)
    torch.testing.assert_close(found.W, W.grad)
    assert not measure_linear.frozen_encoder(model.W, model.E, X, 1.0, 0.25).W.any()


def test_with_gradients_averaged_by_code_a_rate_of_a_half_is_lloyds_step(measure_linear):
    X = low_rank_gaussian(500, 64, 6, seed=0, part="train")
    model = paired_start(X, 4, 32, seed=0)
    found = measure_linear.averaged_by_code(model.W, model.E, X, 1.0, 0.25)
    latents, codes = model.encode(X), model.codes(X)
    for code in codes.unique():
        torch.testing.assert_close(model.E[code] - found.E[code] / 2, latents[codes == code].mean(0))


def test_a_part_is_measured_once_and_kept(measure_linear, tmp_path, monkeypatch):
    seeds = []

    def rows(seed):
        seeds.append(seed)
        yield {"seed": seed, "value": 1 / 3}

    part = measure_linear.Part("Thirds.", rows, seeds=(3, 4))
    monkeypatch.setattr(measure_linear, "PARTS", {"thirds": part})
    for _ in range(2):
        assert measure_linear.main(["--out", str(tmp_path)]) == 0
    assert seeds == [3, 4]
    content = read_json(tmp_path / "thirds.json")
    assert content["rows"] == [{"seed": 3, "value": 0.333333}, {"seed": 4, "value": 0.333333}]


class TestWhatThePageSaysHolds:
    def test_no_gradient_method_gains_on_converged_lloyd(self, means):
        rows = rows_of("methods")
        for method in GRADIENT_METHODS:
            for part in ("evaluation", "fresh"):
                change = means.relative_difference(
                    rows, part, {"method": method}, {"method": "pca-lloyd-converged"}
                )
                assert change.low > 0, (method, part)

    def test_the_codes_are_used_to_98_percent_of_the_largest_entropy_and_none_is_dead(self):
        trained = [row for row in rows_of("methods") if "usage_entropy_nats" in row]
        assert len(trained) == 100
        assert min(row["usage_entropy_nats"] for row in trained) > 0.98 * math.log(32)
        assert not any(row["dead_fraction"] for row in trained)

    def test_manual_gradients_are_autograds(self, means):
        assert all(row["W"] < 1e-12 and row["E"] < 1e-12 for row in rows_of("gradients"))
        same = means.relative_difference(
            rows_of("methods"), "fresh", {"method": "ste-manual"}, {"method": "ste-autograd"}
        )
        assert abs(same.mean) < 1e-6

    def test_the_rotation_trick_is_straight_through_to_a_fiftieth_of_a_percent(self, means):
        for part in ("train", "evaluation", "fresh"):
            same = means.relative_difference(
                rows_of("methods"), part, {"method": "rotation"}, {"method": "ste-autograd"}
            )
            assert abs(same.mean) < 2e-4

    def test_the_replica_has_the_published_errors(self):
        found = {row["model"]: row["evaluation"] for row in rows_of("replica") if row["seed"] == 42}
        assert round(found["baseline"], 4) == 2.4893
        assert round(found["ste"], 4) == 2.4475


class TestExamples:
    def blocks(self, language):
        return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)

    def test_the_commands_are_recipes_of_the_laboratory(self):
        lines = [
            shlex.split(line, comments=True) for block in self.blocks("sh") for line in block.splitlines()
        ]
        assert len(lines) == 2
        for words in lines:
            options = _parser().parse_args(words[1:])
            config = with_overrides(recipe(options.recipe), ["K=16", "steps=500"])
            assert isinstance(config, LaboratoryConfig)
            check_laboratory(config)

    @pytest.fixture
    def carried_out(self, tmp_path, monkeypatch, capsys):
        """What the second example has named, with the first one as its file."""
        method, use = self.blocks("python")
        (tmp_path / "frozen.py").write_text(method)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(FAMILIES, "linear-method", dict(FAMILIES["linear-method"]))
        names = {}
        exec(compile(use, "docs/linear.md", "exec"), names)
        yield names
        sys.modules.pop("frozen", None)

    def test_a_method_is_one_file_and_one_line(self, carried_out):
        result = carried_out["result"]
        start = paired_start(carried_out["X_train"], 4, 32, seed=0)
        torch.testing.assert_close(result["model"].W, start.W)
        assert not torch.equal(result["model"].E, start.E)

    def test_the_method_has_the_arguments_of_all_others_and_a_run_takes_it(self, carried_out):
        def arguments(kind):
            parameters = inspect.signature(resolve("linear-method", kind)).parameters.values()
            return [(p.name, p.kind, p.default) for p in parameters]

        assert arguments("frozen") == arguments("ste-manual")
        (change,) = re.findall(r"--set '(methods=.*?)'", PAGE)
        check_laboratory(with_overrides(recipe("lowrank-stiefel"), [change]))

    def test_every_method_of_the_registry_is_in_the_table(self):
        for kind in FAMILIES["linear-method"]:
            assert re.search(rf"^\| `{kind}` \| [a-z]", PAGE, re.MULTILINE), kind
