"""Points along a curve."""

from __future__ import annotations

import numpy as np

from geovq.errors import InputError


def along(points: np.ndarray, count: int, lengths: np.ndarray | None = None) -> np.ndarray:
    """Points at equal arc length along the polyline through ``points``, its two ends among them.

    Parameters
    ----------
    points : (m, d), finite, m >= 1
    count : how many points to give, at least 2
    lengths : (m - 1,), how long each piece of the polyline is, such as its edge of a graph; Euclidean if not
        given. Inside a piece, length grows evenly.

    Returns
    -------
    float64 (count, d). The first and the last equal the first and the last of ``points`` exactly; pieces of
    length 0 are jumped over.

    Raises
    ------
    InputError
        If ``points`` or ``lengths`` have another shape, are not finite, a length is below 0, or ``count`` is
        below 2.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or len(points) == 0 or not np.isfinite(points).all():
        raise InputError(
            f"points have shape {points.shape}; expected finite numbers (m, d), at least one row"
        )
    if count < 2:
        raise InputError(f"count is {count}; expected at least 2, the two ends of the curve")
    if lengths is None:
        lengths = np.sqrt(np.square(np.diff(points, axis=0)).sum(1))
    lengths = np.asarray(lengths, dtype=np.float64)
    if lengths.shape != (len(points) - 1,) or not (np.isfinite(lengths) & (lengths >= 0)).all():
        raise InputError(
            f"lengths have shape {lengths.shape} for {len(points)} points; expected ({len(points) - 1},) "
            "finite numbers, 0 or more"
        )
    if len(points) == 1:
        return np.repeat(points, count, axis=0)
    passed = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = passed[-1] * np.linspace(0, 1, count)[1:-1]
    # The last piece that begins at or before the place wanted; none of length 0 unless all are.
    piece = np.minimum(np.searchsorted(passed, wanted, side="right") - 1, len(lengths) - 1)
    share = np.zeros(len(wanted))
    np.divide(wanted - passed[piece], lengths[piece], out=share, where=lengths[piece] > 0)
    inner = points[piece] + share[:, None] * (points[piece + 1] - points[piece])
    return np.concatenate([points[:1], inner, points[-1:]])
