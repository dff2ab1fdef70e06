"""Off-policy evaluation by importance sampling: pure functions of trajectories and of what two policies make of them.

n trajectories, padded to T steps: arrays `[n, T]` with log ratio 0, reward 0, and Q = V = 0 after the end. So a
trajectory that is over keeps its weight. The value estimated is J = E sum_t gamma^t r_t up to the end of the episode,
by termination or truncation. Each estimator gives the terms `[n]` whose mean is the estimate; the weights of the
weighted ones come from all trajectories together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Trials(NamedTuple):
    """Trajectories of a behaviour policy b, and what the policy pi that is judged would have done."""

    log_ratio: np.ndarray
    """[n, T] log pi(a|s) - log b(a|s)."""
    reward: np.ndarray
    """[n, T]"""
    q: np.ndarray
    """[n, T] an estimate of Q_pi(s, a); zeros if there is none."""
    value: np.ndarray
    """[n, T] of V_pi(s) = E_pi Q(s, a)."""

    def take(self, rows: np.ndarray) -> Trials:
        """Some of the trajectories, possibly several times."""
        return Trials(*(values[rows] for values in self))


def discounts(trials: Trials, gamma: float) -> np.ndarray:
    """gamma^t, `[T]`."""
    return gamma ** np.arange(trials.reward.shape[1], dtype=np.float64)


def log_weights(trials: Trials) -> np.ndarray:
    """The logarithm of w_{0:t}, the product of the ratios up to t, `[n, T]`."""
    return trials.log_ratio.cumsum(1)


def normalized(log_weight: np.ndarray) -> np.ndarray:
    """Weights along the first axis with mean 1, from their logarithms: no ratio overflows. NaN where all are 0."""
    greatest = log_weight.max(0)
    weight = np.exp(log_weight - np.maximum(greatest, -1e300))
    return weight / np.where(np.isneginf(greatest), np.nan, weight.mean(0))


def ordinary(trials: Trials, gamma: float) -> np.ndarray:
    """w_{0:T-1} sum_t gamma^t r_t: unbiased (Precup, Sutton, Singh 2000)."""
    return np.exp(log_weights(trials)[:, -1]) * (trials.reward @ discounts(trials, gamma))


def weighted(trials: Trials, gamma: float) -> np.ndarray:
    """The same with weights of mean 1: biased, consistent, never beyond the returns that were seen."""
    return normalized(log_weights(trials)[:, -1]) * (trials.reward @ discounts(trials, gamma))


def per_decision(trials: Trials, gamma: float) -> np.ndarray:
    """sum_t gamma^t w_{0:t} r_t: unbiased; no reward is weighted by what was done after it."""
    return (np.exp(log_weights(trials)) * trials.reward) @ discounts(trials, gamma)


def weighted_per_decision(trials: Trials, gamma: float) -> np.ndarray:
    """The same with weights that have mean 1 at each t."""
    return (normalized(log_weights(trials)) * trials.reward) @ discounts(trials, gamma)


def doubly_robust(trials: Trials, gamma: float) -> np.ndarray:
    """sum_t gamma^t (w_{0:t} (r_t - Q(s_t, a_t)) + w_{0:t-1} V(s_t)) (Jiang & Li 2016, arXiv 1511.03722).

    Unbiased if Q was not fitted to these very trajectories; exact where Q is.
    """
    return _robust(trials, gamma, np.exp(log_weights(trials)))


def weighted_doubly_robust(trials: Trials, gamma: float) -> np.ndarray:
    """The same with weights that have mean 1 at each t (Thomas & Brunskill 2016, arXiv 1604.00923, eq. 10)."""
    return _robust(trials, gamma, normalized(log_weights(trials)))


def _robust(trials: Trials, gamma: float, weight: np.ndarray) -> np.ndarray:
    before = np.concatenate([np.ones_like(weight[:, :1]), weight[:, :-1]], 1)
    return (weight * (trials.reward - trials.q) + before * trials.value) @ discounts(trials, gamma)


def direct(trials: Trials, gamma: float) -> np.ndarray:
    """V(s_0): the direct method."""
    return trials.value[:, 0]


def effective_size(trials: Trials) -> float:
    """(sum w)^2 / sum w^2 of the whole trajectories' weights: as many of them as count (Kong 1992), 0 if all are 0."""
    weight = np.nan_to_num(normalized(log_weights(trials)[:, -1]))
    return float(weight.sum() ** 2 / np.maximum(np.square(weight).sum(), 1e-300))


Estimator = Callable[[Trials, float], np.ndarray]
ESTIMATORS: dict[str, Estimator] = {
    "is": ordinary,
    "wis": weighted,
    "pdis": per_decision,
    "wpdis": weighted_per_decision,
    "dr": doubly_robust,
    "wdr": weighted_doubly_robust,
}


def bootstrap(estimate: Callable[[np.ndarray], float], count: int, resamples: int = 1000) -> tuple[float, float]:
    """95% percentile interval of `estimate(rows)`, from `count` whole episodes drawn anew, by their numbers `[count]`.

    So weights are normalised in each draw. It covers the chance of the sample alone: neither bias, nor the ratio that
    no episode happens to show. With few episodes it is too narrow. Draws that give no estimate (NaN) are left
    out; where all episodes together give none, neither is there an interval.
    """
    if np.isnan(estimate(np.arange(count))):
        return np.nan, np.nan
    rng = np.random.default_rng(0)
    draws = [estimate(rng.integers(count, size=count)) for _ in range(resamples)]
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def interval(estimator: Estimator, trials: Trials, gamma: float, resamples: int = 1000) -> tuple[float, float]:
    """`bootstrap` of an estimator's mean."""
    return bootstrap(lambda rows: estimator(trials.take(rows), gamma).mean(), len(trials.reward), resamples)
