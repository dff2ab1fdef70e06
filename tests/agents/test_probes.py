"""Every agent finds the known values of the probe environments, whatever its algorithm is."""

from __future__ import annotations

import checks
from helpers import cases_where, every_valuing_case, has, has_values


@every_valuing_case
def test_value_of_truncated_forever(name, discrete):
    checks.finds_value_of_truncated_forever(name, discrete)


@every_valuing_case
def test_values_of_delayed_reward(name, discrete):
    checks.finds_values_of_delayed_reward(name, discrete)


@every_valuing_case
def test_choose_the_sign(name, discrete):
    checks.chooses_the_sign(name, discrete)


@cases_where(lambda name: has(name, "n_step") and has_values(name))
def test_values_with_n_step_returns(name, discrete):
    checks.finds_value_of_truncated_forever(name, discrete, n_step=3)
    checks.finds_values_of_delayed_reward(name, discrete, n_step=3)


@every_valuing_case
def test_values_with_normalised_observations(name, discrete):
    checks.finds_values_of_delayed_reward(name, discrete, normalize_obs=True)


@cases_where(lambda name: has(name, "double"))
def test_double_finds_the_same_values(name, discrete):
    checks.finds_values_of_delayed_reward(name, discrete, double=True)
    checks.chooses_the_sign(name, discrete, double=True)
