"""Records survive metrics.json, and nothing else passes for it."""

import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geovq.errors import CorruptArtifactError, InputError
from geovq.evaluation.records import METRICS, Record, by_seed, metrics_json, read_metrics, records_from_json

values = st.dictionaries(
    st.sampled_from(sorted(METRICS)), st.floats(allow_nan=False, allow_infinity=False), min_size=1
)
record = st.builds(
    Record,
    arm=st.text(min_size=1, max_size=8),
    bits=st.none() | st.floats(0, 1024),
    seed=st.integers(0, 9),
    split=st.sampled_from(["validation", "test"]),
    n=st.integers(1, 10_000),
    values=values,
)
records = st.lists(record, max_size=8, unique_by=lambda r: (r.arm, r.bits, r.seed, r.split))


def one(**changes):
    fields = {"arm": "kmeans", "bits": 24, "seed": 0, "split": "test", "n": 10, "values": {"mse": 0.5}}
    return fields | changes


def content(*items, **changes):
    return {"schema": 1, "metrics": {}, "records": list(items)} | changes


@given(records)
def test_records_come_back_as_they_were(found):
    text = json.dumps(metrics_json(found), allow_nan=False)
    back = records_from_json(json.loads(text), "metrics.json")
    assert {(r.arm, r.bits, r.seed, r.split, r.n, tuple(sorted(r.values.items()))) for r in back} == {
        (r.arm, r.bits, r.seed, r.split, r.n, tuple(sorted(r.values.items()))) for r in found
    }


@given(records, st.randoms(use_true_random=False))
def test_bytes_do_not_depend_on_the_order_of_records(found, shuffler):
    shuffled = list(found)
    shuffler.shuffle(shuffled)
    assert json.dumps(metrics_json(shuffled)) == json.dumps(metrics_json(found))


def test_whole_bits_are_written_as_whole_numbers():
    first, second = (metrics_json([Record(**one(bits=bits))]) for bits in (24, 24.0))
    assert json.dumps(first) == json.dumps(second)
    assert '"bits": 24,' in json.dumps(first)


def test_the_metrics_used_are_described_and_only_those():
    assert metrics_json([Record(**one())])["metrics"] == {"mse": METRICS["mse"]}


def test_every_metric_has_a_unit_a_direction_and_a_sentence():
    assert {metric["direction"] for metric in METRICS.values()} == {"lower", "higher", "none"}
    for metric in METRICS.values():
        assert set(metric) == {"unit", "direction", "about"}
        assert metric["about"].endswith(".")


def test_the_same_arm_rate_seed_and_split_twice_is_refused():
    with pytest.raises(InputError, match="two records of arm 'kmeans', seed 0, split 'test'"):
        metrics_json([Record(**one()), Record(**one(values={"psnr": 20.0}))])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_record_refuses_what_is_not_finite(value):
    with pytest.raises(InputError, match=r"mse is .*; expected a finite number"):
        Record(**one(values={"mse": value}))


def test_a_record_refuses_an_unknown_metric_and_names_the_nearest():
    with pytest.raises(InputError, match="unknown metric 'perplexty'; did you mean 'perplexity'"):
        Record(**one(values={"perplexty": 3.0}))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (content(schema=2), "schema is 2; this version reads 1"),
        ([], "schema is 'list'"),
        (content(records={}), "'records' is dict; expected a list"),
        (content(3), "record 0 has int"),
        (content({"arm": "kmeans"}), "expected the fields"),
        (content(one(extra=1)), "expected the fields"),
        (content(one(), one(split="validation", seed="0")), "record 1: seed is '0'; expected int"),
        (content(one(bits="24")), "bits is '24'; expected int or float or null"),
        (content(one(bits=-1)), "bits is -1; expected a number of bits or null"),
        (content(one(n=0)), "n is 0; expected at least one image"),
        (content(one(n=True)), "n is True; expected int"),
        (content(one(values={})), "holds no values"),
        (content(one(values={"mse": "0.5"})), "mse is '0.5'; expected a finite number"),
        (content(one(values={"mse": True})), "mse is True; expected a finite number"),
        (content(one(values={"mse": math.nan})), "mse is nan; expected a finite number"),
        (content(one(values={"mse": 10**400})), "a value is too large"),
        (content(one(values={"fid": 3.0})), "unknown metric 'fid'"),
        (content(one(), one()), "two records of arm 'kmeans'"),
    ],
)
def test_anything_else_is_refused_with_its_place(tmp_path, written, message):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(written))
    with pytest.raises(CorruptArtifactError, match=message) as refusal:
        read_metrics(path)
    assert str(refusal.value).startswith(str(path)) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", [None, "", "{", "[" * 100_000])
def test_what_is_not_json_is_refused(tmp_path, text):
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CorruptArtifactError, match="not readable as JSON"):
        read_metrics(path)


def test_values_by_seed_are_those_of_one_arm_metric_and_split():
    found = [
        Record(**one(seed=1, values={"mse": 0.1})),
        Record(**one(seed=0, values={"mse": 0.2, "psnr": 7.0})),
        Record(**one(seed=0, split="validation", values={"mse": 0.3})),
        Record(**one(arm="ema", values={"mse": 0.4})),
    ]
    assert list(by_seed(found, "kmeans", "mse", "test").items()) == [(0, 0.2), (1, 0.1)]
    assert by_seed(found, "kmeans", "psnr", "test") == {0: 7.0}
    assert by_seed(found, "residual", "mse", "test") == {}


def test_records_and_statistics_import_no_torch():
    rooms = "geovq.evaluation.records, geovq.evaluation.statistics"
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
