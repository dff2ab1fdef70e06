"""Deep deterministic policy gradient."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.config import Count, NonNegative
from .td3 import TD3, TD3Config


@dataclass(frozen=True)
class DDPGConfig(TD3Config):
    """Defaults: TD3's, with one critic, an actor that is never delayed, and no noise on target actions."""

    critics: Count = 1
    """Size of the critic ensemble."""
    actor_delay: Count = 1
    """Critic updates per update of actor and targets."""
    target_noise: NonNegative = 0.0
    """Standard deviation of the noise on target actions."""


class DDPG(TD3, name="ddpg"):
    """DDPG (Lillicrap et al. 2016, arXiv 1509.02971), as settings of TD3: "our DDPG" of Fujimoto et al. (2018).

        y      = r + discount Qbar(s', pibar(s'))
        critic   mean (Q(s, a) - y)^2
        actor    -mean Q(s, pi(s)),  with all targets (x <- x + tau (online - x)) after every critic update

    With critic_head "c51" and n_step=5 its critic is D4PG's (Barth-Maron et al. 2018, arXiv 1804.08617).

    Departures from the paper: networks, step sizes and uncorrelated Gaussian exploration are TD3's; no weight decay.
    """

    config: DDPGConfig = DDPGConfig()
