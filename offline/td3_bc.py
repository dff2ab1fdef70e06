"""TD3 with behaviour cloning: the minimalist offline variant."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..agents.actor_critic.td3 import TD3, TD3Config
from ..agents.core.batch import Batch
from ..agents.core.config import NonNegative
from ..agents.core.losses import mse


@dataclass(frozen=True)
class TD3BCConfig(TD3Config):
    """Defaults: the authors' code."""

    normalize_obs: bool = True
    """Shift and scale each observation dimension by the data's mean and standard deviation (plus 1e-3)."""
    alpha: NonNegative = 2.5
    """Weight of the value against cloning, after the value has been scaled to mean size 1."""


class TD3BC(TD3, name="td3_bc"):
    """TD3+BC (Fujimoto & Gu 2021, arXiv 2106.06860): TD3, with one more term in the actor's loss.

        actor   -lambda mean Q_1(s, pi(s)) + mean (pi(s) - a)^2,   lambda = alpha / mean |Q_1(s, pi(s))|, detached

    Departure from the paper: the squared error is averaged over action dimensions, as in the authors' code, not summed.
    """

    config: TD3BCConfig = TD3BCConfig()

    def actor_loss(self, batch: Batch) -> Tensor:
        action = self.actor(batch.obs)
        value = self.critic.first(batch.obs, action)
        scale = self.config.alpha / value.abs().mean().detach()
        return -scale * value.mean() + mse(action, batch.action).mean()
