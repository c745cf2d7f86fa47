"""How numbers are written for people: three significant digits, an interval at its mean's precision."""

from __future__ import annotations

from geovq.evaluation.statistics import Estimate


def rounded(value: float, like: float | None = None) -> str:
    """``value`` with three significant digits, or with as many decimals as ``like`` would get.

    >>> rounded(0.0067834), rounded(21.372), rounded(48213.0), rounded(256.0)
    ('0.00678', '21.4', '48,213', '256')
    >>> rounded(-0.00213, like=0.00678)
    '-0.00213'
    """
    scale = abs(value if like is None else like)
    if like is None and float(value).is_integer() and scale < 1e15:
        return f"{value:,.0f}"
    if scale >= 1e15 or 0 < scale < 1e-6:
        return f"{value:.2e}"
    exponent = int(f"{scale:.2e}".partition("e")[2])  # after rounding: 0.9999 has the digits of 1.00
    decimals = 2 - exponent
    text = f"{value:,.{max(0, decimals)}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text


def interval(estimate: Estimate) -> str:
    """The interval as ``[low, high]``; empty if there is none or it has no width.

    >>> interval(Estimate(0.0068, 0.0064, 0.0072, 3)), interval(Estimate(0.5, None, None, 1))
    ('[0.00640, 0.00720]', '')
    """
    if estimate.low is None or estimate.high is None or estimate.low == estimate.high:
        return ""
    return f"[{rounded(estimate.low, like=estimate.mean)}, {rounded(estimate.high, like=estimate.mean)}]"


def mean(estimate: Estimate) -> str:
    """The mean at the precision that its interval is written with."""
    return rounded(estimate.mean, like=estimate.mean if interval(estimate) else None)


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever reads best.

    >>> duration(3.21), duration(75.0), duration(5400.0)
    ('3.21 s', '1 min 15 s', '1 h 30 min')
    """
    if seconds < 60:
        return f"{rounded(seconds)} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"
