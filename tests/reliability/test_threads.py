"""One seed gives the same bits in every process, with one thread of torch and with two.

Run as a script, this file is such a process.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bellmark
import torch

THREADS = (1, 2)

FEW = ("dqn", "iql", "ppo", "sac", "td3", "td3_bc")
"""Agents of the small count; the full one has all."""


def digests(repeats: int) -> dict[str, dict[str, str]]:
    """What every agent is after a short training with each number of threads: case -> threads -> hash."""
    from helpers import CASES, is_offline

    found: dict[str, dict[str, str]] = {}
    for name, discrete in CASES if repeats > 1 else [case for case in CASES if case[0] in FEW]:
        case = found[f"{name} {'discrete' if discrete else 'continuous'}"] = {}
        for threads in THREADS:
            torch.set_num_threads(threads)
            case[str(threads)] = digest(trained(name, discrete, is_offline(name), repeats))
    return found


def trained(name: str, discrete: bool, offline: bool, repeats: int) -> Any:
    """With networks and batches that are large enough for torch to share them out among its threads."""
    from bellmark.agents.core.registry import agent_class
    from helpers import ENVS, build, filled_buffer, small, spec_of

    large = {"hidden": (256, 256), "batch_size": 256, "rollout_length": 128, "start": 100, "train_every": 1}
    if offline:
        agent = build(name, discrete, seed=5, **large)
        agent.fit(filled_buffer(spec_of(discrete), 2000), updates=20 * repeats)
        return agent
    agent = bellmark.make(name, ENVS[discrete], seed=5, num_envs=4, **small(agent_class(name), **large))
    agent.learn(1024 if hasattr(agent.config, "rollout_length") else 100 + 40 * repeats)
    assert agent.updates >= 2
    return agent


def digest(agent: Any) -> str:
    """Of all that the agent is, its buffer included."""
    tensors = agent.state() | {f"buffer.{name}": value for name, value in agent.buffer.state()[0].items()}
    total = hashlib.sha256()
    for name in sorted(tensors):
        total.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    return total.hexdigest()


def test_a_seed_decides_all_bits_with_one_thread_and_with_two(count, record):
    repeats = count(1, 20)
    runs = [in_a_process(repeats, hash_seed) for hash_seed in ("1", "2")]
    assert len(runs[0]) >= 7
    for threads in map(str, THREADS):
        different = [case for case in runs[0] if runs[0][case][threads] != runs[1][case][threads]]
        done = len(runs[0])
        record(f"same seed, {threads} thread(s)", "two fresh processes", done, done - len(different), len(different))
        assert different == []
    alike = [case for case, of_threads in runs[0].items() if len({*of_threads.values()}) == 1]
    assert len({value for of_threads in runs[0].values() for value in of_threads.values()}) >= len(runs[0])
    note = "nothing is promised here; other bits: " + ", ".join(case for case in runs[0] if case not in alike)
    record("same seed, 1 thread against 2", "two fresh processes", len(runs[0]), len(alike), 0, note)


def in_a_process(repeats: int, hash_seed: str) -> dict[str, dict[str, str]]:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    environment |= {"PYTHONHASHSEED": hash_seed, "OMP_WAIT_POLICY": "passive"}  # waiting threads leave the processor
    command = [sys.executable, __file__, str(repeats)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600 * repeats)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "agents"))
    print(json.dumps(digests(int(sys.argv[1]))))
