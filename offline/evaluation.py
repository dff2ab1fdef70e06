"""Judges agents by data: puts together what the estimators of `importance`, and `fqe`, need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..agents.core.agent import Agent
from ..agents.core.buffer import Buffer
from ..agents.core.errors import InvalidData
from . import hdf5
from .behaviour import ROWS, log_probs, probabilities
from .collect import record
from .dataset import Dataset
from .fqe import FQE
from .importance import Trials
from .returns import discounted_sums
from .trajectories import Trajectories, trajectories

if TYPE_CHECKING:
    from ..envs.vector import VectorEnv


def recorded_log_probs(data: Dataset) -> np.ndarray | None:
    """`infos/action_log_probs` of the file, for each transition of the buffer `[M]`; None if it has none.

    Raises InvalidData if they are not one for each of the file's transitions, or not finite.
    """
    name = "infos/action_log_probs"
    if not data.path.is_file() or data.path.open("rb").read(8) != hdf5.SIGNATURE:  # a Minari set, or an npz file
        return None
    found = hdf5.read(data.path, [name]).columns.get(name)
    if found is None:
        return None
    if found.size != data.recorded:
        raise InvalidData(
            f"{data.path} has {found.size} log-probabilities for {data.recorded} transitions: record one for each"
        )
    if not np.isfinite(found).all():
        raise InvalidData(f"{data.path}: '{name}' has NaN or infinity for an action that was taken: record it again")
    valid = data.buffer.valid.view(-1).cpu().numpy()[rows_in_file(data)]
    return found.reshape(-1).astype(np.float64)[valid]


def rows_in_file(data: Dataset) -> np.ndarray:
    """The row of the buffer that holds each transition of the file, also where it is none of the buffer's `[M]`."""
    terminated, truncated = (x.view(-1).cpu().numpy() for x in (data.buffer.terminated, data.buffer.truncated))
    known = data.recorded + terminated.sum() < data.buffer.rows - 1  # with successors, every end has a row of its own
    reset = np.append(False, (terminated | truncated if known else terminated)[:-1])
    return np.flatnonzero(~reset)[: data.recorded]


def judged_log_probs(agent: Agent, buffer: Buffer, rows: np.ndarray, deterministic: bool) -> np.ndarray | None:
    """log pi(a|s) `[M]` of the recorded actions; None for a policy without a density."""
    index = torch.as_tensor(rows, device=buffer.device)
    obs, action = buffer.observations(index), buffer.action.flatten(0, 1)[index]
    if not deterministic:
        return log_probs(agent, obs, action)
    if not agent.spec.discrete or agent.spec.action_choices or hasattr(agent, "act_from"):
        return None
    with torch.no_grad():
        chances = [probabilities(agent, part, True) for part in obs.split(ROWS)]
    return torch.cat(chances).gather(1, action.unsqueeze(1)).squeeze(1).log().double().cpu().numpy()


def padded(values: np.ndarray, found: Trajectories) -> np.ndarray:
    """Values of transitions `[M]` as `[n, T]`, one row per episode, with zeros after its end."""
    table = np.zeros((len(found.first), int(found.lengths.max())))
    table[np.repeat(np.arange(len(found.first)), found.lengths), found.time] = values
    return table


def trials(buffer: Buffer, behaviour: np.ndarray, judged: np.ndarray, fqe: FQE | None = None) -> Trials:
    """The finished episodes of `buffer`, from log b(a|s), log pi(a|s) of its transitions `[M]`; Q and V from `fqe`."""
    found = trajectories(buffer)
    q, value = fqe.estimates(buffer, found.rows) if fqe else (np.zeros(len(found.rows)),) * 2
    columns = (judged - behaviour, found.reward, q, value)
    return Trials(*(padded(column, found) for column in columns)).take(found.whole)


def discounted_returns(buffer: Buffer, gamma: float) -> np.ndarray:
    """sum_t gamma^t r_t of each finished episode `[n]`: their mean is the value of the policy that recorded them."""
    found = trajectories(buffer)
    remaining = np.repeat(found.lengths, found.lengths) - found.time
    return discounted_sums(found.reward, remaining, gamma)[found.first[found.whole]]


def true_returns(
    agent: Any, env: VectorEnv, episodes: int, seed: int, gamma: float, deterministic: bool = True
) -> np.ndarray:
    """Discounted returns of at least `episodes` whole episodes in the environment, up to their end of any kind."""
    played = record(agent, env, seed, episodes=episodes, deterministic=deterministic)
    ended = np.flatnonzero(played["terminals"] | played["timeouts"])
    first = np.concatenate(([0], ended[:-1] + 1))
    remaining = np.repeat(ended, ended - first + 1) - np.arange(len(played["rewards"])) + 1
    return discounted_sums(played["rewards"], remaining, gamma)[first]
