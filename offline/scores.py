"""D4RL's data sets as facts: reference returns, addresses, horizons, and the environment to evaluate in today.

The table `d4rl_scores.csv` beside this file has one row for each id of d4rl 1.1. Its column `env_id` is ours. D4RL's
MuJoCo data come from gym's -v2 environments; gymnasium's -v4 keep their observations and rewards, -v5 change both, so
-v4 is the counterpart. Empty means that there is no honest counterpart: in D4RL's `ant` 84 contact forces are always
zero (D4RL issue 143), and today's environments compute or omit them; the rewards of the Adroit hands other than `pen`
had wrong signs in some releases of gymnasium-robotics (its pull request 220); mazes and kitchen became
goal-conditioned; the others need packages of their own. `module:Name-v1` is an id that gymnasium finds by importing
that module.
"""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterable
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from ..agents.core.errors import UnknownName


class Reference(NamedTuple):
    """What D4RL states about a data set, or about a task: then the fields that its data sets do not share are empty."""

    id: str
    """D4RL's id, or "" for a task."""
    task: str
    """Shortest prefix of the id whose data sets all share these reference returns."""
    ref_min: float
    """Return of D4RL's random policy: score 0."""
    ref_max: float
    """Return of D4RL's expert: score 100."""
    url: str
    """Address of the file, or ""."""
    max_episode_steps: int
    """Horizon in environment steps; 0 if not known."""
    env_id: str
    """gymnasium environment to evaluate in, or "" if there is no counterpart."""
    note: str

    def normalize(self, returns: Any) -> np.ndarray:
        """Undiscounted returns, in the units of the environment, as scores: 0 is random, 100 is the expert."""
        return 100.0 * (np.asarray(returns, np.float64) - self.ref_min) / (self.ref_max - self.ref_min)


@cache
def references() -> dict[str, Reference]:
    """Every data set of d4rl 1.1, by id. The one without reference returns has NaN."""
    text = resources.files(__package__).joinpath("d4rl_scores.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    scale = {row["id"]: (row["ref_min"], row["ref_max"]) for row in rows}
    return {
        row["id"]: Reference(
            id=row["id"],
            task=_task(row["id"], scale) or row["id"],
            ref_min=float(row["ref_min"] or "nan"),
            ref_max=float(row["ref_max"] or "nan"),
            url=row["url"],
            max_episode_steps=int(row["max_episode_steps"]),
            env_id=row["env_id"],
            note=row["note"],
        )
        for row in rows
    }


def find(name: str) -> Reference | None:
    """The reference of a D4RL id, an evaluation environment, a task, or a name that begins with a task.

    Underscores count as hyphens, so `halfcheetah_medium-zoo` belongs to the task `halfcheetah`. None if there is
    none, or more than one: `maze2d-umaze` has other reference returns in -v0 than in -v1.
    """
    table, hyphens = references(), name.replace("_", "-")
    if name in table or hyphens in table:
        return table.get(name) or table[hyphens]
    members = [row for row in table.values() if row.env_id and name in (row.env_id, row.env_id.rpartition(":")[2])]
    if not members:
        task = _task(hyphens, {row.id: (row.ref_min, row.ref_max) for row in table.values()})
        members = [row for row in table.values() if task and row.id.startswith(f"{task}-")]
    return _common(members) if members else None


def normalized_score(dataset_id_or_env: str, returns: Any) -> np.ndarray:
    """D4RL scores of returns, one per episode: `100 (return - ref_min) / (ref_max - ref_min)` (Fu et al. 2020).

    Takes a D4RL id, a task or an evaluation environment. Scores are per episode: average them afterwards.
    Raises UnknownName if D4RL states no reference returns for it; gymnasium's -v5 tasks are none of D4RL's.
    """
    found = find(dataset_id_or_env)
    if found is None or np.isnan(found.ref_min):
        raise unknown("D4RL data set, task or evaluation environment", dataset_id_or_env, _names())
    return found.normalize(returns)


def unknown(what: str, name: str, known: Iterable[str]) -> UnknownName:
    """The error for a name that is none of `known`: names the nearest, or else the families."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return UnknownName(what, name, known if near else {f"{id.partition('-')[0]}-..." for id in references()})


def _names() -> set[str]:
    rows = references().values()
    return {name for row in rows for name in (row.id, row.task, row.env_id.rpartition(":")[2]) if name}


def _task(name: str, scale: dict[str, tuple[Any, Any]]) -> str | None:
    """Shortest prefix of `name`, cut at hyphens, that some ids have and whose ids agree on their `scale`."""
    words = name.split("-")
    for end in range(1, len(words) + 1):
        prefix = "-".join(words[:end])
        scales = {str(value) for key, value in scale.items() if key.startswith(f"{prefix}-")}
        if len(scales) == 1:
            return prefix
    return None


def _common(members: list[Reference]) -> Reference:
    """What these data sets of one task share."""
    first = members[0]
    steps = {row.max_episode_steps for row in members}
    environments = {row.env_id for row in members}
    return first._replace(
        id="",
        url="",
        note="",
        max_episode_steps=steps.pop() if len(steps) == 1 else 0,
        env_id=environments.pop() if len(environments) == 1 else "",
    )
