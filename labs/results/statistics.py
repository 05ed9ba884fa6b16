"""Whether two stacks differ, by the labs that were measured and nothing else.

The exact two-sided permutation test (R. A. Fisher, The Design of Experiments, 1935, section 21): if labels meant
nothing, every way to deal the labs into two groups of these sizes would be as likely as the one that was seen. p is
the share of ways whose means are at least as far apart. No distribution is assumed, and with few labs p cannot be
small: 4 against 4 gives 2 / 70 at best.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum
from itertools import combinations

from labs.results.schema import Model

FEWEST_LABS = 4
P_LIMIT = 0.05
LEAST_BYTES = 1 << 20
LEAST_SHARE = 0.02
_MOST_WAYS = 200_000
_ROUNDING = 1e-9

# Quantiles of Student's t at 97.5% by degrees of freedom, for intervals; beyond the table the normal's is used.
_T_975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131)
_Z_975 = 1.960


class Finding(StrEnum):
    """What a comparison of two stacks says."""

    DIFFERENT = "different"
    NOT_SHOWN = "no difference shown"
    TOO_FEW = "too few runs"


class Difference(Model):
    """One figure of two stacks, one value for each lab. `p` is null with too few labs.

    `low` and `high` are the 95% interval of each side's mean, which describes and decides nothing.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    finding: Finding
    p: float | None
    first_interval: tuple[float, float] | None
    second_interval: tuple[float, float] | None

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.first), statistics.median(self.second)


def compare(first: Sequence[float], second: Sequence[float], least: float = LEAST_BYTES) -> Difference:
    """Whether two stacks differ: p < 0.05, and means apart by more than `least` and 2% of the smaller one.

    Values are per-lab medians. Raises ValueError when a side is empty.
    """
    p = None
    finding = Finding.TOO_FEW
    if min(len(first), len(second)) >= FEWEST_LABS:
        p = permutation_p(first, second)
        apart = abs(statistics.fmean(first) - statistics.fmean(second))
        enough = apart > max(least, LEAST_SHARE * min(statistics.fmean(first), statistics.fmean(second)))
        finding = Finding.DIFFERENT if p < P_LIMIT and enough else Finding.NOT_SHOWN
    return Difference(
        first=tuple(first),
        second=tuple(second),
        finding=finding,
        p=p,
        first_interval=interval(first),
        second_interval=interval(second),
    )


def permutation_p(first: Sequence[float], second: Sequence[float]) -> float:
    """The exact two-sided p. Raises ValueError when there are too many ways to look at them all."""
    pool = (*first, *second)
    if math.comb(len(pool), len(first)) > _MOST_WAYS:
        raise ValueError(f"{len(first)} against {len(second)} labs are too many for the exact test; 10 a side are not")
    total, size = math.fsum(pool), len(first)

    def apart(inside: float) -> float:
        return abs(inside / size - (total - inside) / (len(pool) - size))

    seen = apart(math.fsum(first)) * (1 - _ROUNDING)
    ways = [apart(math.fsum(way)) >= seen for way in combinations(pool, size)]
    return sum(ways) / len(ways)


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of the mean by Student's t; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = _t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


class Slope(Model):
    """A straight line by least squares: `per_peer` with its 95% interval, null with fewer than three points."""

    at_zero: float
    per_peer: float
    interval: tuple[float, float] | None
    points: int


def slope(peers: Sequence[int], values: Sequence[float]) -> Slope:
    """Fit `values` against `peers`. Raises statistics.StatisticsError when all peers are the same."""
    line = statistics.linear_regression(peers, values)
    bounds = None
    if len(values) > 2:
        errors = [value - line.intercept - line.slope * count for count, value in zip(peers, values, strict=True)]
        middle = statistics.fmean(peers)
        spread = math.fsum((count - middle) ** 2 for count in peers)
        standard = math.sqrt(math.fsum(error**2 for error in errors) / (len(values) - 2) / spread)
        half = _t(len(values) - 2) * standard
        bounds = (line.slope - half, line.slope + half)
    return Slope(at_zero=line.intercept, per_peer=line.slope, interval=bounds, points=len(values))


def _t(freedom: int) -> float:
    return _T_975[freedom - 1] if freedom <= len(_T_975) else _Z_975
