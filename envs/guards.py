"""NaN and infinity where they enter: found in a microsecond, then stopped, dropped or clipped."""

from __future__ import annotations

import numpy as np

from ..agents.core.errors import NotFinite

LIMIT = 1e6
"""What infinite observations and rewards are clipped to: beyond those of any task, and the sum of the squares of a
batch of them is still finite in float32."""
PATIENCE = 100
"""Steps in a row without one transition that can be kept, after which `skip` gives up."""


class Guard:
    """What is done about values that are not finite. See `VectorEnv.non_finite`."""

    def __init__(self, env_id: str, checks_obs: bool):
        self.env_id, self.checks_obs = env_id, checks_obs
        self.mode = "stop"
        self.count = 0
        """Times that a column's observation, reward or action was skipped or clipped."""
        self._vain, self._vain_at = 0, 0

    def action(self, values: np.ndarray, step: int) -> np.ndarray | None:
        """Mends actions `[N, actions]` in place. Gives the columns [N] whose step is to be dropped, None for none."""
        return None if _is_finite(values) else self._mend("action", values, step, limit=1.0)

    def first_obs(self, values: np.ndarray, step: int) -> np.ndarray:
        """Observations after a reset, mended in place. They cannot be skipped."""
        if self.checks_obs and not _is_finite(values):
            self._mend("observation", values, step, droppable=False)
        return values

    def restored(self, values: np.ndarray) -> None:
        """Mends saved observations `[N, ...]` in place: they are as the environment gave them, already counted."""
        if self.checks_obs:
            _clip(values, LIMIT)

    def transition(self, reward: np.ndarray, next_obs: np.ndarray, obs: np.ndarray, step: int) -> np.ndarray | None:
        """Mends what a step gave in place. Gives the columns [N] to be dropped, None for none."""
        fine = _is_finite(reward)
        if fine and self.checks_obs:
            fine = _is_finite(next_obs) and (obs is next_obs or _is_finite(obs))
        if fine:
            return None
        found = self._mend("reward", reward, step)
        for values in (next_obs, obs) if self.checks_obs else ():
            found |= self._mend("observation", values, step)
        return found

    def in_vain(self, step: int) -> None:
        """Notes a step without a transition. Raises NotFinite after too many in a row."""
        self._vain = self._vain + 1 if self._vain_at == step - 1 else 1
        self._vain_at = step
        if self._vain == PATIENCE:
            raise NotFinite(
                f"'{self.env_id}' gave no transition that could be kept for {PATIENCE} steps, up to step {step}: the "
                "actions or the environment are NaN or infinite throughout, and skipping does not help."
            )

    def _mend(
        self, what: str, values: np.ndarray, step: int, limit: float = LIMIT, droppable: bool = True
    ) -> np.ndarray:
        """The columns [N] to be dropped. Raises NotFinite if the values may be neither dropped nor clipped."""
        broken = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
        if broken.any() and (self.mode == "stop" or (self.mode == "skip" and not droppable)):
            column = int(broken.argmax())
            remedy = "lower the learning rate, or clip the gradients" if what == "action" else "mend the environment"
            raise NotFinite(
                f"the {what} of environment {column} of '{self.env_id}' at step {step} is not finite "
                f"({values[column]}): {remedy}, or set non_finite to 'skip' or 'clip'."
            )
        self.count += int(broken.sum())
        _clip(values, limit)
        return broken if self.mode == "skip" else np.zeros_like(broken)


def _clip(values: np.ndarray, limit: float) -> None:
    np.nan_to_num(values, copy=False, nan=0.0, posinf=limit, neginf=-limit)


def _is_finite(values: np.ndarray) -> bool:
    finite = np.isfinite(values)
    return np.count_nonzero(finite) == finite.size  # half the time of finite.all()
