"""Agents that the command line names: checkpoints, all those of a run folder, zip files of stable-baselines3."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..agents.core import checkpoint
from ..agents.core.errors import BellmarkError, InvalidCheckpoint, InvalidSetting
from . import arguments
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.agent import Agent
    from ..agents.core.spec import Spec
    from ..envs import VectorEnv


class Found(NamedTuple):
    """An agent, and what its file says beside it."""

    path: Path
    agent: Agent
    env: dict[str, Any]
    """Settings of its environment; empty if the file does not say."""
    manifest: dict[str, Any]
    """Empty for a file of stable-baselines3."""
    tensors: dict[str, Any]


def paths(word: str, every: bool) -> list[Path]:
    """The files that a word means: a file itself; of a run folder `every` checkpoint, or only the last.

    Raises InvalidCheckpoint where there is none.
    """
    path = Path(word)
    if path.is_file():
        return [path]
    folder = RunFolder(path)
    found = folder.checkpoints() if every else [last for last in (folder.last,) if last.exists()]
    if not found:
        raise InvalidCheckpoint(f"{word} is neither a checkpoint nor a run folder that holds one: name another")
    return found


def read(path: Path, device: str = "cpu", allow_unnormalized: bool = False) -> Found:
    """The agent in a file.

    Raises InvalidCheckpoint, or InvalidSetting for a zip that lacks the statistics that its observations were
    normalised with, unless that is allowed.
    """
    if path.suffix == ".zip":
        from ..agents.stable_baselines3 import Unnormalized, load

        with warnings.catch_warnings():
            if not allow_unnormalized:
                warnings.simplefilter("error", Unnormalized)
            try:
                return Found(path, load(path, device=device), {}, {}, {})
            except Unnormalized as warning:
                raise InvalidSetting(
                    f"{warning}; where the environment does that, or only rewards were normalised, say "
                    "--allow-unnormalized"
                ) from warning
    manifest, tensors = checkpoint.read(path)
    agent = checkpoint.restore(manifest, tensors, device=device)
    return Found(path, agent, manifest["env"] or {}, manifest, tensors)


def environment(env_id: str, kwargs: str, settings: dict[str, Any], num_envs: int) -> VectorEnv:
    """The environment that is named, or else the one of an agent's `settings`, as it is evaluated in.

    Raises InvalidSetting if neither is there.
    """
    from ..envs import for_evaluation, make, remake

    if env_id:
        keywords = arguments.keywords(kwargs)
        try:
            return make(env_id, num_envs, **keywords)
        except TypeError as error:
            if isinstance(error, BellmarkError):
                raise
            raise InvalidSetting(f"'{env_id}' cannot be made with {keywords}: {error}") from error
    if kwargs:
        raise InvalidSetting("--env-kwargs needs --env: without it the environment is the one that the files name")
    if not settings:
        raise InvalidSetting("the agents' files do not say in which environment: name one with --env")
    changes = {"num_envs": num_envs} | ({"backend": "sync"} if settings.get("backend") == "async" else {})
    return remake(for_evaluation(settings), **changes)


def require_fit(found: Found, spec: Spec, where: str) -> None:
    """Raises InvalidSetting unless the agent's observations and actions are those of `spec`."""
    own = found.agent.spec
    same = (own.obs_shape, own.actions, own.discrete) == (spec.obs_shape, spec.actions, spec.discrete)
    bounds = ((own.action_low, spec.action_low), (own.action_high, spec.action_high))
    if not same or not all(np.allclose(a, b, rtol=1e-5) for a, b in bounds):
        raise InvalidSetting(f"{found.path} was made for {own}, {where} has {spec}: choose another")
