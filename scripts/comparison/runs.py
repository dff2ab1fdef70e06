"""The runs that are compared, whoever made them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

SHORT = 0.98
"""Share of the longest training of its contestant from which one counts as equally long."""


class Run(NamedTuple):
    """One training of one contestant in one environment with one seed."""

    contestant: str
    env: str
    """Environment, or data set."""
    seed: int
    clock: np.ndarray
    """[E] int64: environment steps (on data: updates) at each evaluation, increasing."""
    mean: np.ndarray
    """[E] float64: mean return over the episodes of each evaluation (on D4RL's data: mean score)."""
    unit: str = "steps"
    seconds: float = np.nan
    """Of training, without evaluations."""
    memory: float = np.nan
    """Most bytes that the process had in memory."""
    scale: tuple[float, float] | None = None
    """The values of `mean` that are scores 0 and 1, where the run states them."""
    source: str = ""
    """Where it was read."""
    protocol: str = ""
    """How it was evaluated, in words."""
    command: str = ""
    """What repeats it."""
    settings: Mapping[str, Any] = {}
    """The agent's, and the options of its data."""
    versions: Mapping[str, str] = {}
    data_hash: str = ""
    untranslated: tuple[str, ...] = ()
    """Settings of ours that its library cannot have."""
    end: int = 0
    """Clock at which it is finished; 0 if it does not say."""

    @property
    def finished(self) -> bool:
        return bool(self.clock[-1] >= self.end)

    def score(self, which: str) -> float:
        """The run's one number: its last evaluation, or its best."""
        return float(self.mean.max() if which == "best" else self.mean[-1])


class Published(NamedTuple):
    """A published score: no runs, only their mean and spread."""

    contestant: str
    env: str
    clock: int
    """0 if it is not stated."""
    mean: float
    std: float
    """NaN if it is not stated."""
    seeds: int
    """0 if it is not stated."""
    spread: str
    """What `std` is, in the source's words."""
    source: str

    @property
    def deviation(self) -> float:
        """The standard deviation over seeds with divisor n - 1; NaN where the source's spread is something else."""
        if self.seeds < 2 or "seeds" not in self.spread or "episodes" in self.spread:
            return float("nan")
        if "standard error" in self.spread:
            return self.std * self.seeds**0.5
        return self.std * (self.seeds / (self.seeds - 1)) ** 0.5 if "population" in self.spread else self.std


def of(runs: Iterable[Run], contestant: str, env: str) -> list[Run]:
    """Those of one contestant in one environment, by seed."""
    found = [run for run in runs if (run.contestant, run.env) == (contestant, env)]
    return sorted(found, key=lambda run: run.seed)


def whole(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs without unfinished ones that others of the same contestant are ahead of, and a warning that names these.

    Runs that do not say when they are finished stay.
    """
    longest: dict[tuple[str, str], int] = {}
    for run in runs:
        longest[run[:2]] = max(longest.get(run[:2], 0), int(run.clock[-1]))
    behind = [run for run in runs if not run.finished and run.clock[-1] < SHORT * longest[run[:2]]]
    warnings = [
        f"{run.contestant}, {run.env}, seed {run.seed}: left out, for it is unfinished "
        f"({run.clock[-1]:,} of {run.end:,}): go on with `bellmark resume {run.source}`"
        for run in behind
    ]
    return [run for run in runs if all(run is not other for other in behind)], warnings


def named(runs: list[Run], taken: Iterable[str]) -> list[Run]:
    """The runs that were read from folders, each contestant named by its agent.

    Where an agent has several settings in one environment, its name states those that differ. A name in `taken` gets
    the word "read".
    """
    found = []
    for run in runs:
        rivals = [other for other in runs if (other.contestant, other.env) == (run.contestant, run.env)]
        differ = [key for key in run.settings if any(other.settings.get(key) != run.settings[key] for other in rivals)]
        label = run.contestant + ":" * bool(differ) + ",".join(f"{key}={plain(run.settings[key])}" for key in differ)
        found.append(run._replace(contestant=f"{label} (read)" if label in taken else label))
    return found


def plain(value: Any) -> str:
    return str(value).replace(" ", "")
