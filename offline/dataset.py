"""`bellmark.dataset(name_or_path)`: recorded transitions in the one buffer, with the scale to score them on."""

from __future__ import annotations

import dataclasses
import os
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ..agents.core.buffer import Buffer
from ..agents.core.errors import UnknownName
from ..agents.core.spec import Spec
from . import mapping, preparing, sources, splitting
from .options import Options
from .recording import Episodes
from .returns import ReturnsToGo
from .scores import Reference, references


@dataclass(frozen=True, eq=False)
class Dataset:
    """Transitions in a buffer, and everything that is known about them. Made by `dataset`."""

    id: str
    """D4RL's id, or the name of the file."""
    path: Path
    sha256: str
    """Hash of the file's content, in hexadecimal."""
    buffer: Buffer
    """The transitions to learn from: actions in [-1, 1], rewards after the options, without what is set aside."""
    validation: Buffer | None
    """Another view of the same rows: the episodes that are set aside, or None if none are."""
    split: dict[str, Any]
    """How many episodes and transitions were kept, set aside and left out."""
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

    def returns_to_go(self, gamma: float = 1.0) -> Tensor:
        """[T] discounted sums of reward from each row of `buffer` to the end of its episode, -infinity where unknown.

        Unknown are rows that are no transition of the buffer, and those of episodes that were left off unfinished.
        """
        column = ReturnsToGo(gamma)
        column.agree(self.buffer)
        return column.column

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Arguments with which the evaluation environment is that of the data, else D4RL's: the horizon."""
        horizon, _ = sources.env_keywords(self.metadata, self.env_id)
        if not horizon and self.reference and self.env_id == self.reference.env_id:
            horizon = self.reference.max_episode_steps
        return {"max_episode_steps": horizon} if horizon and self.env_id else {}

    @property
    def missing_keywords(self) -> list[str]:
        """Keywords, other than the horizon, with which the data were collected and the evaluation environment is not.

        A file may not shape environments.
        """
        return sources.env_keywords(self.metadata, self.env_id)[1] if self.env_id else []

    def normalized(self, returns: Any) -> np.ndarray:
        """D4RL scores of returns, one per episode. Raises UnknownName where no reference returns are known."""
        if self.reference is None:
            tasks = {row.task for row in references().values()}
            raise UnknownName("D4RL task with reference returns for (state one with task=...) data", self.id, tasks)
        return self.reference.normalize(returns)

    @property
    def protocol(self) -> str:
        """How scores on these data come about, in one line."""
        parts, horizon = ["undiscounted return, not normalised"], self.env_kwargs.get("max_episode_steps", 0)
        if self.reference is not None:
            low, high = self.reference.ref_min, self.reference.ref_max
            parts = [f"D4RL normalised score, task {self.reference.task} (0 = {low:.2f}, 100 = {high:.2f})"]
        parts.append(f"evaluation environment {self.env_id or 'none'}")
        if self.reference is not None and self.env_id not in ("", self.reference.env_id):
            parts.append(f"not D4RL's environment (counterpart: {self.reference.env_id or 'none'})")
        elif self.reference is not None and len({horizon, self.reference.max_episode_steps} - {0}) == 2:
            parts.append(f"a horizon of {horizon}, not D4RL's {self.reference.max_episode_steps}")
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
            "terminated": int((self.buffer.terminated & self.buffer.valid).sum()),
            "mean_return": float(self.episode_returns.mean()),
            "mean_length": float(self.episode_lengths.mean()),
            "boundaries": self.boundaries,
            "env_id": self.env_id,
            "env_kwargs": self.env_kwargs,
            "reference": reference,
            "protocol": self.protocol,
            "options": dataclasses.asdict(self.options),
            "reward_factor": self.reward_factor,
            "split": self.split,
            "metadata": self.metadata,
        }


def dataset(name_or_path: str | os.PathLike[str], *, device: str = "cpu", **options: Any) -> Dataset:
    """The data set of a D4RL id (from the cache, or downloaded), of a local Minari id, or in an HDF5 or npz file.

    `options` are the fields of `Options`. Raises UnknownName for an id or option that does not exist, InvalidData for
    a file that is no sound recording or does not fit its environment, DownloadFailed, InvalidSetting.
    """
    known = [field.name for field in dataclasses.fields(Options)]
    for name in options:
        if name not in known:
            raise UnknownName("data set option", name, known)
    chosen = Options(**options)
    name, path, reference = sources.locate(name_or_path, chosen)
    sha256 = sources.sha256(path)
    prepare = partial(preparing.prepare, path, chosen, reference, device)
    prepared = mapping.prepare(path, sha256, chosen, prepare, device) if chosen.memory_map else prepare()
    prepared.buffer.reward_change = float(prepared.factor * chosen.reward_scale), float(chosen.reward_shift)
    training, validation, split = splitting.split(prepared.buffer, chosen)
    found = Dataset(
        id=name,
        path=path,
        sha256=sha256,
        buffer=training,
        validation=validation,
        split=split,
        spec=prepared.buffer.spec,
        env_id=prepared.env_id,
        reference=reference,
        episodes=prepared.episodes,
        options=chosen,
        reward_factor=prepared.factor,
        metadata=prepared.metadata,
        boundaries=prepared.boundaries,
        recorded=prepared.recorded,
    )
    if found.missing_keywords:
        warnings.warn(f"{found.id}: {without(found)}", stacklevel=2)
    return found


def without(data: Dataset) -> str:
    """What one should know where the evaluation environment lacks keywords, in a sentence."""
    names = ", ".join(data.missing_keywords[:20])
    return (
        f"recorded in {data.env_id} with {names}, which are not taken from a file: evaluations are in one without, "
        "unless you make it yourself"
    )
