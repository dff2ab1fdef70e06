"""Seeds: the same name gives the same stream, another name another one."""

from __future__ import annotations

import numpy as np
import torch
from bellmark.agents.core.seeding import derive, seed_all


def test_torch_is_seeded_and_numpys_generator_left_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    draws = []
    for seed in (1, 1, 2):
        seed_all(seed)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[1] != draws[2]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_streams_are_stable_and_all_different():
    assert derive(1, "evaluation", 3) == derive(1, "evaluation", 3)
    keys = [(seed, name, i) for seed in range(20) for name in ("environment", "evaluation") for i in range(20)]
    seeds = {derive(seed, name, i) for seed, name, i in keys}
    assert len(seeds) == len(keys)
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive(1, 2) != derive(2, 1)
