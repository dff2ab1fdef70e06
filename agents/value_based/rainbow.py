"""Rainbow: six extensions of DQN at once."""

from __future__ import annotations

from .c51 import C51, C51Config


class Rainbow(C51, name="rainbow"):
    """Rainbow (Hessel et al. 2018, arXiv 1710.02298): C51, double, dueling, noisy, 3 steps, prioritised replay.

        a*   = argmax_a Q(s', a),   m = the projection of r + discount Zbar(s', a*),   loss = -sum_i m_i log p_i(s, a)

    Priorities are that loss. Dueling streams add up for each atom, before the softmax.

    Departures from the paper: priorities are the cross-entropy, as in all published code, not the KL divergence, which
    is smaller by the entropy of m; those of C51.
    """

    config: C51Config = C51Config(
        double=True, dueling=True, noisy=True, n_step=3, replay="prioritized", priority_exponent=0.5
    )
