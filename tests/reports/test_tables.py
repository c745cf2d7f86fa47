"""Tables of any records: one row an arm, at most one best a column, and that one beyond doubt."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from geovq.evaluation.records import Record
from geovq.evaluation.statistics import paired_difference
from geovq.reports.tables import RANKED, markdown, metric_table, ordered_arms

errors = st.lists(st.floats(1e-9, 1e6), min_size=3, max_size=3)
comparisons = st.dictionaries(st.sampled_from("abcdef"), errors, min_size=1)


def records_of(errors_by_arm, metric="mse", floor="f"):
    return [
        Record(arm, None if arm == floor else 24, seed, "test", 10, {metric: value})
        for arm, found in errors_by_arm.items()
        for seed, value in enumerate(found)
    ]


@given(comparisons, st.sampled_from(RANKED))
def test_the_best_of_a_column_is_beyond_doubt_and_no_floor(found, metric):
    table = metric_table(records_of(found, metric), {}, [metric])
    bold = [row.label for row in table.rows if row.cells[0].best]
    assert len(table.rows) == len(found) and len(bold) <= 1
    for arm in bold:
        rivals = [other for other in found if other not in (arm, "f")]
        nearest = min(rivals, key=lambda other: abs(sum(found[other]) - sum(found[arm])))
        assert arm != "f" and paired_difference(found[arm], found[nearest]).excludes_zero


@given(comparisons)
def test_rows_are_in_order_of_error_after_the_floor(found):
    arms = [arm for arm, _ in ordered_arms(records_of(found))]
    coded = [arm for arm in arms if arm != "f"]
    assert sorted(arms) == sorted(found) and ("f" not in found or arms[0] == "f")
    means = [sum(found[arm]) / 3 for arm in coded]
    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(means))


@given(comparisons)
def test_markdown_has_the_same_cells(found):
    table = metric_table(records_of(found), {})
    lines = markdown(table).splitlines()
    assert len(lines) == 2 + len(found)
    for line, row in zip(lines[2:], table.rows, strict=True):
        assert line.startswith(f"| `{row.label}` | ") and row.cells[0].text in line


def test_the_direction_of_a_metric_decides_its_best():
    higher = {"a": [1.0, 1.1, 1.2], "b": [3.0, 3.1, 3.2]}
    for metric, best in (("mse", "a"), ("psnr", "b")):
        table = metric_table(records_of(higher, metric), {}, [metric])
        assert [row.label for row in table.rows if row.cells[0].best] == [best]


def test_bits_and_latent_errors_are_shown_but_not_ranked():
    different = {"a": [1.0, 1.1, 1.2], "b": [3.0, 3.1, 3.2]}
    for metric in ("bits_entropy", "bits_prior", "latent_distortion", "total_nats"):
        table = metric_table(records_of(different, metric), {}, [metric])
        assert table.columns[0].name == metric and not any(row.cells[0].best for row in table.rows)


def test_a_pipe_in_a_name_does_not_break_the_table():
    lines = markdown(metric_table(records_of({"a|b": [1.0, 2.0, 3.0]}), {})).splitlines()
    assert "`a\\|b`" in lines[2]
