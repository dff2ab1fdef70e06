"""Agents of the DQN family that are only settings."""

from __future__ import annotations

from .dqn import DQN, DQNConfig


class DoubleDQN(DQN, name="double_dqn"):
    """Double DQN (van Hasselt, Guez, Silver 2016, arXiv 1509.06461): y = r + discount Qbar(s', argmax_a Q(s', a))."""

    config: DQNConfig = DQNConfig(double=True)


class DuelingDQN(DQN, name="dueling_dqn"):
    """Dueling Double DQN (Wang et al. 2016, arXiv 1511.06581): Q = V + A - mean_a A, with double Q-learning."""

    config: DQNConfig = DQNConfig(double=True, dueling=True)


class NoisyDQN(DQN, name="noisy_dqn"):
    """NoisyNet-DQN (Fortunato et al. 2018, arXiv 1706.10295): exploration by learnt noise on the linear layers."""

    config: DQNConfig = DQNConfig(noisy=True)


class DoubleDuelingPER(DQN, name="double_dueling_per"):
    """Dueling Double DQN with prioritised replay (Wang et al. 2016, table 1; Schaul et al. 2016, arXiv 1511.05952).

    Priorities are |y - Q(s, a)|; losses are multiplied by the importance weights of the draw.
    """

    config: DQNConfig = DQNConfig(double=True, dueling=True, replay="prioritized")
