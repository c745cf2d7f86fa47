"""docs/after-the-fact.md: its tables are those of the measurements."""

from pathlib import Path

from geovq.storage.artifact import read_json

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_measurements_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import draw_after_the_fact
    from concepts.tables import replaced

    choices = ROOT / "results" / "choices"
    contents = [read_json(choices / f"{name}.json") for name in ("mnist-post-hoc", "joint-tuning")]
    page = (ROOT / "docs" / "after-the-fact.md").read_text(encoding="utf-8")
    assert replaced(page, draw_after_the_fact.tables(*contents)) == page


def test_joint_tuning_is_compared_with_the_arm_of_the_run():
    rows = read_json(ROOT / "results" / "choices" / "joint-tuning.json")["rows"]
    (row,) = [row for row in rows if row["by"] == "run of recipe mnist-post-hoc"]
    records = read_json(ROOT / "results" / "mnist-post-hoc.json")["records"]
    mse = {(r["arm"], r["split"]): r["values"]["mse"] for r in records if r["seed"] == 0}
    for before, after, split in (
        ("start_validation_mse", "validation_mse", "validation"),
        ("start_test_mse", "test_mse", "test"),
    ):
        assert row[before] == mse["residual+metric", split]
        assert row[after] == mse["residual+metric+tuned", split]
