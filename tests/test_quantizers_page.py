"""docs/quantizers.md: its tables are those of the measurements, and every layer has its section and row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geovq.registry import FAMILIES

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "quantizers.md").read_text(encoding="utf-8")


def test_the_tables_are_what_the_measurements_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_quantizers
    from concepts.tables import replaced

    assert replaced(PAGE, write_quantizers.tables(ROOT)) == PAGE


@pytest.mark.parametrize("kind", sorted(FAMILIES["layer"]))
def test_every_layer_has_its_section_source_advice_and_measured_row(kind):
    section = re.search(rf"^### `{kind}`.*?(?=^###|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section, f"docs/quantizers.md has no section '### `{kind}`'"
    assert re.search(r"\*.*\d{4}", section[0]), "no source"
    assert "Use it" in section[0]
    assert re.search(rf"^\| `{kind}` \| 0\.\d+", PAGE, re.MULTILINE), "no measured row"


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, {})
