"""Advantages and returns against the cards' numbers and against sums written out as in the papers."""

from __future__ import annotations

import math

import pytest
import torch
from bellmark.agents.core.advantages import bootstrapped, gae, lambda_returns, n_step_returns, retrace, v_trace

GAMMA = 0.9
SEEDS = range(8)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def random_rollout(seed, length=12, columns=5):
    """Rewards, discounts, traces, values, ratios in float64, with ends of both kinds and cut-off rows."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    ends = draw(length, columns)
    terminated, cut = ends < 0.15, ends < 0.35
    value = 4 * draw(length + 1, columns) - 2
    return {
        "reward": 2 * draw(length, columns) - 1,
        "discount": GAMMA * (~terminated).double(),
        "trace": (~cut).double(),
        "value": value,
        "ratio": 2 * draw(length, columns),
    }


def windows(rollout, t, i):
    """The rows that t's sum may reach: from t until the episode ends."""
    rows = [t]
    while rollout["trace"][rows[-1], i] and rows[-1] + 1 < len(rollout["reward"]):
        rows.append(rows[-1] + 1)
    return rows


def one_step_error(rollout, s, i, value=None):
    value = rollout["value"][:-1] if value is None else value
    return float(rollout["reward"][s, i] + rollout["discount"][s, i] * rollout["value"][s + 1, i] - value[s, i])


def brute_force(rollout, function):
    """`function(rows, i)` for every row and column."""
    length, columns = rollout["reward"].shape
    return torch.tensor(
        [[function(windows(rollout, t, i), i) for i in range(columns)] for t in range(length)], dtype=torch.float64
    )


def assert_exact(found, expected):
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_gae_of_the_card_with_termination():
    reward, value = column(1, 0, 2, 1), column(0.5, 1, 0.2, 0.4, 2)
    discount, trace = column(0.9, 0, 0.9, 0.9), column(1, 0, 1, 1)
    assert_exact(gae(reward, discount, trace, value, 0.8), column(0.68, -1, 3.888, 2.4))
    assert_exact(lambda_returns(reward, discount, trace, value, 0.8), column(1.18, 0, 4.088, 2.8))


def test_gae_of_the_card_with_truncation():
    """Next-step layout: the cut-off row is followed by its final observation, value 3, in a row that is none."""
    reward, value = column(1, 0, math.nan, 2, 1), column(0.5, 1, 3, 0.2, 0.4, 2)
    discount, trace = column(0.9, 0.9, 0, 0.9, 0.9), column(1, 0, 0, 1, 1)
    advantage = gae(reward, discount, trace, value, 0.8)
    assert_exact(advantage[[0, 1, 3, 4]], column(2.624, 1.7, 3.888, 2.4))


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.95, 1.0])
def test_gae_is_the_sum_of_discounted_errors(lam):
    for seed in SEEDS:
        r = random_rollout(seed)

        def advantage(rows, i, r=r):
            return sum((GAMMA * lam) ** k * one_step_error(r, s, i) for k, s in enumerate(rows))

        found = gae(r["reward"], r["discount"], r["trace"], r["value"], lam)
        assert_exact(found, brute_force(r, advantage))
        returns = lambda_returns(r["reward"], r["discount"], r["trace"], r["value"], lam)
        assert_exact(returns, found + r["value"][:-1])


def n_step_return(r, rows, i, n):
    rows = rows[:n]
    total = sum(GAMMA**k * float(r["reward"][s, i]) for k, s in enumerate(rows))
    last = rows[-1]
    return total + GAMMA ** (len(rows) - 1) * float(r["discount"][last, i] * r["value"][last + 1, i])


def test_lambda_zero_is_one_step_and_one_is_monte_carlo():
    for seed in SEEDS:
        r = random_rollout(seed)
        arguments = (r["reward"], r["discount"], r["trace"], r["value"])
        one_step = r["reward"] + r["discount"] * r["value"][1:]
        assert_exact(lambda_returns(*arguments, 0.0), one_step)
        assert_exact(
            lambda_returns(*arguments, 1.0), brute_force(r, lambda rows, i, r=r: n_step_return(r, rows, i, 99))
        )


@pytest.mark.parametrize("n_step", [1, 2, 3, 5, 50])
def test_n_step_returns_are_windows(n_step):
    for seed in SEEDS:
        r = random_rollout(seed)
        found = n_step_returns(r["reward"], r["discount"], r["trace"], r["value"], n_step)
        assert_exact(found, brute_force(r, lambda rows, i, r=r: n_step_return(r, rows, i, n_step)))


