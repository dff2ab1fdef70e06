"""`bellmark evaluate RUN`: whole episodes with a trained agent, and under which protocol."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from ..agents.core.errors import InvalidCheckpoint, InvalidSetting
from .run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs whole episodes and states the score with its protocol. Writes nothing but `--json` and pictures."""

    run: Positional[str]
    """A run folder, or a checkpoint."""
    episodes: int = 10
    """Whole episodes."""
    seed: int = -1
    """Seed of the episodes; by default a stream of the run's seed that its training never used."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of a run folder; a best one was chosen by its score, so it flatters."""
    stochastic: bool = False
    """Act as in training, with exploration, instead of deterministically."""
    env: str = ""
    """Another environment than the one it was trained in."""
    device: str = "cpu"
    """Where the networks live."""
    json: str = ""
    """File to write all of it to, with the return of each episode."""
    distribution: str = ""
    """Picture (.png or .svg) to draw of the returns that a distributional agent expects along an episode."""
    video: str = ""
    """Film (.mp4 or .gif) to make of an episode, with its return and the agent's value estimate."""
    values: str = ""
    """Picture (.png, .svg or .pdf) to draw of the agent's values along an episode, beside the returns that came."""


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark evaluate")
    result = evaluate(arguments)
    show(result)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2), encoding="utf-8")
    return 0


def evaluate(arguments: Arguments) -> dict[str, Any]:
    """All that there is to say, as plain values."""
    import torch

    from ..agents.core import checkpoint
    from ..agents.core.seeding import derive
    from ..envs import evaluate as run_episodes
    from ..envs import for_evaluation, human_normalized, make, remake
    from . import episode_pictures, return_distribution
    from .manifest import EVALUATION_ENVS
    from .training import require_device

    torch.set_num_threads(1)
    require_device(arguments.device)
    picture = return_distribution.checked(arguments.distribution)
    episode_pictures.require(arguments.video, arguments.values)
    path, run = locate(arguments)
    saved, tensors = checkpoint.read(path)
    agent = checkpoint.restore(saved, tensors, device=arguments.device)
    seed = arguments.seed if arguments.seed >= 0 else derive(agent.seed, "evaluation after training")
    columns = max(min(EVALUATION_ENVS, arguments.episodes), 1)
    if not arguments.env and not saved["env"]:
        raise InvalidSetting(f"{path} does not say in which environment: name one with --env")
    settings = for_evaluation(saved["env"] or {})
    changes = {"num_envs": columns} | ({"backend": "sync"} if settings.get("backend") == "async" else {})
    with make(arguments.env, columns) if arguments.env else remake(settings, **changes) as env:
        if env.spec != agent.spec:
            raise InvalidSetting(f"'{env.env_id}' has {env.spec}, the agent was made for {agent.spec}: choose --env")
        env.non_finite = agent.config.non_finite
        if picture is not None:
            title = f"{agent.name} on {env.env_id}, seed {seed}"
            forecast = return_distribution.forecast(agent, env, seed, deterministic=not arguments.stochastic)
            return_distribution.write(return_distribution.draw(forecast, title), picture)
        if arguments.video or arguments.values:
            how: Any = {"deterministic": not arguments.stochastic, "video": arguments.video, "values": arguments.values}
            episode_pictures.make(agent, env.settings, seed, **how)
        found = run_episodes(agent, env, arguments.episodes, seed, deterministic=not arguments.stochastic)
        result: dict[str, Any] = {
            "checkpoint": str(path),
            "agent": agent.name,
            "env": env.env_id,
            "env_settings": env.settings,
        }
    result |= {"steps": agent.steps, "updates": agent.updates, "train_seed": agent.seed}
    result |= {"episodes": arguments.episodes, "environments": columns, "seed": seed}
    result |= {"deterministic": not arguments.stochastic, "versions": checkpoint.versions()}
    result |= summary("return", found.returns) | {"mean_length": float(found.lengths.mean())}
    result |= {"returns": found.returns.tolist(), "lengths": found.lengths.tolist()}
    if found.success_rate is not None:
        result |= {"success_rate": found.success_rate, "successes": found.successes.tolist()}
    if (human := human_normalized(env.env_id, found.returns)) is not None:
        result |= summary("human", human)
    data = run.manifest()["data"] if run else None
    if data and data.get("reference") and env.env_id == data["env_id"]:
        low, high = data["reference"]["ref_min"], data["reference"]["ref_max"]
        result |= summary("score", 100.0 * (found.returns - low) / (high - low)) | {"score_protocol": data["protocol"]}
    return result


def locate(arguments: Arguments) -> tuple[Path, RunFolder | None]:
    """The checkpoint, and the run folder that it lies in if it does."""
    path = Path(arguments.run)
    if path.is_dir():
        folder = RunFolder(path)
        chosen = folder.best if arguments.which == "best" else folder.last
        if not chosen.exists():
            raise InvalidCheckpoint(f"{path} holds no {chosen.name}: the run has not come to its first one")
        return chosen, folder if folder.manifest_file.exists() else None
    folder = RunFolder(path.parent)
    return path, folder if folder.manifest_file.exists() else None


def summary(name: str, values: np.ndarray) -> dict[str, float]:
    numbers = {"mean": values.mean(), "std": values.std(), "min": values.min(), "max": values.max()}
    return {f"{name}_{key}": float(number) for key, number in numbers.items()}


def show(result: dict[str, Any]) -> None:
    print(f"{result['agent']} on {result['env']}, {result['checkpoint']}")
    trained = f"{result['steps']:,} environment steps, {result['updates']:,} updates"
    print(f"  trained     {trained}, seed {result['train_seed']}")
    for name, words in (("return", "return     "), ("human", "human-norm."), ("score", "D4RL score ")):
        if f"{name}_mean" in result:
            low, high = result[f"{name}_min"], result[f"{name}_max"]
            print(
                f"  {words} {result[f'{name}_mean']:.2f} ± {result[f'{name}_std']:.2f}  (min {low:.2f}, max {high:.2f})"
            )
    if "success_rate" in result:
        print(f"  successes   {result['success_rate']:.2f} of the episodes reached their goal")
    how = "deterministic" if result["deterministic"] else "stochastic"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    print(f"  protocol    {result['episodes']} episodes (± over them), {how}, seed {result['seed']}; {versions}")
    if "score_protocol" in result:
        print(f"              {result['score_protocol']}")
