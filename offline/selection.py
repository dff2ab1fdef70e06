"""How well estimates choose among policies: rank correlation, regret and the risk of testing the k best of them.

P candidates, with estimated values `[P]` and true ones `[P]`. The k best are those with the greatest estimates; among
equal ones those that come first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value from 1, equal values sharing the mean of theirs, `[P]`."""
    _, group, size = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(size) - 0.5 * (size - 1.0))[group]


def spearman(estimate: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's rank correlation, in [-1, 1]; NaN where either says nothing (all equal)."""
    one, other = ranks(np.asarray(estimate)), ranks(np.asarray(truth))
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    return float(np.corrcoef(one, other)[0, 1])


class Portfolio(NamedTuple):
    """What an online test of the k best by estimate would show, for k = 1, ..., P: arrays `[P]`."""

    best: np.ndarray
    """best@k: the greatest true value among them."""
    worst: np.ndarray
    """worst@k: the smallest."""
    mean: np.ndarray
    """mean@k."""
    std: np.ndarray
    """std@k of the true values; NaN where it is not defined."""
    regret: np.ndarray
    """regret@k: how much the best of all candidates is better than the best of these."""
    sharpe_ratio: np.ndarray
    """SharpeRatio@k; NaN for k = 1."""


def portfolio(estimate: np.ndarray, truth: np.ndarray, baseline: float, ddof: int = 1) -> Portfolio:
    """The k best by `estimate`, for every k.

        SharpeRatio@k = max(best@k - baseline, 0) / std@k      (Kiyohara et al. 2024, arXiv 2311.18207)

    `baseline` is the true value of the behaviour policy. The standard deviation divides by k - `ddof`: 1 as in the
    authors' code, 0 as in their documentation. Where the k best are equal the ratio is infinite, or NaN if they are no
    better than the baseline.
    """
    chosen = np.asarray(truth, np.float64)[np.argsort(-np.asarray(estimate), kind="stable")]
    best, count = np.maximum.accumulate(chosen), np.arange(1, len(chosen) + 1)
    std = np.array([chosen[:k].std(ddof=ddof) if k > ddof else np.nan for k in count])
    std[:1] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.clip(best - baseline, 0.0, None) / std
    return Portfolio(best, np.minimum.accumulate(chosen), chosen.cumsum() / count, std, chosen.max() - best, ratio)
