"""stable-baselines3 as a contestant: `python -m bellmark.scripts.comparison.sb3 AGENT --env ENV ...`.

Takes the words of `bellmark train`, translates the settings, and leaves a run folder with evaluations of the same
protocol: the same environments, episodes, cadence and seeds as ours. Nothing can be resumed.

Where observations are vectors it trains in its own vector environment, as people run it. For images, dictionaries and
numbers of choices it gets ours, so that the protocol of Atari's games and the networks are the same (`adapter`).
"""

from __future__ import annotations

import inspect
import sys
import time
from typing import Any

import numpy as np
import torch

from ...agents.core import checkpoint
from ...agents.core.errors import BellmarkError, InvalidSetting, MissingExtra
from ...agents.core.seeding import derive
from ...agents.core.spec import Spec
from ...envs import VectorEnv, evaluate, for_evaluation, remake
from ...envs import make as make_env
from .. import arguments, train
from ..hooks import words as cell
from ..manifest import EVALUATION_ENVS, machine
from ..run_folder import RunFolder
from .translation import DIFFERENT, Translation, translate


def main(argv: list[str]) -> int:
    import tyro

    from ...agents.core.registry import agent_class

    agent, words = arguments.split_agent("train", ["train", *argv])
    options, config = arguments.with_settings(
        agent, "env", train.Options(env=tyro.MISSING), agent_class(agent).config, words
    )
    options, config = arguments.parse("python -m bellmark.scripts.comparison.sb3", words, options, config)
    return run(agent, options, config.to_dict(), argv)


def run(agent: str, options: train.Options, config: dict[str, Any], argv: list[str]) -> int:
    """One whole training. Raises MissingExtra, InvalidSetting and RunExists."""
    try:
        import stable_baselines3
    except ImportError as error:
        raise MissingExtra("stable-baselines3", "sb3") from error
    if options.compile or options.backend != "sync":
        raise InvalidSetting("stable-baselines3 runs here in one process, not compiled: leave the sb3 contestant out")
    from .adapter import needed

    torch.set_num_threads(options.threads)
    algorithm = getattr(stable_baselines3, agent.upper())
    known = set(inspect.signature(algorithm.__init__).parameters)
    env_kwargs = arguments.keywords(options.env_kwargs)
    with make_env(options.env, min(EVALUATION_ENVS, max(options.eval_episodes, 1)), **env_kwargs) as env:
        translation = translate(agent, config, known, env.spec, options.num_envs, needed(env.spec))
        folder = RunFolder(options.run)
        with folder.create(manifest(agent, options, config, argv, env, translation)):
            model = build(algorithm, options, translation, env.spec, env_kwargs)
            learn(model, folder, env, options)
    return 0


def manifest(
    agent: str, options: train.Options, config: dict[str, Any], argv: list[str], env: VectorEnv, found: Translation
) -> dict[str, Any]:
    """What our own runs say, and what could not be translated."""
    from dataclasses import asdict

    import stable_baselines3

    return {
        "kind": "train",
        "agent": f"sb3:{agent}",
        "seed": options.seed,
        "command": ["python", "-m", __spec__.name if __spec__ else __name__, *argv],
        "options": asdict(options),
        "settings": config,
        "translated": {name: repr(value) for name, value in found.settings.items()},
        "untranslated": [*found.untranslated, *([DIFFERENT[agent]] if agent in DIFFERENT else [])],
        "env": env.settings | {"num_envs": options.num_envs},
        "data": None,
        "versions": checkpoint.versions() | {"stable_baselines3": stable_baselines3.__version__},
        "spec": env.spec.to_dict(),
        "machine": machine(torch.device(options.device)),
        "changes": [],
        "evaluation": {"episodes": options.eval_episodes, "deterministic": True},
    }


