"""The verdict's words for each outcome, who is chosen, and when the comparison is called unequal."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.evaluation.records import Record, by_seed
from geovq.evaluation.statistics import paired_difference
from geovq.reports import write_report
from geovq.reports.comparability import caution, comparability
from geovq.reports.run_files import ArmInfo, read_info
from geovq.reports.verdict import Contest, verdict

ARMS = {
    "residual": ArmInfo("post-hoc", 100, 8.0, 4, ""),
    "kmeans": ArmInfo("post-hoc", 100, 8.0, 4, ""),
    "ema": ArmInfo("end-to-end", 100, 8.0, 4, ""),
}


def record(arm, seed, test, validation=None, bits=64.0):
    return [
        Record(arm, bits, seed, "test", 500, {"mse": test}),
        Record(arm, bits, seed, "validation", 100, {"mse": test if validation is None else validation}),
    ]


def run(residual, ema, **changes):
    return [
        r
        for arm, values in (("residual", residual), ("ema", ema))
        for seed, v in enumerate(values)
        for r in record(arm, seed, v, **changes)
    ]


def test_a_clear_difference():
    found = verdict(run([0.0068, 0.0069, 0.0067], [0.0090, 0.0091, 0.0089]), ARMS)
    assert found.contest == Contest("residual", "ema")
    assert found.text == (
        "At 64 bits an image, residual (after the fact) has 24 % lower test MSE than ema (end to end): "
        "0.00680 against 0.00900, difference -0.00220 [-0.00220, -0.00220], n = 3 paired seeds."
    )


def test_the_end_to_end_arm_can_win():
    text = verdict(run([0.0120, 0.0131, 0.0126], [0.0100, 0.0108, 0.0101]), ARMS).text
    difference = paired_difference([0.0100, 0.0108, 0.0101], [0.0120, 0.0131, 0.0126])
    assert text.startswith("At 64 bits an image, ema (end to end) has 18 % lower test MSE than residual")
    low, high = map(float, re.search(r"\[(-[\d.]+), (-[\d.]+)\]", text).groups())
    assert (low, high) == pytest.approx((difference.low, difference.high), rel=0.01) and high < 0


def test_an_interval_that_holds_zero_is_no_difference():
    text = verdict(run([0.0068, 0.0080, 0.0075], [0.0079, 0.0070, 0.0078]), ARMS).text
    assert text.startswith("At 64 bits an image, no difference in test MSE is established between residual")
    assert "lower" not in text and "n = 3 paired seeds" in text


def test_one_seed_has_no_interval():
    text = verdict(run([0.0068], [0.0090]), ARMS).text
    assert text.endswith("0.00680 against 0.00900; one seed, no interval.") and "[" not in text


@pytest.mark.parametrize("errors", [[0.007], [0.007, 0.007], [0.0, 0.0]])
def test_equal_errors_are_not_called_lower(errors):
    text = verdict(run(errors, errors), ARMS).text
    assert "lower" not in text
    assert ("the same test MSE" in text) == (len(errors) == 1)


def test_arms_are_chosen_on_validation_and_reported_on_test():
    records = run([0.0100, 0.0101], [0.0120, 0.0121])
    records += [r for seed in (0, 1) for r in record("kmeans", seed, test=0.0001, validation=0.5)]
    assert verdict(records, ARMS).contest == Contest("residual", "ema")
    records = run([0.0100, 0.0101], [0.0120, 0.0121])
    records += [r for seed in (0, 1) for r in record("kmeans", seed, test=0.9, validation=0.0001)]
    found = verdict(records, ARMS)
    assert found.contest == Contest("kmeans", "ema") and "ema (end to end) has 99 % lower" in found.text


def test_only_seeds_in_common_are_paired():
    records = run([0.0068, 0.0069, 0.0067, 0.5], [0.0090, 0.0091, 0.0089])
    assert verdict(records, ARMS).text == verdict([r for r in records if r.seed < 3], ARMS).text
    apart = record("residual", 0, 0.1) + record("ema", 1, 0.1)
    assert "no seed with a test error in common" in verdict(apart, ARMS).text


@pytest.mark.parametrize(("kept", "missing"), [("residual", "end to end"), ("ema", "after the fact")])
def test_one_side_alone_gets_no_verdict(kept, missing):
    found = verdict([r for r in run([0.1], [0.2]) if r.arm == kept], ARMS)
    assert found.contest is None
    assert found.text == f"No verdict: no arm of the kind “{missing}” has a validation error yet."


@pytest.mark.parametrize(("left", "missing"), [("residual", "end to end"), ("ema", "after the fact")])
def test_a_run_that_has_no_arm_of_a_kind_is_said_to_have_none(left, missing):
    floor = {"continuous": ArmInfo("floor", 100, 8.0, 1, "")}
    found = verdict(run([0.1], [0.2]), floor | {left: ARMS[left]})
    assert found.contest is None
    assert found.text == f"No verdict: the run has no arm of the kind “{missing}”."


def test_of_arms_that_are_not_known_none_is_said_to_be_absent():
    text = verdict(run([0.1], [0.2]), {}).text
    assert text == "No verdict: no arm of the kind “after the fact” has a validation error yet."


def test_unequal_rates_are_both_named():
    records = record("residual", 0, 0.01, bits=64.0) + record("ema", 0, 0.02, bits=392.0)
    assert verdict(records, ARMS).text.startswith("At 64 against 392 bits an image, ")


@given(st.lists(st.tuples(st.floats(1e-4, 1), st.floats(1e-4, 1)), min_size=2, max_size=6))
def test_the_words_agree_with_the_paired_interval(pairs):
    a, b = (list(side) for side in zip(*pairs, strict=True))
    difference, text = paired_difference(a, b), verdict(run(a, b), ARMS).text
    assert ("no difference" in text) != difference.excludes_zero
    if difference.excludes_zero:
        winner = "residual" if difference.mean < 0 else "ema"
        assert re.search(r"image, (\w+)", text).group(1) == winner


def test_a_run_of_one_kind_compares_its_two_best():
    arms = dict.fromkeys(("one", "two", "three"), ARMS["ema"])
    errors = {"one": [0.02, 0.021], "two": [0.01, 0.0105], "three": [0.03, 0.03]}
    each = [(arm, seed, e) for arm, found in errors.items() for seed, e in enumerate(found)]
    records = [r for arm, seed, e in each for r in record(arm, seed, e)]
    found = verdict(records, arms)
    assert found.contest == Contest("two", "one")
    assert found.text.startswith("At 64 bits an image, two (end to end) has 50 % lower test MSE than one")


def test_the_two_best_of_one_kind_are_chosen_on_validation_images():
    arms = dict.fromkeys(("one", "two", "three"), ARMS["residual"])
    records = [
        *record("one", 0, 0.5, validation=0.01),
        *record("two", 0, 0.1, validation=0.02),
        *record("three", 0, 0.01, validation=0.9),
    ]
    assert verdict(records, arms).contest == Contest("one", "two")


def test_one_arm_alone_gets_no_verdict():
    assert verdict(record("ema", 0, 0.1), {"ema": ARMS["ema"]}).contest is None


CONTEST = Contest("residual+tuned", "ema")


def checks_of(build, arm=None, records=None, **changes):
    content = build["info"]()
    if arm:
        content["arms"][arm] |= changes
    info = read_info(content, "run.json")
    return comparability(records or build["records"](), info, CONTEST)


def differing(checks):
    return [check.about for check in checks if not check.holds]


def test_equal_arms_pass_every_check(build):
    checks = checks_of(build)
    assert len(checks) == 8 and differing(checks) == [] and caution(checks, CONTEST) == ""


@pytest.mark.parametrize(
    ("changes", "about"),
    [
        ({"image_passes": 14.0}, "image passes through the network"),
        ({"configurations_tried": 9}, "configurations tried"),
        ({"parameters": 51_000}, "parameters of encoder and decoder (within 5 %)"),
    ],
)
def test_what_differs_is_named(build, changes, about):
    checks = checks_of(build, "ema", **changes)
    assert differing(checks) == [about]
    assert about in caution(checks, CONTEST)


def test_parameters_may_differ_by_five_percent(build):
    assert differing(checks_of(build, "ema", parameters=50_700)) == []


@pytest.mark.parametrize(
    ("change", "about"),
    [
        ({"n": 299}, "same test images"),
        ({"seed": 7}, "same seeds"),
        ({"values": {"mse": 0.01, "bits_nominal": 32.0}}, "nominal bits an image"),
    ],
)
def test_records_that_differ_are_named(build, change, about):
    records = [
        Record(**(vars(r) | change)) if (r.arm, r.seed, r.split) == ("ema", 0, "test") else r
        for r in build["records"]()
    ]
    assert about in differing(checks_of(build, records=records))


def test_a_difference_is_red_and_the_verdict_carries_it(tmp_path, build):
    info = build["info"]()
    info["arms"]["ema"]["image_passes"] = 20.0
    text = write_report(build["run"](tmp_path / "run", info=info, images=False)).read_text()
    red = re.findall(r'<tr class="differs">\s*<th scope="row">([^<]*)</th>', text)
    assert red == ["image passes through the network"]
    assert '<p class="caution">Caution, the two differ in image passes' in text
    assert 'id="verdict" class="doubtful"' in text


def test_the_verdict_on_the_page_is_that_of_the_records(finished_run, build):
    text = (finished_run / "report.html").read_text()
    records = build["records"]()
    seeds = by_seed(records, "residual+tuned", "mse", "test")
    difference = paired_difference(
        list(seeds.values()), list(by_seed(records, "ema", "mse", "test").values())
    )
    assert f"difference {difference.mean:.5f}" in text and "n = 3 paired seeds" in text
    assert 'class="caution"' not in text and 'class="differs"' not in text


def test_of_equal_arms_the_one_with_the_larger_budget_is_taken():
    """A tuned decoder that fell back to its start: its arm has the budget of the tuned rival."""
    records = [
        Record(arm, 64, seed, split, 100, {"mse": error})
        for arm, error in (("residual", 0.007), ("ema", 0.009), ("ema+tuned", 0.009))
        for seed in (0, 1)
        for split in ("validation", "test")
    ]
    arms = {
        "residual": ArmInfo("post-hoc", 100, 15.0, 1, ""),
        "ema": ArmInfo("end-to-end", 100, 10.0, 2, ""),
        "ema+tuned": ArmInfo("end-to-end", 100, 15.0, 2, ""),
    }
    assert verdict(records, arms).contest == Contest("residual", "ema+tuned")
