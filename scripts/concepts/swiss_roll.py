"""A rolled-up sheet, where geodesics pay by construction, at growing numbers of codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from geovq.quantizers import GeodesicQuantizer, KMeansQuantizer, KMedoidsQuantizer, Quantizer
from geovq.search import cell_means
from geovq.seeding import numpy_generator

N_POINTS, N_NEIGHBORS = 10_000, 15
N_CODES = (8, 16, 32, 64, 128, 256)
FIRST_ANGLE, LAST_ANGLE, HEIGHT = 1.5 * np.pi, 4.5 * np.pi, 21.0  # those of scikit-learn's swiss roll
SHORTEST_TURN = 2 * np.pi * FIRST_ANGLE
N_DRAWN, DRAWN_CODES = 3_000, 8
Row = dict[str, Any]


def roll(count: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 3) spread evenly over the sheet, and where they lie on it (count, 2).

    The sheet's coordinates are arc length along the spiral and height; distances on it are geodesic.
    """
    angles = np.linspace(FIRST_ANGLE, LAST_ANGLE, 10_001)
    arcs = _arc(angles) - _arc(FIRST_ANGLE)
    sheet = generator.uniform(size=(count, 2)) * [arcs[-1], HEIGHT]
    angle = np.interp(sheet[:, 0], arcs, angles)
    return np.stack([angle * np.cos(angle), sheet[:, 1], angle * np.sin(angle)], axis=1), sheet


def rows(seeds: int) -> Iterator[Row]:
    """Errors on the sheet of cells that were cut in the space around it, and on it."""
    for seed in range(seeds):
        points, sheet = roll(N_POINTS, numpy_generator(seed, "fitted roll"))
        test, test_sheet = roll(N_POINTS, numpy_generator(seed, "held-out roll"))
        for n_codes in N_CODES:
            for arm, quantizer in arms(n_codes, seed).items():
                fitted, held_out = (sheet, test_sheet) if arm == "k-means on the sheet" else (points, test)
                quantizer.fit(fitted)
                cells = quantizer.predict(fitted), quantizer.predict(held_out)
                yield {
                    "arm": arm,
                    "n_codes": n_codes,
                    "seed": seed,
                    **sheet_errors(sheet, test_sheet, *cells),
                }


def arms(n_codes: int, seed: int) -> dict[str, Quantizer]:
    """The quantizers that are compared; the last knows what the others have to find out."""
    return {
        "kmeans": KMeansQuantizer(n_codes, random_state=seed),
        "kmedoids": KMedoidsQuantizer(n_codes, random_state=seed),
        "geodesic": GeodesicQuantizer(n_codes, N_NEIGHBORS, random_state=seed),
        "k-means on the sheet": KMeansQuantizer(n_codes, random_state=seed),
    }


def sheet_errors(
    sheet: np.ndarray, test_sheet: np.ndarray, cells: np.ndarray, test_cells: np.ndarray
) -> dict[str, float]:
    """How well cells follow the sheet, measured on it.

    ``sheet_error`` is the mean squared sheet distance of held-out points from the mean of their cell's fitted
    points. ``torn`` is the share of held-out points in torn cells: cells whose fitted points leave a gap
    along the spiral of more than half its shortest turn, and so lie on several turns.
    """
    n_codes = int(max(cells.max(), test_cells.max())) + 1
    centers, _ = cell_means(sheet, cells, n_codes)
    torn = np.zeros(n_codes, dtype=bool)
    for cell in np.unique(cells):
        torn[cell] = np.diff(np.sort(sheet[cells == cell, 0])).max(initial=0) > SHORTEST_TURN / 2
    errors = np.square(test_sheet - centers[test_cells]).sum(1)
    return {"sheet_error": float(errors.mean()), "torn": float(torn[test_cells].mean())}


def picture() -> dict[str, Any]:
    """Some points of one roll where they lie on the sheet, with their Euclidean and geodesic codes."""
    points, sheet = roll(N_POINTS, numpy_generator(0, "fitted roll"))
    fitted = arms(DRAWN_CODES, 0)
    return {
        "n_codes": DRAWN_CODES,
        "sheet": np.round(sheet[:N_DRAWN], 2).tolist(),
        **{arm: fitted[arm].fit(points).predict(points[:N_DRAWN]).tolist() for arm in ("kmeans", "geodesic")},
    }


def _arc(angle: Any) -> Any:
    """Length of the spiral ``radius = angle`` from its centre."""
    return (angle * np.sqrt(1 + np.square(angle)) + np.arcsinh(angle)) / 2
