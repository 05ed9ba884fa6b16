"""The comparison of stacks: by hand on small numbers, and on a pool of real labs of one stack."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from labs.results import Finding, Measurement, Part, Phase, compare, load, slope
from labs.results.statistics import interval, permutation_p

POOL = Path(__file__).parents[1] / "data" / "pool.json"
PLAIN = 20  # labs after these have 20 MiB planted in them
SPLITS = 1000
MIB = 1 << 20


def test_p_by_hand() -> None:
    assert permutation_p([1, 2], [3, 4]) == pytest.approx(2 / 6)
    assert permutation_p([1, 1], [1, 1]) == 1
    assert permutation_p([1, 2, 3, 4], [11, 12, 13, 14]) == pytest.approx(2 / 70)
    assert permutation_p([1, 2, 3, 4, 5], [11, 12, 13, 14, 15]) == pytest.approx(2 / 252)


def test_p_is_the_same_whoever_is_first() -> None:
    first, second = [3.1, 4.2, 5.0, 4.4, 3.9], [4.0, 4.8, 5.5, 5.1]
    assert permutation_p(first, second) == pytest.approx(permutation_p(second, first))


def test_too_many_labs_are_refused() -> None:
    with pytest.raises(ValueError, match="too many for the exact test"):
        permutation_p([1.0] * 11, [2.0] * 11)


@pytest.mark.parametrize(
    ("first", "second", "finding"),
    [
        ([10, 10, 10], [90, 90, 90, 90], Finding.TOO_FEW),
        ([10, 11, 12, 13], [20, 21, 22, 23], Finding.DIFFERENT),
        ([10, 11, 12, 13], [10.5, 11.5, 11.8, 12.2], Finding.NOT_SHOWN),
        ([10.0, 10.1, 10.2, 10.3], [10.8, 10.81, 10.82, 10.83], Finding.NOT_SHOWN),  # below 1 MiB
        ([100.0, 100.1, 100.2, 100.3], [101.5, 101.6, 101.7, 101.8], Finding.NOT_SHOWN),  # below 2%
        ([100.0, 100.1, 100.2, 100.3], [103.5, 103.6, 103.7, 103.8], Finding.DIFFERENT),
    ],
)
def test_findings(first: list[float], second: list[float], finding: Finding) -> None:
    found = compare([value * MIB for value in first], [value * MIB for value in second])
    assert found.finding is finding
    assert (found.p is None) == (finding is Finding.TOO_FEW)


def test_intervals_describe() -> None:
    low, high = interval([10, 12, 14]) or (0, 0)
    assert (low, high) == pytest.approx((12 - 4.303 * 2 / 3**0.5, 12 + 4.303 * 2 / 3**0.5))
    assert interval([10]) is None


def test_a_slope_with_its_interval() -> None:
    line = slope([2, 8, 16, 32], [12.0, 18.0, 26.0, 42.0])
    assert (line.at_zero, line.per_peer) == pytest.approx((10, 1))
    assert line.interval == pytest.approx((1, 1))
    assert slope([2, 8], [1, 2]).interval is None
    noisy = slope([2, 8, 16, 32], [12.0, 20.0, 24.0, 43.0])
    low, high = noisy.interval or (0, 0)
    assert low < noisy.per_peer < high


@pytest.fixture(scope="module")
def pool() -> Measurement:
    return load(Measurement, POOL)


def figures(pool: Measurement, part: Part) -> tuple[list[float], list[float]]:
    """Plain and planted labs, in the joined phase."""
    assert not [run.invalid for run in pool.runs if run.invalid]
    found = [value for run in pool.runs if (value := run.figure(Phase.JOINED, part)) is not None]
    return found[:PLAIN], found[PLAIN:]


@pytest.mark.parametrize("part", [Part.FOOTPRINT, Part.WORKING_SET])
def test_labs_of_one_stack_are_rarely_called_different(pool: Measurement, part: Part) -> None:
    """At most 6% of random 5-against-5 splits of 20 labs: p < 0.05 would call 5% of them so by chance."""
    plain, _ = figures(pool, part)
    assert len(plain) == PLAIN
    dice = random.Random(20261124)  # noqa: S311 - dealing labs, not secrets
    called = 0
    for _ in range(SPLITS):
        labs = dice.sample(plain, 10)
        called += compare(labs[:5], labs[5:]).finding is Finding.DIFFERENT
    assert called <= 0.06 * SPLITS


@pytest.mark.parametrize("part", [Part.FOOTPRINT, Part.WORKING_SET])
def test_what_was_planted_is_found(pool: Measurement, part: Part) -> None:
    plain, planted = figures(pool, part)
    assert len(planted) == 5
    dice = random.Random(20261124)  # noqa: S311 - dealing labs, not secrets
    found = sum(compare(dice.sample(plain, 5), planted).finding is Finding.DIFFERENT for _ in range(SPLITS))
    assert found >= 0.99 * SPLITS


def test_anonymous_memory_agrees_where_the_working_set_does_not(pool: Measurement) -> None:
    """Why the footprint is the headline: page cache is charged to whoever read a file first."""
    footprints, _ = figures(pool, Part.FOOTPRINT)
    working_sets, _ = figures(pool, Part.WORKING_SET)
    assert max(footprints) / min(footprints) < 1.10
    assert max(working_sets) / min(working_sets) > 1.5