def test_n_step_returns_of_the_card():
    value = column(7, 7, 7, 10)
    found = n_step_returns(column(1, 2, 3), column(0.9, 0.9, 0.9), column(1, 1, 1), value, 3)
    assert float(found[0]) == pytest.approx(12.52, abs=1e-12)
    found = n_step_returns(column(1, 2, 3), column(0.9, 0, 0.9), column(1, 0, 1), value, 3)
    assert float(found[0]) == pytest.approx(2.8, abs=1e-12)


@pytest.mark.parametrize(("lam", "clip_rho", "clip_c"), [(1.0, 1.0, 1.0), (0.7, 1.5, 0.8), (1.0, 0.5, 0.4)])
def test_v_trace_is_the_sum_of_the_paper(lam, clip_rho, clip_c):
    for seed in SEEDS:
        r = random_rollout(seed)
        value = r["value"]

        def target(rows, i, r=r):
            total, weight = float(r["value"][rows[0], i]), 1.0
            for s in rows:
                ratio = float(r["ratio"][s, i])
                total += weight * min(clip_rho, ratio) * one_step_error(r, s, i)
                weight *= GAMMA * lam * min(clip_c, ratio)
            return total

        expected = brute_force(r, target)

        def advantage(rows, i, r=r, expected=expected):
            t = rows[0]
            following = expected[t + 1, i] if len(rows) > 1 else r["value"][t + 1, i]
            error = r["reward"][t, i] + r["discount"][t, i] * following - r["value"][t, i]
            return min(clip_rho, float(r["ratio"][t, i])) * float(error)

        arguments = (r["reward"], r["discount"], r["trace"], value, r["ratio"])
        found, advantages = v_trace(*arguments, lam, clip_rho, clip_c)
        assert_exact(found, expected)
        assert_exact(advantages, brute_force(r, advantage))


def test_v_trace_on_policy_is_the_monte_carlo_return():
    for seed in SEEDS:
        r = random_rollout(seed)
        arguments = (r["reward"], r["discount"], r["trace"], r["value"])
        targets, _ = v_trace(*arguments, torch.ones_like(r["reward"]))
        assert_exact(targets, n_step_returns(*arguments, len(r["reward"])))


@pytest.mark.parametrize("lam", [1.0, 0.6, 0.0])
def test_retrace_is_the_sum_of_the_paper(lam):
    for seed in SEEDS:
        r = random_rollout(seed)
        q = random_rollout(seed + 100)["value"][:-1]

        def target(rows, i, r=r, q=q):
            total, weight = float(q[rows[0], i]), 1.0
            for k, s in enumerate(rows):
                if k:
                    weight *= GAMMA * lam * min(1.0, float(r["ratio"][s, i]))
                total += weight * one_step_error(r, s, i, q)
            return total

        next_value = r["value"][1:]
        found = retrace(r["reward"], r["discount"], r["trace"], q, next_value, r["ratio"], lam)
        assert_exact(found, brute_force(r, target))


def all_results(r):
    arguments = (r["reward"], r["discount"], r["trace"], r["value"])
    targets, advantages = v_trace(*arguments, r["ratio"], 0.9)
    q = r["value"][:-1] * 0.5
    return {
        "gae": gae(*arguments, 0.8),
        "lambda_returns": lambda_returns(*arguments, 0.8),
        "n_step_returns": n_step_returns(*arguments, 3),
        "v_trace": targets,
        "v_trace_advantage": advantages,
        "retrace": retrace(r["reward"], r["discount"], r["trace"], q, r["value"][1:], r["ratio"], 0.9),
    }


def test_nan_in_rows_that_are_none_reaches_nothing():
    """Row 4 follows a terminated row, row 8 a cut-off one (its value is the final observation's and counts)."""
    r = random_rollout(0)
    r["discount"][:], r["trace"][:] = GAMMA, 1.0
    r["discount"][3] = r["discount"][4] = r["discount"][8] = 0.0
    r["trace"][[3, 4, 7, 8]] = 0.0
    expected = all_results(r)
    for name in ("reward", "ratio"):
        r[name][[4, 8]] = math.nan
    r["value"][4] = math.nan
    real = [t for t in range(12) if t not in (4, 8)]
    for name, found in all_results(r).items():
        assert_exact(found[real], expected[name][real])


def test_nan_hidden_by_a_zero_discount_reaches_nothing():
    for poison in (math.nan, math.inf):
        value = column(1, 2, poison)
        found = bootstrapped(column(3, 4), column(0.5, 0), value[1:])
        assert found.flatten().tolist() == [4, 4]


def test_columns_do_not_see_each_other():
    r = random_rollout(3)
    together = all_results(r)
    for i in range(5):
        alone = all_results({name: values[:, i : i + 1] for name, values in r.items()})
        for name, found in alone.items():
            assert torch.equal(found, together[name][:, i : i + 1])
