"""What each remedy adds: the right arms against each other, paired by seed, and in words where needed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.evaluation.records import Record
from geovq.evaluation.statistics import mean_interval, paired_difference
from geovq.reports import write_report
from geovq.reports.remedies import ALONE, IN_TURN, families, remedy_table, remedy_words, split_name
from geovq.reports.results import collect, results_markdown
from geovq.reports.tables import metric_table

SUFFIXES = ("", "+metric", "+tuned", "+aware", "+metric+tuned", "+metric+aware", "+tuned+aware")
FULL = (*SUFFIXES, "+metric+tuned+aware")
# Errors of three seeds: an offset a seed, which pairing takes out, and what each remedy changes.
OFFSETS = (0.0, 0.001, 0.003)
EFFECTS = {"metric": (-9e-4, -1e-3, -1.1e-3), "tuned": (-5e-4, -4e-4, -6e-4), "aware": (-1e-4, 1e-4, 0.0)}


def error(arm, seed, start=0.01):
    steps = [EFFECTS.get(suffix, OFFSETS)[seed] for suffix in arm.split("+")[1:]]
    return start + OFFSETS[seed] + sum(steps) + 0.002 * arm.endswith("-greedy")


def records_of(arms, seeds=(0, 1, 2), errors=error):
    return [Record(arm, 64, seed, "test", 100, {"mse": errors(arm, seed)}) for arm in arms for seed in seeds]


def cells(table, label, note):
    """The cells of one row by the names of their columns."""
    (row,) = [row for row in table.rows if (row.label, row.note) == (label, note)]
    return dict(zip([column.name for column in table.columns], row.cells, strict=True))


def numbers_in(text):
    return [float(found) for found in re.findall(r"[-+]?\d+\.?\d*", text)]


FAMILY = ["residual-greedy", *(f"residual{suffix}" for suffix in FULL)]
COMPLETE = remedy_table(records_of(["kmeans", "kmeans+tuned", *FAMILY]))


def test_columns_are_the_remedies_between_the_errors_without_and_with_them():
    names = [column.name for column in COMPLETE.columns]
    assert names == ["plain mse", "beam", "+metric", "+tuned", "+aware", "all", "mse with all"]
    assert all(column.about for column in COMPLETE.columns)


@pytest.mark.parametrize("remedy", EFFECTS)
def test_a_change_is_paired_by_seed_in_percent_of_the_plain_error(remedy):
    cell = cells(COMPLETE, "residual", ALONE)[f"+{remedy}"]
    expected = mean_interval(EFFECTS[remedy])
    whole = mean_interval([error("residual", seed) for seed in range(3)]).mean / 100
    shown = numbers_in(f"{cell.text} {cell.interval}")
    wanted = [expected.mean / whole, expected.low / whole, expected.high / whole]
    assert shown == pytest.approx(wanted, abs=0.006)
    assert (cell.text == "not established") == (remedy == "aware")


def test_beam_search_is_the_plain_arm_less_the_greedy_one():
    assert numbers_in(cells(COMPLETE, "residual", ALONE)["beam"].text) == pytest.approx([-17.6], abs=0.06)
    assert cells(COMPLETE, "residual", IN_TURN)["beam"].text == "in plain"
    assert cells(COMPLETE, "kmeans", ALONE)["beam"].text == "–"


def test_one_on_top_of_the_other_takes_the_arms_in_turn_and_adds_up():
    by_count = (0.010, 0.009, 0.0085, 0.0087)  # whatever the remedies, by how many there are
    records = records_of(FAMILY, errors=lambda arm, seed: by_count[arm.count("+")])
    table = remedy_table(records)
    alone, in_turn = (cells(table, "residual", note) for note in (ALONE, IN_TURN))
    assert [alone[f"+{remedy}"].text for remedy in EFFECTS] == ["-10.0 %", "-10.0 %", "-10.0 %"]
    assert [in_turn[f"+{remedy}"].text for remedy in EFFECTS] == ["-10.0 %", "-5.00 %", "+2.00 %"]
    assert alone["all"].text == in_turn["all"].text == "-13.0 %"
    assert (alone["plain mse"].text, alone["mse with all"].text) == ("0.0100", "0.00870")


@given(st.lists(st.lists(st.floats(1e-3, 1), min_size=3, max_size=3), min_size=8, max_size=8))
def test_errors_are_those_of_the_arms_and_a_change_is_shown_only_beyond_doubt(found):
    errors = dict(zip([f"residual{suffix}" for suffix in FULL], found, strict=True))
    records = records_of(errors, errors=lambda arm, seed: errors[arm][seed])
    table, measured = remedy_table(records), metric_table(records, {}, ["mse"])
    shown = {row.label: row.cells[0].text for row in measured.rows}
    for note in (ALONE, IN_TURN):
        row = cells(table, "residual", note)
        assert row["plain mse"].text == shown["residual"]
        assert row["mse with all"].text == shown["residual+metric+tuned+aware"]
    row = cells(table, "residual", ALONE)
    for remedy in EFFECTS:
        difference = paired_difference(errors[f"residual+{remedy}"], errors["residual"])
        text = row[f"+{remedy}"].text
        if difference.excludes_zero:
            assert text.endswith(" %")
            assert text.startswith("0.00") or text.startswith("-") == (difference.mean < 0)
        else:
            equal = errors["residual"] == errors[f"residual+{remedy}"]
            assert text == ("no change" if equal else "not established")


def test_a_missing_arm_leaves_a_dash_and_a_single_step_no_second_row():
    arms = [
        "residual",
        "residual+metric",
        "residual+metric+aware",
        "ema",
        "ema+tuned",
        "ema+tuned+aware",
        "x",
    ]
    table = remedy_table(records_of([*arms, "y", "y+aware"]))
    assert [(row.label, row.note) for row in table.rows] == [
        ("residual", ALONE), ("residual", IN_TURN), ("ema", ALONE), ("ema", IN_TURN), ("y", ALONE),
    ]  # fmt: skip
    row = {name: cell.text for name, cell in cells(table, "residual", ALONE).items()}
    assert row["+tuned"] == row["+aware"] == "–" and row["+metric"].startswith("-")
    assert cells(table, "residual", IN_TURN)["+aware"].text == "not established"
    assert "beam" not in row


def test_two_arms_with_as_many_remedies_are_no_arm_with_all():
    table = remedy_table(records_of(["residual", "residual+metric", "residual+tuned"]))
    row = cells(table, "residual", ALONE)
    assert row["all"].text == row["mse with all"].text == "–"


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_equal_errors_are_no_change(seeds):
    arms = ["ema", "ema+tuned", "ema+aware"]
    table = remedy_table(records_of(arms, seeds, errors=lambda arm, seed: 0.01 + seed))
    assert [cells(table, "ema", ALONE)[name].text for name in ("+tuned", "+aware")] == ["no change"] * 2


def test_one_seed_has_changes_without_intervals_and_says_so():
    records = records_of(["residual", "residual+metric", "residual+aware"], seeds=(0,))
    assert all(not cell.interval for row in remedy_table(records).rows for cell in row.cells)
    assert cells(remedy_table(records), "residual", ALONE)["+metric"].text == "-9.00 %"
    assert "One seed, no interval." in remedy_words(records)
    assert "not established" in remedy_words(records_of(["residual"]))


def test_only_seeds_in_common_are_paired():
    full = ["residual", "residual+metric", "residual+tuned"]
    records = [r for r in records_of(full) if (r.arm, r.seed) != ("residual+metric", 0)]
    step = paired_difference(EFFECTS["metric"][1:], [0.0, 0.0])
    shown = numbers_in(cells(remedy_table(records), "residual", ALONE)["+metric"].text)
    whole = mean_interval([error("residual", seed) for seed in range(3)]).mean / 100
    assert shown == pytest.approx([step.mean / whole], abs=0.006)
    apart = [r for r in records if r.arm != "residual+metric"]
    apart += records_of(["residual+metric"], seeds=(7,), errors=lambda arm, seed: 0.01)
    assert cells(remedy_table(apart), "residual", ALONE)["+metric"].text == "–"


def test_a_plain_arm_without_error_has_no_percent_of_it():
    records = records_of(["x", "x+tuned", "x+aware"], errors=lambda arm, seed: 0.01 * ("+" in arm))
    assert [cells(remedy_table(records), "x", ALONE)[name].text for name in ("+tuned", "+aware")] == ["–"] * 2


@pytest.mark.parametrize(
    "arms",
    [
        ["kmeans", "residual", "residual+tuned", "ema", "ema+tuned"],
        ["residual", "residual-greedy"],
        ["residual+tuned", "residual+aware"],
        ["kmeans", "a+b", "a"],
        [],
    ],
)
def test_fewer_than_two_remedies_make_no_table(arms):
    assert remedy_table(records_of(arms)) is None


def test_the_floor_and_unknown_suffixes_are_of_no_family():
    floor = [Record("residual+aware", None, 0, "test", 100, {"mse": 0.001})]
    (family,) = families([*records_of(["residual", "residual+tuned", "residual+mine"]), *floor])
    assert sorted(family.arms.values()) == ["residual", "residual+tuned"] and family.greedy is None
    assert split_name("residual+mine") == ("residual+mine", frozenset())


def remedied_run(build, folder):
    """The small run with two remedies for one of its arms."""
    arms = ("residual", "residual+tuned", "residual+metric", "residual+metric+tuned", "residual-greedy")
    mse = build["mse"] | {arm: 0.0142 - 0.002 * arm.count("+") for arm in arms}
    kinds = build["kinds"] | dict.fromkeys(arms, "post-hoc")
    return build["run"](folder, records=build["records"](mse), info=build["info"](kinds), images=False)


def test_the_table_is_on_the_page_and_in_the_results(tmp_path, build):
    folder = remedied_run(build, tmp_path / "run")
    page = " ".join(write_report(folder).read_text(encoding="utf-8").split())
    section = page.split('<section id="results">')[1].split("</section>")[0]
    assert "<h3>What each remedy adds</h3>" in section
    table = section.split("<caption>Test MSE with and without the remedies</caption>")[1]
    assert "+metric<span" in table and IN_TURN in table and 'class="scroll"' in section
    text = results_markdown(collect(folder, "Title", "About."), "here")
    lines = text.split("### What each remedy adds")[1].split("<details>")[0].splitlines()
    rows = [line for line in lines if line.startswith("| `")]
    assert [row.split(" | ")[0] for row in rows] == [f"| `residual` ({note})" for note in (ALONE, IN_TURN)]
    assert len({row.count("|") for row in rows}) == 1 and all("in percent" not in row for row in rows)


def test_a_run_of_one_remedy_has_none_of_it(finished_run):
    assert "remedy" not in (finished_run / "report.html").read_text(encoding="utf-8")
    assert "remedy" not in results_markdown(collect(finished_run, "Title", "About."), "here")
