"""What every page is made with: its templates, numbers as people read them, records for programs."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from geovq.reports.numbers import rounded


def template(name: str) -> Template:
    """A page's template; what it shows is escaped, and what it lacks is an error."""
    environment = Environment(
        loader=PackageLoader("geovq.reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["rounded"] = rounded
    environment.filters["breakable"] = _breakable
    return environment.get_template(name)


def script_json(path: Path) -> Markup:
    """A JSON file's text, safe inside a script element (no ``<`` is left), that parses to the same values."""
    return Markup(path.read_text(encoding="utf-8").replace("<", "\\u003c"))


def _breakable(name: str) -> Markup:
    """An arm's name that may be broken before its suffixes."""
    return Markup("<wbr>+").join(name.split("+"))
