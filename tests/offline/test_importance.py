"""Importance sampling on a tiny problem whose trajectories are all listed, and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bellmark.offline import importance
from bellmark.offline.importance import ESTIMATORS, Trials, interval

GAMMA, STATES, ACTIONS, HORIZON = 0.9, 2, 2, 3
RNG = np.random.default_rng(7)
MOVES = RNG.dirichlet(np.ones(STATES), (STATES, ACTIONS))
"""Probability of each next state, [S, A, S]."""
REWARD = RNG.normal(size=(STATES, ACTIONS))
JUDGED, BEHAVIOUR = RNG.dirichlet(np.ones(ACTIONS), STATES), RNG.dirichlet(np.ones(ACTIONS), STATES)
"""pi(a|s) and b(a|s), [S, A]."""


def dynamic_programming():
    """Q_t and V_t of the judged policy with the horizon, `[T + 1, S, A]` and `[T + 1, S]`."""
    q, value = np.zeros((HORIZON + 1, STATES, ACTIONS)), np.zeros((HORIZON + 1, STATES))
    for t in reversed(range(HORIZON)):
        q[t] = REWARD + GAMMA * MOVES @ value[t + 1]
        value[t] = (JUDGED * q[t]).sum(1)
    return q, value


def listed(q_error=0.0):
    """Every trajectory from state 0, with its probability under the behaviour policy."""
    q, _ = dynamic_programming()
    q = q + q_error
    chances, ratios, rewards, values, q_values = [], [], [], [], []
    paths = itertools.product(itertools.product(range(ACTIONS), repeat=HORIZON), *[range(STATES)] * (HORIZON - 1))
    for actions, *after in paths:
        states = [0, *after]
        step = list(zip(states, actions, strict=True))
        moved = np.prod([MOVES[s, a, n] for (s, a), n in zip(step[:-1], after, strict=True)])
        chances.append(moved * np.prod([BEHAVIOUR[s, a] for s, a in step]))
        ratios.append([np.log(JUDGED[s, a] / BEHAVIOUR[s, a]) for s, a in step])
        rewards.append([REWARD[s, a] for s, a in step])
        q_values.append([q[t, s, a] for t, (s, a) in enumerate(step)])
        values.append([(JUDGED[s] * q[t, s]).sum() for t, s in enumerate(states)])
    return np.array(chances), Trials(*map(np.array, (ratios, rewards, q_values, values)))


TRUE = dynamic_programming()[1][0, 0]


@pytest.mark.parametrize("name", ["is", "pdis", "dr"])
@pytest.mark.parametrize("q_error", [0.0, 3.0])
def test_unbiased_over_all_trajectories(name, q_error):
    chances, trials = listed(q_error)
    assert chances.sum() == pytest.approx(1.0)
    assert chances @ ESTIMATORS[name](trials, GAMMA) == pytest.approx(TRUE, abs=1e-12)


def test_exact_values_leave_doubly_robust_less_variance_than_wrong_ones_and_per_decision_less_than_ordinary():
    def variance(name, q_error=0.0):
        chances, trials = listed(q_error)
        return chances @ (ESTIMATORS[name](trials, GAMMA) - TRUE) ** 2

    assert variance("dr") < variance("pdis") < variance("is")
    assert variance("dr") < variance("dr", 3.0)


def test_doubly_robust_is_exact_in_each_trajectory_of_a_deterministic_problem():
    q = np.array([[3.0, 1.0], [2.0, 5.0]])  # state 0 leads to state 1, which ends; all rewards follow from q
    value = (JUDGED * q).sum(1)
    reward = q - GAMMA * np.array([[value[1]], [0.0]])
    for actions in itertools.product(range(2), repeat=2):
        rows = [(0, actions[0]), (1, actions[1])]
        ratio, r, q_at = ([table[row] for row in rows] for table in (np.log(JUDGED / BEHAVIOUR), reward, q))
        trials = Trials(*(np.array([column]) for column in (ratio, r, q_at, value.tolist())))
        assert ESTIMATORS["dr"](trials, GAMMA) == pytest.approx([value[0]])


def test_by_hand():
    """The example of the method card: two trajectories of two steps."""
    trials = Trials(
        np.log([[2.0, 0.5], [0.5, 1.0]]),
        np.array([[1.0, 2.0], [0.0, 4.0]]),
        np.array([[2.0, 1.0], [1.0, 2.0]]),
        np.array([[1.5, 1.0], [1.5, 2.5]]),
    )
    found = {name: estimator(trials, 0.9).mean() for name, estimator in ESTIMATORS.items()}
    expected = {"is": 2.3, "wis": 3.0666667, "pdis": 2.8, "wpdis": 3.2, "dr": 2.6125, "wdr": 2.87}
    assert found == pytest.approx(expected)
    assert importance.per_decision(trials, 0.9) == pytest.approx([3.8, 1.8])
    assert importance.doubly_robust(trials, 0.9) == pytest.approx([2.2, 3.025])
    assert importance.weighted_doubly_robust(trials, 0.9) == pytest.approx([2.54, 3.2])
    assert importance.direct(trials, 0.9).mean() == 1.5
    assert importance.effective_size(trials) == pytest.approx(1.5**2 / 1.25)


def test_weighted_stays_between_the_returns_that_were_seen_and_survives_any_ratio():
    rng = np.random.default_rng(0)
    ratio, reward = rng.normal(size=(20, 1000), scale=30.0), rng.normal(size=(20, 1000))
    trials = Trials(ratio, reward, 0 * reward, 0 * reward)
    returns = reward @ importance.discounts(trials, 0.99)
    assert returns.min() <= importance.weighted(trials, 0.99).mean() <= returns.max()
    assert np.isfinite(importance.weighted_per_decision(trials, 0.99)).all()
    assert 1.0 <= importance.effective_size(trials) <= 20.0


def test_the_policy_of_the_data_has_its_mean_return_whatever_the_estimator():
    _, trials = listed()
    same = trials._replace(log_ratio=np.zeros_like(trials.log_ratio))
    mean = (same.reward @ importance.discounts(same, GAMMA)).mean()
    for name in ("is", "wis", "pdis", "wpdis"):
        assert ESTIMATORS[name](same, GAMMA).mean() == pytest.approx(mean)
    assert importance.effective_size(same) == pytest.approx(len(same.reward))


def test_an_action_that_the_judged_policy_never_takes_counts_nothing():
    trials = Trials(np.array([[-np.inf, 0.3], [0.0, 0.0]]), np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    assert importance.weighted(trials, 1.0).tolist() == [0.0, 4.0]
    assert importance.ordinary(trials, 1.0).tolist() == [0.0, 2.0]


UNSUPPORTED = {
    "everywhere": ([[-np.inf, 0.0], [0.0, -np.inf]], {"wis", "wpdis", "wdr"}),
    "after the first step": ([[0.0, -np.inf], [0.0, -np.inf]], {"wis", "wpdis", "wdr"}),
    "in one episode": ([[-np.inf, 0.0], [0.0, 0.0]], set()),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_where_nothing_supports_the_policy_there_is_no_estimate_and_no_interval(case):
    log_ratio, unknown = UNSUPPORTED[case]
    trials = Trials(np.array(log_ratio), np.ones((2, 2)), np.zeros((2, 2)), np.zeros((2, 2)))
    found = {name: [of(trials, 1.0).mean(), *interval(of, trials, 1.0)] for name, of in ESTIMATORS.items()}
    assert {name for name, values in found.items() if np.isnan(values).any()} == unknown
    assert all(np.isnan(found[name]).all() for name in unknown)
    assert importance.effective_size(trials) == (0.0 if unknown else 1.0)
    if not unknown:  # of the draws, those of the first episode alone give none
        assert found["wis"] == [2.0, 2.0, 2.0]


def test_the_bootstrap_covers_the_true_value_about_as_often_as_it_says():
    chances, trials = listed()
    rng, covered = np.random.default_rng(1), 0
    for _ in range(100):
        sample = trials.take(rng.choice(len(chances), 60, p=chances))
        low, high = interval(ESTIMATORS["pdis"], sample, GAMMA, resamples=200)
        covered += low <= TRUE <= high
    assert 85 <= covered <= 100
