"""ReBRAC: behaviour-regularised actor-critic, revisited."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..agents.actor_critic.td3 import TD3, TD3Config
from ..agents.core.batch import Batch
from ..agents.core.buffer import Buffer
from ..agents.core.config import Count, NonNegative
from ..agents.core.ensemble import ensemble
from ..agents.core.losses import mse
from ..agents.core.nets import bounded_init, frozen_copy
from ..agents.core.policies import Deterministic
from ..agents.core.spec import Spec


@dataclass(frozen=True)
class ReBRACConfig(TD3Config):
    """Defaults: the authors' for MuJoCo, whose penalties differ from set to set."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam for the actor."""
    critic_learning_rate: NonNegative = 1e-3
    """Step size of Adam for the critics."""
    batch_size: Count = 1024
    """Transitions per update."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of every network."""
    actor_penalty: NonNegative = 0.01
    """Weight of the squared distance from the recorded action in the actor's loss."""
    critic_penalty: NonNegative = 0.01
    """Weight of the squared distance from the recorded next action in the critics' target."""


class DataBatch(NamedTuple):
    """A batch of recorded transitions with what was done next. See `Batch` for the fields that it has too."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    weight: Tensor
    row: Tensor
    next_action: Tensor
    """[B, A] recorded at `next_obs`."""
    continues: Tensor
    """[B] 1 where there is such an action, 0 where the episode was over."""


class ReBRAC(TD3, name="rebrac"):
    """ReBRAC (Tarasov, Kurenkov, Nikulin, Kolesnikov 2023, arXiv 2305.09836): TD3 with two cloning penalties.

        y       = r + discount (min_e Qbar_e(s', a') - b2 |a' - ahat'|^2),  a' as in TD3, ahat' the recorded one
        critic    sum_e mean (Q_e(s, a) - y)^2
        actor     b1 mean |pi(s) - a|^2 - lambda mean min_e Q_e(s, pi(s)),  lambda = 1 / mean |min_e Q_e|, detached

    Squares are summed over action dimensions. Critics have layer normalisation after each ReLU; weights start as in
    the authors' code. Online, after `fit`, b2 is 0 and b1 falls linearly, until it is half, as in an author's later
    code (ClORL, where half of each batch is data: `replay` "balanced").

    Departures: at the cut-off end of an episode no next action is recorded, and its row is kept without that penalty,
    not dropped; the target policy follows the new actor, the authors' the one before the step.
    """

    config: ReBRACConfig = ReBRACConfig()

    def build(self, spec: Spec, c: ReBRACConfig) -> None:  # type: ignore[override]
        spec.require_continuous(self.name)
        init = bounded_init(bias=0.1)
        self.actor = Deterministic(spec, c.hidden, init=init, last_init=bounded_init(1e-3))
        options = {"init": init, "last_init": bounded_init(3e-3), "norm_after": True}
        self.critic = ensemble(spec, c, self.head(c), **options)
        self.actor_target, self.critic_target = frozen_copy(self.actor), frozen_copy(self.critic)

    @property
    def penalties(self) -> tuple[float, float]:
        """b1 and b2 at this moment."""
        c, left = self.config, 1.0 - self.progress
        if not self.steps:
            return c.actor_penalty, c.critic_penalty
        return c.actor_penalty * 0.5 * (0.5 + left + abs(0.5 - left)), 0.0  # max(0.5, left), be it float or tensor

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[DataBatch]:  # type: ignore[override]
        for batch in super().sample(buffer, count):
            yield DataBatch(*batch, *buffer.next_action(batch.row, self.config.n_step))

    @torch.no_grad()
    def target(self, batch: DataBatch) -> Tensor:  # type: ignore[override]
        action = self.actor_target(batch.next_obs)
        action = (action + self.smoothing(action)).clamp(-1.0, 1.0)
        distance = batch.continues * mse(action, batch.next_action).sum(-1)
        reward = batch.reward - batch.discount * self.penalties[1] * distance
        output = self.critic_target.lowest(self.critic_target.output(batch.next_obs, action))
        return self.critic.head.backup(reward, batch.discount, output)

    def actor_loss(self, batch: Batch) -> Tensor:
        action = self.actor(batch.obs)
        value = self.critic(batch.obs, action).amin(0)
        cloning = mse(action, batch.action).sum(-1).mean()
        return self.penalties[0] * cloning - value.mean() / value.abs().mean().detach()
