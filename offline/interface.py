"""How a recording fits an environment: the spec, and observations and actions in the agent's own units."""

from __future__ import annotations

import warnings

import numpy as np

from ..agents.core.errors import InvalidData, InvalidSetting
from ..agents.core.spec import Spec
from .recording import Recording

MARGIN = 1e-3
"""Actions this little outside [-1, 1] are taken for rounding and clipped."""


def make_spec(recording: Recording, env_id: str, required: bool = False) -> tuple[Spec, str]:
    """The spec from the spaces of the environment, and its id; from the data, and "", where there is none.

    From the data: actions with fractions are in [-1, 1], integers are choices from 0 to the greatest that occurs.
    An environment that cannot be made (its package is not installed) is done without, with a warning; if it is
    `required`, raises InvalidSetting.
    """
    import gymnasium

    if env_id:
        try:
            with warnings.catch_warnings():  # gymnasium calls -v4 out of date; for D4RL's data it is the right version
                warnings.simplefilter("ignore")
                environment = gymnasium.make(env_id)
        except Exception as error:  # an environment's own code may raise anything
            if required:
                raise InvalidSetting(f"the evaluation environment {env_id} cannot be made: {error}") from error
            warnings.warn(f"no evaluation on these data: {env_id} cannot be made ({error})", stacklevel=3)
        else:
            spec = Spec.from_spaces(environment.observation_space, environment.action_space)
            environment.close()
            return spec, env_id
    obs, action = recording.obs, recording.action
    image = obs.ndim == 4 and obs.dtype == np.uint8
    shape, dtype = (obs.shape[1:], "uint8") if image else ((obs[0].size,), "float32")
    if action.ndim == 1:
        return Spec(shape, int(action.max()) + 1, discrete=True, obs_dtype=dtype), ""
    size = action.shape[1]
    low, high = (-1.0,) * size, (1.0,) * size
    spec = Spec(shape, size, discrete=False, obs_dtype=dtype, action_shape=(size,), action_low=low, action_high=high)
    return spec, ""


def to_agent_units(
    recording: Recording, spec: Spec, source: str, env_id: str, clip: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Observations `[M, *obs_shape]`, actions `[M, A]` in [-1, 1] (or int64 `[M]`), and successors if there are any.

    Raises InvalidData if the shapes are not those of `spec`, or if actions are out of bounds and `clip` is not set.
    """
    where = env_id or "the data"
    size = 1 if spec.obs_choices else spec.obs_size
    if recording.obs[0].size != size:
        raise InvalidData(
            f"{source} has observations of {recording.obs[0].size} values, {where} has {size}: give the environment "
            "that the data are from (env_id=...), or none (env_id='') to train without evaluation"
        )
    if spec.discrete != (recording.action.ndim == 1) or (
        not spec.discrete and recording.action.shape[1] != spec.actions
    ):
        kind = "choices" if recording.action.ndim == 1 else f"{recording.action.shape[1]} dimensions"
        wanted = f"{spec.actions} {'choices' if spec.discrete else 'dimensions'}"
        raise InvalidData(
            f"{source} has actions of {kind}, {where} has {wanted}: "
            "give the environment that the data are from (env_id=...), or none (env_id='')"
        )
    action = _encode_actions(recording.action, spec, source, where, clip)
    next_obs = None if recording.next_obs is None else _encode_obs(recording.next_obs, spec, source, where)
    return _encode_obs(recording.obs, spec, source, where), action, next_obs


def _encode_obs(raw: np.ndarray, spec: Spec, source: str, where: str) -> np.ndarray:
    if spec.obs_choices:
        sound = np.equal(raw, raw.round()) & (raw >= spec.obs_start) & (raw < spec.obs_start + spec.obs_choices)
        if not sound.all():
            raise InvalidData(f"{source} has observations that are none of the {spec.obs_choices} states of {where}")
        raw = raw.astype(np.int64)
    image = (*spec.obs_shape[1:], spec.obs_shape[0]) if spec.channels_last else spec.obs_shape
    if spec.is_image and (raw.shape[1:] != image or raw.dtype != np.uint8):
        raise InvalidData(f"{source} has observations {raw.dtype} {raw.shape[1:]}, {where} has images uint8 {image}")
    if spec.channels_last:
        return np.moveaxis(raw, -1, 1)
    if raw.dtype == spec.obs_dtype and not spec.parts:
        return raw.reshape(len(raw), *spec.obs_shape)  # as it is: not copied
    return spec.encode_obs(raw)


def _encode_actions(raw: np.ndarray, spec: Spec, source: str, where: str, clip: bool) -> np.ndarray:
    action = spec.encode_action(raw)
    if spec.discrete:
        outside = (action < 0) | (action >= spec.actions)
        if outside.any():
            row = int(np.argmax(outside))
            raise InvalidData(
                f"{source} has the action {raw[row]} in row {row}, which is none of the {spec.actions} of {where}: "
                "give the environment that the data are from (env_id=...)"
            )
        return action
    greatest = np.abs(action).max(1)
    row = int(np.argmax(greatest))
    if greatest[row] > 1.0 + MARGIN and not clip:
        low, high = min(spec.action_low), max(spec.action_high)
        raise InvalidData(
            f"{source} has actions outside the bounds [{low:g}, {high:g}] of {where}, worst in row {row} "
            f"({_worst(raw[row]):g}): give the environment that the data are from (env_id=...), or clip them "
            "(clip_actions=True)"
        )
    return np.clip(action, -1.0, 1.0, out=action)


def _worst(action: np.ndarray) -> float:
    return float(action.reshape(-1)[np.argmax(np.abs(action))])