def build(algorithm: Any, options: train.Options, found: Translation, spec: Spec, env_kwargs: dict[str, Any]) -> Any:
    """Its model, with its environments."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.noise import NormalActionNoise
    from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
    from stable_baselines3.common.vec_env import VecNormalize

    from .adapter import Environments, cnn_policy, needed

    venv: Any
    if needed(spec):
        env = make_env(options.env, options.num_envs, autoreset="same_step", **env_kwargs)
        venv = Environments(env, found.clip_reward)
    else:
        venv = make_vec_env(options.env, options.num_envs, seed=options.seed, env_kwargs=env_kwargs)
    settings = dict(found.settings)
    policy = settings["policy_kwargs"]
    if found.normalize:
        venv = VecNormalize(venv, **found.normalize)
    if "action_noise" in settings:
        size = venv.action_space.shape
        settings["action_noise"] = NormalActionNoise(np.zeros(size), np.full(size, settings["action_noise"]))
    if "activation_fn" in policy:
        policy["activation_fn"] = {"tanh": torch.nn.Tanh, "relu": torch.nn.ReLU}[policy["activation_fn"]]
    if "optimizer_kwargs" in policy:
        policy["optimizer_class"] = RMSpropTFLike
    if spec.is_image:
        policy |= cnn_policy(spec, policy.get("ortho_init", False))
    kind = "CnnPolicy" if spec.is_image else "MlpPolicy"
    return algorithm(kind, venv, seed=options.seed, device=options.device, **settings)


class Actor:
    """Its policy for our evaluation: observations as VecNormalize leaves them, actions in [-1, 1]."""

    def __init__(self, model: Any, spec: Spec):
        self.model, self.spec, self.normalize = model, spec, getattr(model.get_env(), "normalize_obs", None)
        if not spec.discrete:
            self.low, self.high = (bound.reshape(-1) for bound in (model.action_space.low, model.action_space.high))

    def act_on(self, obs: np.ndarray, explore: bool) -> np.ndarray:
        if self.normalize is not None:
            obs = self.normalize(obs)
        action = self.model.predict(obs, deterministic=not explore)[0]
        if self.spec.discrete:
            return action
        return 2.0 * (action.reshape(len(action), -1) - self.low) / (self.high - self.low) - 1.0


def learn(model: Any, folder: RunFolder, env: VectorEnv, options: train.Options) -> None:
    """Trains, with our evaluations at our cadence."""
    from stable_baselines3.common.callbacks import BaseCallback

    env = remake(for_evaluation(env.settings))
    actor, every = Actor(model, env.spec), options.eval_every or max(options.steps // 10, 1)

    class Evaluate(BaseCallback):
        began, spent, due = time.perf_counter(), 0.0, every

        def _on_step(self) -> bool:
            if self.num_timesteps >= self.due:
                self.due += every
                self.evaluate()
            return True

        def _on_training_end(self) -> None:
            rows = folder.evaluations.rows
            if options.eval_episodes and (not rows or rows[-1]["clock"] != self.num_timesteps):
                self.evaluate()

        def evaluate(self) -> None:
            if not options.eval_episodes:
                return
            clock, start = self.num_timesteps, time.perf_counter()
            seed = derive(options.seed, "evaluation", clock)
            returns, lengths, _ = found = evaluate(actor, env, options.eval_episodes, seed)
            took = time.perf_counter() - start
            self.spent += took
            row = {"clock": clock, "steps": clock, "updates": getattr(model, "_n_updates", 0)}
            row |= {"mean": float(returns.mean()), "std": float(returns.std()), "episodes": options.eval_episodes}
            row |= {
                "evaluation_seed": seed,
                "seconds": round(took, 3),
                "returns": cell(returns),
                "lengths": cell(lengths),
            }
            row |= {} if found.success_rate is None else {"success_rate": found.success_rate}
            folder.progress.add({"clock": clock, "steps": clock, "time/time_elapsed": start + took - self.began})
            folder.evaluations.add(row)
            print(f"evaluation at {clock:,}: return {row['mean']:.1f}", flush=True)

    with env:
        model.learn(options.steps, callback=Evaluate())


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BellmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
