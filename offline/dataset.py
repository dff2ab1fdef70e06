"""`bellmark.dataset(name_or_path)`: recorded transitions in the one buffer, with the scale to score them on."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.buffer import Buffer
from ..agents.core.errors import InvalidData, InvalidSetting, UnknownName
from ..agents.core.spec import Spec
from . import d4rl, download
from .interface import make_spec, to_agent_units
from .recording import Episodes, Recording, episodes
from .scores import Reference, find, references, unknown


@dataclass(frozen=True)
class Options:
    """What may be done to the data on the way in. All of it is recorded in `Dataset.describe`."""

    env_id: str | None = None
    """Evaluation environment; by default the one the file names, or D4RL's counterpart. "" = none."""
    task: str = ""
    """D4RL task or id whose reference returns hold; by default the one that the name begins with."""
    max_episode_steps: int = 0
    """Horizon for files that do not say where episodes were cut off; 0 = D4RL's, if known."""
    reward_scale: float = 1.0
    """Rewards are multiplied by this."""
    reward_shift: float = 0.0
    """Added to every reward after scaling; -1 is usual for AntMaze."""
    scale_returns: bool = False
    """First scale rewards so that the best and the worst episode differ by 1000, as IQL does for MuJoCo."""
    clip_actions: bool = False
    """Clip actions beyond the bounds instead of refusing the file."""

    def __post_init__(self) -> None:
        if self.max_episode_steps < 0:
            raise InvalidSetting(f"the option max_episode_steps = {self.max_episode_steps} must be at least 0")
        for name in ("reward_scale", "reward_shift"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be a finite number")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions in a buffer, and everything that is known about them. Made by `dataset`."""

    id: str
    """D4RL's id, or the name of the file."""
    path: Path
    sha256: str
    """Hash of the file's content, in hexadecimal."""
    buffer: Buffer
    """The transitions: actions in [-1, 1], rewards after the options."""
    spec: Spec
    env_id: str
    """gymnasium environment to evaluate in, or "" if none is known."""
    reference: Reference | None
    """D4RL's reference returns, or None if none are known."""
    episodes: Episodes
    """Returns (of the rewards in the file, before the options) and lengths of the finished episodes."""
    options: Options
    reward_factor: float
    """What `scale_returns` multiplied rewards by, else 1."""
    metadata: dict[str, str | int | float]
    boundaries: str
    """How the ends of episodes were found, in words."""
    recorded: int
    """Transitions in the file; those without a known successor are not in the buffer."""

    @property
    def episode_returns(self) -> np.ndarray:
        """[E] undiscounted, in the units of the environment."""
        return self.episodes.returns

    @property
    def episode_lengths(self) -> np.ndarray:
        """[E] transitions."""
        return self.episodes.lengths

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments with which the evaluation environment is D4RL's: the horizon."""
        horizon = self.reference.max_episode_steps if self.reference and self.env_id == self.reference.env_id else 0
        return {"max_episode_steps": horizon} if horizon and self.env_id else {}

    def normalized(self, returns: Any) -> np.ndarray:
        """D4RL scores of returns, one per episode. Raises UnknownName where no reference returns are known."""
        if self.reference is None:
            tasks = {row.task for row in references().values()}
            raise UnknownName("D4RL task with reference returns for (state one with task=...) data", self.id, tasks)
        return self.reference.normalize(returns)

    @property
    def protocol(self) -> str:
        """How scores on these data come about, in one line."""
        parts = ["undiscounted return, not normalised"]
        if self.reference is not None:
            low, high = self.reference.ref_min, self.reference.ref_max
            parts = [f"D4RL normalised score, task {self.reference.task} (0 = {low:.2f}, 100 = {high:.2f})"]
        parts.append(f"evaluation environment {self.env_id or 'none'}")
        if self.reference is not None and self.env_id not in ("", self.reference.env_id):
            parts.append(f"not D4RL's environment (counterpart: {self.reference.env_id or 'none'})")
        parts.append(f"data {self.id} sha256 {self.sha256[:12]}")
        if self.reference is not None and self.reference.id != self.id:
            found = "stated by the user" if self.options.task else "found by the task in the file's name"
            parts.append(f"not D4RL's own data, reference returns {found}")
        return ", ".join(parts)

    def describe(self) -> dict[str, Any]:
        """All of this as plain values, for a manifest."""
        reference = None
        if self.reference is not None:
            reference = {key: getattr(self.reference, key) for key in ("id", "task", "ref_min", "ref_max")}
        return {
            "id": self.id,
            "path": str(self.path),
            "sha256": self.sha256,
            "recorded": self.recorded,
            "transitions": self.buffer.transitions,
            "episodes": len(self.episode_returns),
            "unfinished": self.episodes.unfinished,
            "terminated": int(self.buffer.terminated.sum()),
            "mean_return": float(self.episode_returns.mean()),
            "mean_length": float(self.episode_lengths.mean()),
            "boundaries": self.boundaries,
            "env_id": self.env_id,
            "env_kwargs": self.env_kwargs,
            "reference": reference,
            "protocol": self.protocol,
            "options": dataclasses.asdict(self.options),
            "reward_factor": self.reward_factor,
            "metadata": self.metadata,
        }


def dataset(name_or_path: str | os.PathLike[str], *, device: str = "cpu", **options: Any) -> Dataset:
    """The data set of a D4RL id (from the cache, or downloaded), or in an HDF5 file of D4RL's schema.

    `options` are the fields of `Options`. Raises UnknownName for an id or option that does not exist, InvalidData for
    a file that is no sound recording or does not fit its environment, DownloadFailed, InvalidSetting.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    for name in options:
        if name not in known:
            raise UnknownName("data set option", name, known)
    chosen = Options(**options)
    name, path, reference = _locate(name_or_path, chosen)
    sha256 = download.file_sha256(path)
    download.verify(path, sha256)
    recording = d4rl.read(path, chosen.max_episode_steps or (reference.max_episode_steps if reference else 0))
    played = episodes(recording.reward, recording.terminated | recording.truncated)
    factor = _return_factor(played.returns, path) if chosen.scale_returns else 1.0
    env_id = _environment(recording, chosen, reference)
    spec, env_id = make_spec(recording, env_id, required=chosen.env_id is not None)
    obs, action, next_obs = to_agent_units(recording, spec, str(path), env_id, clip=chosen.clip_actions)
    with np.errstate(over="ignore", invalid="ignore"):
        reward = recording.reward * np.float32(factor * chosen.reward_scale) + np.float32(chosen.reward_shift)
    if not np.isfinite(reward).all():
        raise InvalidSetting(f"the rewards of {path} are beyond all bounds after {chosen}: lower the scale")
    buffer = Buffer.from_transitions(
        spec,
        obs=obs,
        action=action,
        reward=reward,
        terminated=recording.terminated,
        truncated=recording.truncated,
        next_obs=next_obs,
        device=device,
    )
    if not buffer.transitions:
        raise InvalidData(f"{path} holds no transition whose successor is known: record more, or 'next_observations'")
    return Dataset(
        id=name,
        path=path,
        sha256=sha256,
        buffer=buffer,
        spec=spec,
        env_id=env_id,
        reference=reference,
        episodes=played,
        options=chosen,
        reward_factor=factor,
        metadata=recording.metadata,
        boundaries=recording.boundaries,
        recorded=len(reward),
    )


def _locate(name_or_path: str | os.PathLike[str], chosen: Options) -> tuple[str, Path, Reference | None]:
    """The id, the file (in the cache folder if not here; downloaded if need be), and its reference returns.

    A file whose name is D4RL's own is taken for D4RL's; any other gets the reference returns of the task in its name.
    """
    name, path = os.fspath(name_or_path), Path(name_or_path).expanduser()
    if not path.is_file() and (download.cache_folder() / name).is_file():
        path = download.cache_folder() / name
    if path.is_file():
        same_name = [row for row in references().values() if row.url.rpartition("/")[2] == path.name]
        reference = find(path.stem) or (same_name[0] if len(same_name) == 1 else None)
        name = reference.id if reference and reference.id else path.stem
    elif name in references():
        reference = references()[name]
        path = download.local_file(reference)
    elif path.suffix or len(path.parts) > 1:
        raise InvalidData(
            f"there is no file {path}: give the path of an HDF5 file, or a D4RL id such as hopper-medium-v2"
        )
    else:
        raise unknown("HDF5 file or D4RL data set", name, references())
    if chosen.task and (reference := find(chosen.task)) is None:
        raise unknown("D4RL task", chosen.task, {row.task for row in references().values()})
    return name, path, None if reference is None or np.isnan(reference.ref_min) else reference


def _environment(recording: Recording, chosen: Options, reference: Reference | None) -> str:
    """What the user chose, or the file names (first word of `metadata/environment`), or D4RL's counterpart.

    None, with a warning, if gymnasium would import a module to find the one in the file: a file runs no code.
    """
    if chosen.env_id is not None:
        return chosen.env_id
    stated = str(recording.metadata.get("environment", "")).replace(",", " ").split()
    if not stated:
        return reference.env_id if reference else ""
    module, colon, _ = stated[0].rpartition(":")
    if colon and module not in sys.modules:
        allow = f"give env_id={stated[0]!r} to allow that"
        warnings.warn(f"no evaluation on these data: {stated[0]} imports '{module}', {allow}", stacklevel=3)
        return ""
    return stated[0]


def _return_factor(returns: np.ndarray, path: Path) -> float:
    spread = float(returns.max() - returns.min())
    if spread == 0.0:
        raise InvalidSetting(
            f"scale_returns has no meaning for {path}: all its episodes have the same return; leave it out"
        )
    return 1000.0 / spread
