"""Bellmark as a contestant."""

from __future__ import annotations

import copy
import time
from typing import Any

from .floor import floor
from .protocol import FULL, Run, fill, serve, watch


def build(words: dict[str, Any]) -> Run:
    import torch

    torch.set_num_threads(words["threads"])
    return online(words) if words["work"] == "online" else offline(words)


def online(words: dict[str, Any]) -> Run:
    from ... import make
    from ...agents.core.loop import learn
    from ...envs import make as make_env

    env = make_env(atari if words["env"].startswith("ALE/") else words["env"], words["num_envs"])
    agent: Any = make(words["agent"], env, device=words["device"], **words["settings"])
    watch(env, "step", words)
    compile_as(words, agent)

    def run(count: int) -> dict[str, Any]:
        if not count:
            return limits(agent, agent.buffer) | {"environment_alone": steps_alone(env)}
        if count == FULL:
            return fill(value.numpy() for value in agent.buffer._tensors().values() if not value.is_cuda)
        before = agent.updates
        seconds = learn(agent, count).seconds
        replay = sum(value.nbytes for value in agent.buffer._tensors().values())
        return {"phases": seconds, "updates": agent.updates - before, "replay_bytes": replay}

    return run


def offline(words: dict[str, Any]) -> Run:
    import numpy as np

    from ...agents.core.buffer import Buffer
    from ...agents.core.loop import fit
    from ...agents.core.registry import agent_class
    from ...agents.core.spec import Spec

    obs_size, actions = words["sizes"]
    rng, count = np.random.default_rng(0), 100_000
    bounds = {"action_low": (-1.0,) * actions, "action_high": (1.0,) * actions}
    spec = Spec((obs_size,), actions, discrete=False, action_shape=(actions,), **bounds)
    buffer = Buffer.from_transitions(
        spec,
        obs=rng.standard_normal((count, obs_size), np.float32),
        action=rng.uniform(-1, 1, (count, actions)).astype(np.float32),
        reward=rng.standard_normal(count, np.float32),
        terminated=np.zeros(count, bool),
        truncated=np.arange(1, count + 1) % 1000 == 0,
        device=words["device"],
    )
    kind = agent_class(words["agent"])
    agent = kind(spec, kind.config.override(words["settings"]), device=words["device"])
    compile_as(words, agent)

    def run(count: int) -> dict[str, Any]:
        return {"phases": fit(agent, buffer, count).seconds, "updates": count} if count else limits(agent, buffer)

    return run


def compile_as(words: dict[str, Any], agent: Any) -> None:
    """Compiles updates if the words say so; on a GPU they are CUDA graphs unless they say no."""
    if not words.get("record", True):
        from ...agents.core import graph

        graph.recordable = lambda given: False
    if words.get("compile"):
        agent.compile_updates()


def limits(agent: Any, buffer: Any) -> dict[str, Any]:
    """What one update cannot do without: the time of its matrix products alone, and how many operators it calls."""
    from ...agents.core.config import ReplayConfig

    agent = copy.deepcopy(agent)  # not compiled, so that its operators can be seen
    if isinstance(agent.config, ReplayConfig):
        (batch,) = agent.sample(buffer)
    else:
        batch = agent.prepare(buffer.rollout(agent.config.gamma))
        batch = type(batch)(*(field[: agent.config.batch_size] for field in batch))
    seconds, operators = floor(lambda: agent.step(batch), updates=4)
    return {"floor_seconds": seconds, "operators": operators}


def steps_alone(env: Any, count: int = 1000) -> float:
    """Environment steps per second with random actions and nobody who looks at them."""
    actions = [env.env.action_space.sample() for _ in range(count)]
    began = time.perf_counter()
    for action in actions:
        env.env.step(action)
    return count * env.num_envs / (time.perf_counter() - began)


def atari(**kwargs: Any) -> Any:
    import ale_py
    import gymnasium

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Pong-v5", frameskip=1, repeat_action_probability=0.0)
    return gymnasium.wrappers.FrameStackObservation(gymnasium.wrappers.AtariPreprocessing(env), 4)


if __name__ == "__main__":
    serve(build)
