"""Agents of the DQN family that are only settings."""

from __future__ import annotations

from .dqn import DQN, DQNConfig


class DoubleDQN(DQN, name="double_dqn"):
    """Double DQN (van Hasselt, Guez, Silver 2016, arXiv 1509.06461): the network chooses, the target network judges.

        y    = r + discount Qbar(s', argmax_a Q(s', a))
        loss = mean Huber(Q(s, a) - y)

    Departures from the paper: those of DQN; every action has a bias of its own (one for all in the paper's tuned one).
    """

    config: DQNConfig = DQNConfig(double=True)


class DuelingDQN(DQN, name="dueling_dqn"):
    """Dueling Double DQN (Wang et al. 2016, arXiv 1511.06581): streams for the state and for the advantages of actions.

        Q(s, a) = V(s) + A(s, a) - mean_b A(s, b)                             (eq. 9)
        y, loss   as in Double DQN

    Departures from the paper are those of DQN.
    """

    config: DQNConfig = DQNConfig(double=True, dueling=True)


class NoisyDQN(DQN, name="noisy_dqn"):
    """NoisyNet-DQN (Fortunato et al. 2018, arXiv 1706.10295): exploration by learnt noise on the linear layers.

    Departures from the paper are those of DQN.
    """

    config: DQNConfig = DQNConfig(noisy=True)


class DoubleDuelingPER(DQN, name="double_dueling_per"):
    """Dueling Double DQN with prioritised replay (Wang et al. 2016, table 1; Schaul et al. 2016, arXiv 1511.05952).

        P(i) = p_i^0.6 / sum p^0.6,   p = |y - Q(s, a)| + 1e-6
        loss = mean w Huber(Q(s, a) - y),   w_i = (N P(i))^-b over the greatest of the batch,  b from 0.4 to 1
        Q, y   as in Dueling Double DQN

    Departures from the papers: those of DQN; weights are divided by the greatest of the batch, not of the buffer; the
    step size is not made smaller because of the priorities.
    """

    config: DQNConfig = DQNConfig(double=True, dueling=True, replay="prioritized")
