"""The text at the end of a run says what the report says."""

from pathlib import Path

import pytest

from geovq.errors import InputError
from geovq.evaluation.records import read_metrics
from geovq.reports import summary


def test_summary_shows_every_arm_and_the_verdict(small_run: Path) -> None:
    text = summary(small_run)
    lines = text.splitlines()
    records = [r for r in read_metrics(small_run / "metrics.json") if r.split == "test"]
    for arm in {r.arm for r in records}:
        (line,) = [line for line in lines if line.split()[:1] == [arm]]
        errors = [r.values["mse"] for r in records if r.arm == arm]
        assert float(line.split()[1]) == pytest.approx(sum(errors) / len(errors), rel=5e-3)
    assert "At 24 bits an image" in text
    assert "configurations tried" in text  # four quantizers on one side, one layer on the other


def test_summary_needs_a_run_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json|config\.json"):
        summary(tmp_path)
