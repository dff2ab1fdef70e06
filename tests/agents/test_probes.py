"""Every agent finds the known values of the probe environments, whatever its algorithm is."""

from __future__ import annotations

import checks
from helpers import cases_where, every_valuing_case, has


@every_valuing_case
def test_value_of_truncated_forever(name, discrete):
    checks.finds_value_of_truncated_forever(name, discrete)


@every_valuing_case
def test_values_of_delayed_reward(name, discrete):
    checks.finds_values_of_delayed_reward(name, discrete)


@every_valuing_case
def test_choose_the_sign(name, discrete):
    checks.chooses_the_sign(name, discrete)


@every_valuing_case
def test_values_with_normalised_observations_and_n_step_returns(name, discrete):
    checks.finds_values_of_delayed_reward(name, discrete, normalize_obs=True, n_step=3)


@cases_where(lambda name: has(name, "double") and name != "munchausen_dqn")
def test_double_finds_the_right_choice(name, discrete):
    checks.chooses_the_sign(name, discrete, double=True)
