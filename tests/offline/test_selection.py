"""Choosing among policies by estimates, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from bellmark.offline.selection import portfolio, ranks, spearman

TRUE = np.array([10.0, 6.0, 8.0, 2.0])
ESTIMATE = np.array([3.0, 4.0, 2.0, 1.0])
"""Orders B, A, C, D."""


@pytest.mark.parametrize(
    ("ddof", "std", "ratio"),
    [
        (0, [2.0, 1.632993, 2.958040], [2.5, 3.061862, 1.690309]),
        (1, [2.828427, 2.0, 3.415650], [1.767767, 2.5, 1.463850]),
    ],
)
def test_sharpe_ratio_by_hand(ddof, std, ratio):
    """The example of the method card, in both conventions."""
    found = portfolio(ESTIMATE, TRUE, 5.0, ddof)
    assert np.isnan(found.std[0]) and np.isnan(found.sharpe_ratio[0])
    assert found.std[1:] == pytest.approx(std, abs=1e-6)
    assert found.sharpe_ratio[1:] == pytest.approx(ratio, abs=1e-6)


def test_best_worst_mean_and_regret_by_hand():
    found = portfolio(ESTIMATE, TRUE, 5.0)
    assert found.best.tolist() == [6.0, 10.0, 10.0, 10.0]
    assert found.worst.tolist() == [6.0, 6.0, 6.0, 2.0]
    assert found.mean.tolist() == [6.0, 8.0, 8.0, 6.5]
    assert found.regret.tolist() == [4.0, 0.0, 0.0, 0.0]


def test_a_portfolio_below_the_baseline_has_ratio_zero_and_one_of_equals_is_told_apart():
    assert portfolio(ESTIMATE, TRUE, 12.0).sharpe_ratio[1:].tolist() == [0.0, 0.0, 0.0]
    equal = portfolio(np.array([2.0, 1.0]), np.array([3.0, 3.0]), 1.0)
    assert equal.sharpe_ratio[1] == np.inf
    assert np.isnan(portfolio(np.array([2.0, 1.0]), np.array([3.0, 3.0]), 3.0).sharpe_ratio[1])
    first = portfolio(np.array([1.0, 3.0, 2.0, 4.0]), TRUE, 5.0, ddof=0)
    assert first.sharpe_ratio[1] == pytest.approx(0.5)


def test_among_equal_estimates_the_first_is_taken():
    assert portfolio(np.zeros(4), TRUE, 0.0).best.tolist() == [10.0] * 4
    assert portfolio(np.zeros(4), TRUE[::-1], 0.0).best.tolist() == [2.0, 8.0, 8.0, 10.0]


def test_rank_correlation_by_hand():
    assert ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [2.5, 1.0, 2.5, 4.0]
    assert spearman(ESTIMATE, TRUE) == pytest.approx(1 - 6 * (1 + 4 + 1 + 0) / (4 * 15))
    assert spearman(np.exp(TRUE), TRUE) == pytest.approx(1.0)
    assert spearman(-TRUE, TRUE) == pytest.approx(-1.0)
    assert np.isnan(spearman(np.ones(4), TRUE))
