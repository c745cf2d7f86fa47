"""docs/after-the-fact.md: its tables are those of the measurements."""

from pathlib import Path

from geovq.storage.artifact import read_json

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_what_the_measurements_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import draw_after_the_fact
    from concepts.tables import replaced

    content = read_json(ROOT / "results" / "choices" / "mnist-post-hoc.json")
    page = (ROOT / "docs" / "after-the-fact.md").read_text(encoding="utf-8")
    assert replaced(page, draw_after_the_fact.tables(content)) == page
