"""Small recordings whose episodes are known."""

from __future__ import annotations

import numpy as np
from bellmark.agents.core.buffer import Buffer
from helpers import spec_of


def episodes_of(lengths, returns, ended=None):
    """A data set of such episodes; its observations count all steps. `ended`: how each ends, 1 = by termination."""
    count = sum(lengths)
    last = np.cumsum(lengths) - 1
    reward, terminated, truncated = np.zeros(count, np.float32), np.zeros(count, bool), np.zeros(count, bool)
    reward[last] = returns
    kinds = np.array(ended or [1] * len(lengths))
    terminated[last], truncated[last] = kinds == 1, kinds == 0
    obs = np.arange(3 * count, dtype=np.float32).reshape(count, 3)
    action = np.arange(count) % 2
    flags = {"terminated": terminated, "truncated": truncated}
    return Buffer.from_transitions(spec_of(True), obs=obs, action=action, reward=reward, next_obs=obs + 3, **flags)
