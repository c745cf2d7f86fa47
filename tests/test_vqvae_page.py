"""docs/vqvae.md: its tables are those of the measurements, its examples run, its recipes exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geovq.recipes import RECIPES

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "vqvae.md").read_text(encoding="utf-8")


def test_the_tables_are_what_the_measurements_say(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import write_vqvae
    from concepts.tables import replaced

    assert replaced(PAGE, write_vqvae.tables(ROOT)) == PAGE


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_examples_run_and_print_what_they_say(example, capsys):
    exec(example, {})
    said = re.findall(r"print\(.*\)  # (.*)", example)
    assert capsys.readouterr().out.splitlines() == said


def test_every_recipe_it_names_exists():
    named = re.findall(r"^geovq run (\S+)", PAGE, re.MULTILINE)
    assert named and set(named) <= set(RECIPES)
