"""d3rlpy as a contestant: its own sampling and updates, without its logging."""

# mypy: disable-error-code="no-redef"
from __future__ import annotations

from typing import Any

try:
    from .protocol import Run, serve
except ImportError:  # a script, in an interpreter without Bellmark
    from protocol import Run, serve

NAMES = {"iql": "IQLConfig", "td3_bc": "TD3PlusBCConfig", "cql": "CQLConfig"}


def build(words: dict[str, Any]) -> Run:
    import d3rlpy
    import numpy as np
    import torch

    torch.set_num_threads(words["threads"])
    obs_size, actions = words["sizes"]
    rng, count = np.random.default_rng(0), 100_000
    data = d3rlpy.dataset.MDPDataset(
        observations=rng.standard_normal((count, obs_size), np.float32),
        actions=rng.uniform(-1, 1, (count, actions)).astype(np.float32),
        rewards=rng.standard_normal(count, np.float32),
        terminals=np.zeros(count, np.float32),
        timeouts=(np.arange(1, count + 1) % 1000 == 0).astype(np.float32),
    )
    settings = getattr(d3rlpy.algos, NAMES[words["agent"]])(batch_size=words["settings"]["batch_size"])
    algorithm = settings.create(device=words["device"])
    algorithm.build_with_dataset(data)

    def run(count: int) -> None:
        for _ in range(count):
            algorithm.update(data.sample_transition_batch(words["settings"]["batch_size"]))

    return run


if __name__ == "__main__":
    serve(build)
