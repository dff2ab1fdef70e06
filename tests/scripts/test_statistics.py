"""Statistics over runs: published values, closed forms, brute force, and how often intervals cover the truth."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from bellmark.scripts import statistics
from bellmark.scripts.statistics import bootstrap, improvement, iqm, mean, median, optimality_gap, profile, student

X = [np.array([1.0, 2.0, 1.0, 2.0]), np.array([2.0, 2.0, 1.0, 1.0])]
Y = [np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])]


def test_the_values_that_rliable_publishes():
    assert (median(X), mean(X), iqm(X)) == (1.5, 1.5, 1.5)
    assert (median(Y), mean(Y), iqm(Y)) == (2.0, 2.0, 2.0)
    assert improvement(X, Y).value == pytest.approx(1 / 3)


def test_aggregates_by_hand():
    scores = [np.array([0.0, 10.0, 2.0, 4.0]), np.array([1.0, 3.0, -5.0, 0.5])]
    assert iqm(scores) == np.mean([0.5, 1.0, 2.0, 3.0])
    assert mean(scores) == (4.0 - 0.125) / 2
    assert optimality_gap(scores, 1.0) == pytest.approx(1 - (0 + 1 + 1 + 1 + 1 + 1 - 5 + 0.5) / 8)
    three = [np.array([0.0, 0.0]), np.array([7.0, 9.0]), np.array([1.0, 2.0, 3.0])]
    assert median(three) == 2.0
    assert iqm([np.array([5.0, 1.0, 9.0])]) == 5.0  # a quarter of three runs is none
    assert iqm([np.array([8.0, 1.0, 2.0, 4.0, 100.0, 3.0, 5.0])]) == np.mean([2.0, 3.0, 4.0, 5.0, 8.0])


def test_aggregates_of_resamples_are_those_of_each_resample():
    scores = [np.random.default_rng(task).normal(size=4 + task) for task in range(3)]
    drawn = statistics.resample(scores, 20)
    for aggregate in statistics.AGGREGATES.values():
        each = [float(aggregate([task[i] for task in drawn])) for i in range(20)]
        np.testing.assert_allclose(aggregate(drawn), each)


def test_resampling_is_stratified_and_uniform():
    scores = [np.array([1.0, 2.0]), np.array([10.0, 20.0, 30.0])]
    first, second = statistics.resample(scores, 30_000)
    assert set(np.unique(first)) == {1.0, 2.0} and set(np.unique(second)) == {10.0, 20.0, 30.0}
    exact = [comb(2, k) / 4 for k in range(3)]
    seen = [np.mean((first == 2.0).sum(1) == k) for k in range(3)]
    np.testing.assert_allclose(seen, exact, atol=0.015)


def test_students_quantiles():
    table = {1: 12.7062, 2: 4.30265, 4: 2.77645, 9: 2.26216, 30: 2.04227}
    assert {freedom: student(freedom, 0.95) for freedom in table} == pytest.approx(table, rel=1e-5)
    assert student(1e6, 0.95) == pytest.approx(1.95996, rel=1e-4)


def test_the_interval_of_a_published_mean_and_deviation():
    values = np.array([3.0, 5.0, 10.0, 1.0])
    assert statistics.student_from(values.mean(), values.std(ddof=1), 4) == statistics.student_interval(values)


def test_a_difference_has_welchs_interval():
    """Ends from scipy.stats.ttest_ind(x, y, equal_var=False).confidence_interval()."""
    x, y = np.array([27.5, 21.0, 19.0, 23.6, 17.0, 17.9]), np.array([27.1, 22.0, 20.8, 23.4, 23.4])
    assert statistics.difference(x, y) == pytest.approx((-2.34, -6.7725, 2.0925), abs=2e-3)
    assert np.isnan(statistics.difference(x[:1], y)[1:]).all(), "one run has no interval"
    assert statistics.difference(x[:1].repeat(2), y[:1].repeat(3)) == pytest.approx((0.4, 0.4, 0.4))


def test_the_bootstrap_of_a_mean_is_widened_to_students():
    """sqrt(n / (n - 1)) t / z, for one task exactly; for tasks of equal variance with their freedoms added up."""
    one = [np.array([1.0, 2.0, 3.0])]
    assert statistics.widening(one, mean) == pytest.approx(1.5**0.5 * 4.30265 / 1.95996, rel=1e-4)
    assert statistics.widening(one * 4, mean) == pytest.approx(1.5**0.5 * student(8, 0.95) / 1.95996, rel=1e-4)
    unequal = [np.array([0.0, 2.0]), np.array([0.0, 1.0, 2.0])]  # variances of the means: 1 and 1/3
    ratio, freedom = 1 / (0.75 / 2 + 0.25 * 2 / 3), 1 / (0.75**2 + 0.25**2 / 2)
    expected = ratio**0.5 * student(round(freedom, 1), 0.95) / 1.95996
    assert statistics.widening(unequal, mean) == pytest.approx(expected, rel=0.05)  # their shares are resampled
    assert statistics.widening([np.ones(3)], mean) == 1.0


def test_runs_that_an_aggregate_leaves_out_do_not_widen_its_interval():
    """Two runs far apart, both outside the middle half, decide nothing: neither where they are nor how far apart."""
    tasks = [np.array([1.0, 1.1, 1.2]), np.array([1.3, 1.4, 1.5]), np.array([0.9, 1.25, 1.6])]
    apart, together = ([*tasks, np.array(pair)] for pair in ([-5.0, 50.0], [-5.0, 5.0]))
    found = [bootstrap(scores, statistics.iqm) for scores in (apart, together)]
    assert found[0] == found[1]
    assert statistics.widening(apart, statistics.iqm) < 3.0 < 9.0 < statistics.widening(apart, mean)


def test_one_run_has_no_interval():
    found = bootstrap([np.array([1.0]), np.array([2.0, 3.0])], mean)
    assert found.value == 1.75 and np.isnan([found.low, found.high]).all()
    assert "no interval" in statistics.warning(1)
    assert "3 runs" in statistics.warning(3) and "9 runs" in statistics.warning(9) and not statistics.warning(10)


def test_profiles_by_counting():
    scores = [np.array([0.1, 0.5, 0.5]), np.array([0.9])]
    levels = np.array([0.0, 0.1, 0.5, 0.95])
    share, low, high = profile(scores, levels)
    np.testing.assert_allclose(share, [(1 + 1) / 2, (2 / 3 + 1) / 2, (0 + 1) / 2, 0.0])
    assert (low <= share + 1e-12).all() and (share <= high + 1e-12).all() and (high - low > 0.3).all()
    n, p, z = 10, 0.3, 1.959964  # Wilson's interval of 3 in 10
    _, low, high = profile([np.arange(10.0)], np.array([6.5]))
    exact = [(p + z**2 / 20 + sign * z * (p * (1 - p) / n + z**2 / 400) ** 0.5) / (1 + z**2 / n) for sign in (-1, 1)]
    np.testing.assert_allclose([low[0], high[0]], exact, rtol=1e-5)


def test_improvement_by_enumeration():
    rng = np.random.default_rng(0)
    x, y = ([rng.integers(0, 4, size).astype(float) for size in sizes] for sizes in ((3, 5), (4, 2)))
    pairs = [np.mean([(a > b) + 0.5 * (a == b) for a, b in product(p, q)]) for p, q in zip(x, y, strict=True)]
    found = improvement(x, y)
    assert found.value == pytest.approx(np.mean(pairs))
    back = improvement(y, x)
    assert (back.value, back.low, back.high) == pytest.approx((1 - found.value, 1 - found.high, 1 - found.low))


def test_complete_separation_is_not_certain():
    """Even if all of three runs beat all of three: by chance that happens in 1 of 20 cases."""
    found = improvement([np.array([4.0, 5.0, 6.0])], [np.array([1.0, 2.0, 3.0])])
    assert found.value == found.high == 1.0 and found.low < 0.6


def test_steps_to_a_threshold():
    clock, curve = np.array([10, 20, 30]), np.array([1.0, 5.0, 4.0])
    assert [statistics.steps_to(goal, clock, curve) for goal in (0.0, 4.5, 6.0)] == [10.0, 20.0, np.inf]


LAWS = {"normal": lambda rng, size: rng.normal(size=size), "uniform": lambda rng, size: rng.uniform(-1, 1, size)}
REPEATS = 500
TOLERANCE = 4 * (0.95 * 0.05 / REPEATS) ** 0.5
"""Four standard errors of a share of 95%: a right interval fails once in 16,000 tests."""


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("tasks", "runs"), [(1, 3), (1, 10), (5, 3), (5, 5)])
@pytest.mark.parametrize("name", ["mean", "IQM", "median"])
def test_intervals_of_95_percent_cover_the_truth(law, tasks, runs, name):
    """Laws symmetric about their task's centre, and centres about 0: all three aggregates of the truth are 0."""
    rng, aggregate = np.random.default_rng(7), statistics.AGGREGATES[name]
    centres = np.linspace(-1.4, 1.4, tasks) if tasks > 1 else np.zeros(1)
    covered = 0
    for _ in range(REPEATS):
        found = bootstrap([LAWS[law](rng, runs) + centre for centre in centres], aggregate)
        covered += found.low <= 0.0 <= found.high
    assert covered / REPEATS == pytest.approx(0.95, abs=max(TOLERANCE, 0.02))


def test_without_widening_three_runs_cover_far_less(monkeypatch):
    monkeypatch.setattr(statistics, "widening", lambda scores, aggregate, level: 1.0)
    rng = np.random.default_rng(7)
    found = [bootstrap([rng.normal(size=3)], mean) for _ in range(REPEATS)]
    assert np.mean([one.low <= 0.0 <= one.high for one in found]) < 0.85


@pytest.mark.parametrize(("runs", "shift"), [(3, 0.7), (5, 0.0), (5, 1.5), (10, 0.7)])
def test_intervals_of_the_probability_of_improvement_cover_the_truth(runs, shift):
    rng, truth = np.random.default_rng(3), statistics.NormalDist().cdf(shift / 2**0.5)
    found = [improvement([rng.normal(shift, 1, runs)], [rng.normal(0, 1, runs)]) for _ in range(REPEATS)]
    covered = np.mean([one.low <= truth <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=max(TOLERANCE, 0.02))
