"""stable-baselines3, and SBX (the same with JAX), as contestants."""

# mypy: disable-error-code="no-redef"
from __future__ import annotations

from typing import Any

try:
    from .protocol import FULL, Run, fill, serve, watch
except ImportError:  # a script, in an interpreter without Bellmark
    from protocol import FULL, Run, fill, serve, watch

NAMES = {"start": "learning_starts", "batch_size": "batch_size", "buffer_size": "buffer_size"}
"""Our settings in their words; `hidden` goes into policy_kwargs."""


def build(words: dict[str, Any]) -> Run:
    import importlib

    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    algorithm = getattr(importlib.import_module(words.get("library", "stable_baselines3")), words["agent"].upper())
    settings = {NAMES[name]: value for name, value in words["settings"].items() if name in NAMES}
    if "hidden" in words["settings"]:
        settings["policy_kwargs"] = {"net_arch": words["settings"]["hidden"]}
    if words["env"].startswith("ALE/"):
        import ale_py
        import gymnasium

        gymnasium.register_envs(ale_py)
        every_frame = {"frameskip": 1, "repeat_action_probability": 0.0}
        env: Any = VecFrameStack(make_atari_env(words["env"], words["num_envs"], env_kwargs=every_frame), 4)
        model = algorithm("CnnPolicy", env, device=words["device"], seed=0, **settings)
    else:
        env = make_vec_env(words["env"], words["num_envs"])
        model = algorithm("MlpPolicy", env, device=words["device"], seed=0, **settings)

    watch(model.env, "step_wait", words)

    def run(count: int) -> dict[str, Any]:
        if count != FULL:
            model.learn(count, reset_num_timesteps=False)
        replay = vars(getattr(model, "replay_buffer", None) or model.rollout_buffer).values()
        arrays = [value for value in replay if hasattr(value, "nbytes")]
        return fill(arrays) if count == FULL else {"replay_bytes": sum(array.nbytes for array in arrays)}

    return run


def limited(words: dict[str, Any]) -> Run:
    import torch

    torch.set_num_threads(words["threads"])
    return build(words)


if __name__ == "__main__":
    serve(limited)
