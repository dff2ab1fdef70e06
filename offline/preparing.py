"""From a recording to the rows of the one buffer: rewards, observations and actions as the options say."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..agents.core.buffer import Buffer
from ..agents.core.errors import InvalidData, InvalidSetting
from . import hdf5, sources
from .interface import make_spec, to_agent_units
from .options import Options
from .recording import Episodes, episodes
from .scores import Reference


class Prepared(NamedTuple):
    """Rows, and what is known about them."""

    buffer: Buffer
    env_id: str
    episodes: Episodes
    factor: float
    """What `scale_returns` multiplied rewards by, else 1."""
    metadata: dict[str, str | int | float]
    boundaries: str
    recorded: int


def prepare(
    path: Path,
    chosen: Options,
    reference: Reference | None,
    device: str,
    columns: hdf5.Allocate = hdf5.in_memory,
    rows: hdf5.Allocate | None = None,
) -> Prepared:
    """Reads a file and lays it out; `columns` and `rows` give the arrays for what is read and for what results.

    Raises InvalidData, InvalidSetting.
    """
    recording = sources.read(
        path, chosen.max_episode_steps or (reference.max_episode_steps if reference else 0), columns
    )
    played = episodes(recording.reward, recording.terminated | recording.truncated)
    factor = _return_factor(played.returns, path) if chosen.scale_returns else 1.0
    env_id = sources.environment(recording, chosen, reference)
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
        allocate=rows,
    )
    if not buffer.transitions:
        raise InvalidData(f"{path} holds no transition whose successor is known: record more, or 'next_observations'")
    return Prepared(buffer, env_id, played, factor, recording.metadata, recording.boundaries, len(reward))


def _return_factor(returns: np.ndarray, path: Path) -> float:
    spread = float(returns.max() - returns.min())
    if spread == 0.0:
        raise InvalidSetting(
            f"scale_returns has no meaning for {path}: all its episodes have the same return; leave it out"
        )
    return 1000.0 / spread
