"""The known bugs of this field, planted one by one: each must make a check fail that the package passes.

A mutant is a function that plants its bug with pytest's `monkeypatch`. The checks are those of `tests/agents`.
"""

from __future__ import annotations

import functools
from typing import Any

import checks
import pytest
import torch
from bellmark.agents.actor_critic import sac, td3
from bellmark.agents.core import critics, nets, policies, rollouts
from bellmark.agents.core.agent import Agent
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.on_policy import ppo
from bellmark.agents.value_based import dqn
from bellmark.offline import iql, td3_bc


def wrap(patch: pytest.MonkeyPatch, owner: Any, name: str, change: Any) -> None:
    """Replaces `owner.name` by `change(original, *arguments)`."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return change(original, *args, **kwargs)

    patch.setattr(owner, name, changed)


def change_steps(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Every environment step reaches the buffer as `change(step)`."""
    wrap(patch, Buffer, "add", lambda add, self, action, step: add(self, action, change(step)))


def change_batches(patch: pytest.MonkeyPatch, change: Any) -> None:
    """Every gathered batch becomes `change(batch, gamma)`."""

    def gather(original: Any, self: Buffer, index: Any, gamma: float, n_step: int = 1) -> Any:
        return change(original(self, index, gamma, n_step), gamma)

    wrap(patch, Buffer, "gather", gather)


# ---- data --------------------------------------------------------------------------------------------------------


def truncation_is_termination(patch):
    change_steps(patch, lambda step: step._replace(terminated=step.terminated | step.truncated))


def reset_rows_are_sampled(patch):
    def draw(original, self, size):
        return torch.randint((self.written - 1) * self.columns, (size,))

    wrap(patch, Buffer, "draw", draw)


def reset_rows_are_in_the_rollout(patch):
    def rollout(original, self, gamma):
        found = original(self, gamma)
        return found._replace(valid=torch.ones_like(found.valid), discount=torch.full_like(found.discount, gamma))

    wrap(patch, Buffer, "rollout", rollout)


def gamma_instead_of_gamma_to_the_n(patch):
    change_batches(patch, lambda batch, gamma: batch._replace(discount=gamma * (batch.discount > 0)))


def terminal_reward_is_dropped(patch):
    change_steps(patch, lambda step: step._replace(reward=step.reward * ~step.terminated))


def next_obs_is_obs(patch):
    change_batches(patch, lambda batch, gamma: batch._replace(next_obs=batch.obs))


def terminated_is_ignored(patch):
    change_batches(patch, lambda batch, gamma: batch._replace(discount=torch.full_like(batch.discount, gamma)))


def terminated_is_ignored_in_rollouts(patch):
    wrap(
        patch,
        Buffer,
        "rollout",
        lambda original, self, gamma: (lambda r: r._replace(discount=gamma * r.valid.float()))(original(self, gamma)),
    )


def next_obs_is_of_the_next_episode(patch):
    """The classic of vector environments: the first observation of the new episode in place of the final one."""

    def next_row(original, self, index):
        after = original(self, index)
        ended = (self.truncated | self.terminated).view(-1)[index]
        return torch.where(ended, original(self, after), after)

    wrap(patch, Buffer, "_next", next_row)


# ---- updates -----------------------------------------------------------------------------------------------------


def target_is_never_updated(patch):
    patch.setattr(Agent, "follow", lambda self, tau: None)


def target_is_a_copy_at_each_update(patch):
    wrap(patch, Agent, "follow", lambda follow, self, tau: follow(self, 1.0))


def a_step_moves_all_networks(patch):
    def minimize(original, self, name, loss):
        others = [k for k, flat in self._flat.items() if flat.trainable and k != name]
        for other in others:
            with torch.no_grad():
                self._flat[other].flat.mul_(0.999)
        return original(self, name, loss)

    wrap(patch, Agent, "minimize", minimize)


def actor_sign(patch):
    wrap(patch, td3.TD3, "actor_loss", lambda loss, self, batch: -loss(self, batch))


def actor_sign_in_sac(patch):
    def loss(self, batch, action, log_prob):
        return (self.temperature().detach() * log_prob + self.critic(batch.obs, action).amin(0)).mean()

    patch.setattr(sac.SAC, "actor_loss", loss)


def policy_sign(patch):
    wrap(patch, ppo, "clipped_surrogate", lambda loss, *args: -loss(*args))


def column_target(patch):
    wrap(patch, td3.TD3, "target", lambda target, self, batch: target(self, batch).unsqueeze(1))


def column_value(patch):
    patch.setattr(critics.V, "forward", lambda self, obs: self.last(self.body(obs)))


def identical_twins(patch):
    def init(original, self, *args, **kwargs):
        original(self, *args, **kwargs)
        if self.weight.ndim == 3:
            with torch.no_grad():
                self.weight.copy_(self.weight[:1].expand_as(self.weight).clone())
                self.bias.copy_(self.bias[:1].expand_as(self.bias).clone())

    wrap(patch, nets.Linear, "__init__", init)


