"""Draw the figures of docs/concepts.md and write its tables, from results/concepts/*.json.

python scripts/draw_concepts.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concepts import figures, tables
from concepts.pipelines import pipelines
from matplotlib.figure import Figure

from geovq.errors import GeovqError
from geovq.reports.plotting import as_picture
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_bytes, write_text

ROOT = Path(__file__).resolve().parents[1]
MEASUREMENTS = ("flat-space", "swiss-roll", "real-decoders", "latent-map")
Contents = Mapping[str, Mapping[str, Any]]


def drawn(contents: Contents) -> dict[str, Figure]:
    """The figures by name."""
    return {
        "pipelines": pipelines(),
        "flat-space": figures.flat_space(contents["flat-space"]),
        "swiss-roll": figures.swiss_roll(contents["swiss-roll"]),
        "latent-map": figures.latent_map(contents["latent-map"]),
        "real-decoders": figures.real_decoders(contents["real-decoders"]),
    }


def tabulated(contents: Contents) -> dict[str, str]:
    """The tables by the name of their place in the page."""
    decoders = contents["real-decoders"]
    return {
        "flat-space": tables.flat_space(contents["flat-space"]),
        "decoded-error": tables.real_decoders(decoders, "decoded_error", (16, 256), tables.ARMS),
        "class-agreement": tables.real_decoders(decoders, "class_nmi", (16, 256), tables.CLASS_ARMS),
    }


def measured(root: Path) -> dict[str, dict[str, Any]]:
    """The measurements by name."""
    return {name: read_json(root / "results" / "concepts" / f"{name}.json") for name in MEASUREMENTS}


def main(root: Path = ROOT) -> int:
    """Draw, write, and return the exit code."""
    try:
        contents = measured(root)
        for name, figure in drawn(contents).items():
            path = root / "docs" / "images" / f"concepts-{name}.png"
            write_bytes(path, as_picture(figure, name).png)
            print(path)
        page = root / "docs" / "concepts.md"
        write_text(page, tables.replaced(page.read_text(encoding="utf-8"), tabulated(contents)))
        print(page)
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
