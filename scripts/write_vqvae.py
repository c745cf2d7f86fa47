"""Write the measured tables of docs/vqvae.md from results/cifar10-*.json and results/choices/.

python scripts/write_vqvae.py
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from concepts.tables import replaced
from write_quantizers import ROOT, layer_table, measured

from geovq.errors import GeovqError
from geovq.reports import numbers
from geovq.storage.artifact import read_json
from geovq.storage.atomic import write_text

COLUMNS = {
    "mse": "test MSE",
    "bits_per_dim": "bits/dim",
    "bits_per_dim_decoder": "of these the pixels'",
    "bits_entropy": "entropy bits",
    "utilization": "codes used",
}
RESIDUAL = {  # run: what is said behind the arm's name
    "cifar10-residual-vqvae-small": "",
    "cifar10-residual-vqvae-logistic": ", trained on its likelihood",
    "cifar10-ten-codebooks": ", ten groups a site, 5,760 bits",
}
LEVELS = {"cifar10-vqvae2": "", "cifar10-vqvae2-wide": ", as wide as one-level"}


def choice_table(content: Mapping[str, Any]) -> str:
    """Validation MSE, a row a value that was tried."""
    lines = [["what", "value", "validation MSE"], ["---", "---", "---:"]]
    for row in content["rows"]:
        (error,) = row["validation_mse"].values()
        lines.append([row["question"], row["value"], numbers.rounded(error)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def arms_of(root: Path, runs: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """Test values of the arms of several runs, each arm under its name with the words of its run."""
    return {
        f"{arm}{words}": values
        for name, words in runs.items()
        for arm, values in measured(root, name, COLUMNS).items()
    }


def tables(root: Path) -> dict[str, str]:
    """The tables by the name of their place in the page."""
    return {
        "levels": layer_table(arms_of(root, LEVELS), COLUMNS),
        "residual": layer_table(arms_of(root, RESIDUAL), COLUMNS),
        "choices": choice_table(read_json(root / "results" / "choices" / "cifar10-vqvae2.json")),
    }


def main(root: Path = ROOT) -> int:
    """Write the page and return the exit code."""
    page = root / "docs" / "vqvae.md"
    try:
        write_text(page, replaced(page.read_text(encoding="utf-8"), tables(root)))
    except GeovqError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