def target_is_not_detached(patch):
    def target(self, batch):
        output = self.q.output(batch.next_obs)
        return batch.reward + batch.discount * self.q.head.mean(output).amax(1)

    patch.setattr(dqn.DQN, "target", target)


def target_reads_the_online_critic(patch):
    def target(self, batch):
        action = (self.actor_target(batch.next_obs)).clamp(-1, 1)
        return batch.reward + batch.discount * self.critic(batch.next_obs, action).amin(0).detach()

    patch.setattr(td3.TD3, "target", target)


def maximum_of_the_critics(patch):
    def target(self, batch):
        action = self.actor_target(batch.next_obs)
        return batch.reward + batch.discount * self.critic_target(batch.next_obs, action).amax(0)

    patch.setattr(td3.TD3, "target", torch.no_grad()(target))


def smoothed_action_is_not_clipped(patch):
    def target(self, batch):
        action = self.actor_target(batch.next_obs)
        return batch.reward + batch.discount * self.critic_target(batch.next_obs, action + self.smoothing(action)).amin(
            0
        )

    patch.setattr(td3.TD3, "target", torch.no_grad()(target))


def entropy_outside_the_discount(patch):
    def target(self, batch):
        action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        value = self.critic_target(batch.next_obs, action).amin(0)
        return batch.reward + batch.discount * value - self.temperature() * log_prob

    patch.setattr(sac.SAC, "target", torch.no_grad()(target))


def double_selects_with_the_target(patch):
    wrap(patch, dqn.DQN, "target", lambda target, self, batch: target(_single(self), batch))


def _single(agent):
    agent.config = agent.config.override({"double": False})
    return agent


def expectile_side(patch):
    wrap(patch, iql, "expectile", lambda loss, u, t: loss(u, 1.0 - t))


def advantage_clipped_instead_of_the_weight(patch):
    def loss(self, batch, advantage):
        weight = (self.config.inverse_temperature * advantage.clamp(max=self.config.max_weight)).exp()
        return -(weight * self.actor(batch.obs).log_prob(batch.action)).mean()

    patch.setattr(iql.IQL, "actor_loss", loss)


def gradient_through_the_scale(patch):
    def loss(self, batch):
        action = self.actor(batch.obs)
        value = self.critic(batch.obs, action)[0]
        return -self.config.alpha * value.mean() / value.abs().mean() + (action - batch.action).square().mean()

    patch.setattr(td3_bc.TD3BC, "actor_loss", loss)


def log_prob_sign(patch):
    wrap(patch, policies.Normal, "log_prob", lambda log_prob, self, action: -log_prob(self, action))


def log_prob_sign_of_choices(patch):
    wrap(patch, policies.Categorical, "log_prob", lambda log_prob, self, action: -log_prob(self, action))


def squash_correction_is_forgotten(patch):
    patch.setattr(
        policies.TanhNormal, "log_prob_before_tanh", lambda self, before: policies.Normal(*self).log_prob(before)
    )


def advantage_runs_over_episode_ends(patch):
    wrap(
        patch,
        rollouts,
        "gae",
        lambda gae, reward, discount, trace, value, lam: gae(
            reward, torch.full_like(discount, checks.GAMMA), torch.ones_like(trace), value, lam
        ),
    )


def traces_run_over_truncations(patch):
    wrap(
        patch,
        Buffer,
        "rollout",
        lambda original, self, gamma: (lambda r: r._replace(trace=(r.discount > 0).float()))(original(self, gamma)),
    )
    wrap(
        patch,
        rollouts,
        "gae",
        lambda gae, r, d, trace, v, lam: gae(r, torch.where(d > 0, d, d.max()), torch.ones_like(trace), v, lam),
    )


def statistics_change_before_the_ratio(patch):
    def prepare(original, self, rollout):
        self.obs_normalizer.update(rollout.obs[:-1][rollout.valid])
        return original(self, rollout)

    wrap(patch, rollouts.RolloutAgent, "prepare", prepare)


def temperature_sign(patch):
    wrap(patch, sac.SAC, "temperature_loss", lambda loss, self, log_prob: -loss(self, log_prob))


def advantages_are_not_normalised(patch):
    patch.setattr(rollouts, "normalized", lambda advantage: advantage)


TRUNCATED = checks.finds_value_of_truncated_forever
DELAYED = checks.finds_values_of_delayed_reward
SIGN = checks.chooses_the_sign

MUTANTS = [
    (truncation_is_termination, TRUNCATED, ("dqn", True)),
    (truncation_is_termination, TRUNCATED, ("td3", False)),
    (truncation_is_termination, TRUNCATED, ("ppo", True)),
    (reset_rows_are_sampled, TRUNCATED, ("dqn", True)),
    (reset_rows_are_in_the_rollout, TRUNCATED, ("ppo", True)),
    (gamma_instead_of_gamma_to_the_n, TRUNCATED, ("dqn", True), {"n_step": 3}),
    (terminal_reward_is_dropped, DELAYED, ("dqn", True)),
    (terminal_reward_is_dropped, DELAYED, ("ppo", True)),
    (next_obs_is_obs, DELAYED, ("dqn", True)),
    (next_obs_is_of_the_next_episode, checks.buffer_gives_true_transitions, ()),
    (reset_rows_are_sampled, checks.buffer_gives_true_transitions, ()),
    (terminated_is_ignored, SIGN, ("dqn", True)),
    (terminated_is_ignored, checks.buffer_gives_true_transitions, ()),
    (terminated_is_ignored_in_rollouts, SIGN, ("ppo", True)),
    (target_is_never_updated, checks.targets_follow, ("dqn", True)),
    (target_is_never_updated, checks.targets_follow, ("sac", False)),
    (target_is_never_updated, DELAYED, ("td3", False)),
    (target_is_a_copy_at_each_update, checks.td3_is_its_equations, ()),
    (a_step_moves_all_networks, checks.only_the_named_child_moves, ("td3", False)),
    (actor_sign, SIGN, ("td3", False)),
    (actor_sign, checks.td3_is_its_equations, ()),
    (actor_sign_in_sac, SIGN, ("sac", False)),
    (policy_sign, SIGN, ("ppo", True)),
    (policy_sign, SIGN, ("ppo", False)),
    (column_target, checks.metrics_are_finite, ("td3", False)),
    (column_value, checks.metrics_are_finite, ("iql", False)),
    (column_value, checks.metrics_are_finite, ("ppo", True)),
    (identical_twins, checks.ensembles_differ, ("td3", False)),
    (target_is_not_detached, checks.targets_want_no_gradient, ("dqn", True)),
    (target_is_not_detached, checks.dqn_is_its_equations, (False,)),
    (target_reads_the_online_critic, checks.td3_target_is_right, ()),
    (maximum_of_the_critics, checks.td3_target_is_right, ()),
    (smoothed_action_is_not_clipped, checks.td3_smoothing_is_right, ()),
    (entropy_outside_the_discount, checks.sac_target_is_right, ()),
    (double_selects_with_the_target, checks.dqn_target_is_right, (True, 2.8)),
    (expectile_side, checks.iql_value_is_the_expectile, (0.7, 5.615385)),
    (advantage_clipped_instead_of_the_weight, checks.iql_weights_are_right, ()),
    (gradient_through_the_scale, checks.td3_bc_actor_loss_is_right, ()),
    (log_prob_sign, SIGN, ("ppo", False)),
    (log_prob_sign, checks.sac_is_its_equations, ()),
    (log_prob_sign_of_choices, SIGN, ("ppo", True)),
    (squash_correction_is_forgotten, checks.sac_is_its_equations, ()),
    (advantage_runs_over_episode_ends, TRUNCATED, ("ppo", True)),
    (traces_run_over_truncations, TRUNCATED, ("ppo", True)),
    (statistics_change_before_the_ratio, checks.ratio_is_one, ("ppo", False), {"normalize_obs": True}),
    (temperature_sign, checks.sac_temperature_falls_where_entropy_is_high, ()),
    (temperature_sign, checks.sac_is_its_equations, ()),
    (advantages_are_not_normalised, checks.ppo_is_the_policy_gradient_at_first, (False,)),
    (policy_sign, checks.ppo_is_its_equations, (True,)),
    (policy_sign, checks.ppo_is_the_policy_gradient_at_first, (False,)),
]


def label(entry: Any) -> str:
    mutant, check, arguments = entry[:3]
    return "-".join([mutant.__name__, check.__name__, *(str(argument) for argument in arguments)])


CHECKS = {f"{e[1].__name__}-{e[2]}-{e[3:]}": e for e in MUTANTS}


@pytest.mark.parametrize("entry", CHECKS.values(), ids=list(CHECKS))
def test_the_check_passes_without_a_bug(entry):
    entry[1](*entry[2], **(entry[3] if len(entry) > 3 else {}))


@pytest.mark.parametrize("entry", MUTANTS, ids=label)
def test_the_check_finds_the_bug(monkeypatch, entry):
    mutant, check, arguments = entry[:3]
    mutant(monkeypatch)
    with pytest.raises((AssertionError, ValueError, RuntimeError)) as caught:  # the last two refuse shapes
        check(*arguments, **(entry[3] if len(entry) > 3 else {}))
    refused = any(text in str(caught.value) for text in ("does not fit predictions", "must match the size of tensor"))
    assert isinstance(caught.value, AssertionError) or refused
