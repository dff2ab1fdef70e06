"""Settings: flat frozen dataclasses. The command line and the documentation are made from them."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self, get_type_hints

import torch

from .errors import InvalidSetting, UnknownName

Schedule = Literal["constant", "linear", "cosine"]
NonFinite = Literal["stop", "skip", "clip"]
Activation = Literal["relu", "tanh", "elu", "gelu", "silu"]
Replay = Literal["uniform", "balanced", "prioritized", "reshuffled", "prioritized_reshuffled", "hindsight"]

LONGEST = 100
"""Most numbers in one setting: each is a layer, say."""


class Bounds(NamedTuple):
    """What values a setting may have."""

    low: float
    high: float = math.inf
    low_included: bool = True

    def hold(self, value: float) -> bool:
        return (value >= self.low if self.low_included else value > self.low) and value <= self.high

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"in {'[' if self.low_included else '('}{self.low:g}, {self.high:g}]"
        return f"{'at least' if self.low_included else 'above'} {self.low:g}"


Share = Annotated[float, Bounds(0.0, 1.0)]
NonNegative = Annotated[float, Bounds(0.0)]
Positive = Annotated[float, Bounds(0.0, low_included=False)]
Count = Annotated[int, Bounds(1)]
Number = Annotated[int, Bounds(0)]
Atoms = Annotated[int, Bounds(2)]


@dataclass(frozen=True)
class Settings:
    """What all settings can do, of agents and of environments."""

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            for bounds in getattr(hint, "__metadata__", ()):
                if not bounds.hold(value):
                    raise InvalidSetting(f"the setting {name} = {value!r} must be {bounds}")
            if isinstance(value, tuple) and not (len(value) <= LONGEST and all(item > 0 for item in value)):
                raise InvalidSetting(f"the setting {name} = {value!r} must hold at most {LONGEST} positive numbers")

    def override(self, settings: Mapping[str, Any]) -> Self:
        """These settings with some replaced. Raises UnknownName for a misspelt one, InvalidSetting for a bad value."""
        hints = get_type_hints(type(self))
        known = [field.name for field in dataclasses.fields(self)]
        for name in settings:
            if name not in known:
                raise UnknownName("setting", name, known)
        return dataclasses.replace(self, **{name: convert(name, v, hints[name]) for name, v in settings.items()})

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`."""
        return cls().override(values)


@dataclass(frozen=True)
class Config(Settings):
    """What every agent has."""

    gamma: Share = 0.99
    """Discount per environment step, in [0, 1]."""
    learning_rate: NonNegative = 3e-4
    """Step size of Adam."""
    schedule: Schedule = "constant"
    """Course of the learning rate over the planned training: constant, or linear or cosine to 0."""
    batch_size: Count = 256
    """Transitions per update."""
    max_grad_norm: NonNegative = 0.0
    """Gradients longer than this are shortened to it, network by network; 0 = never."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of the hidden layers of every network."""
    normalize_obs: bool = False
    """Shift and scale observations by mean and deviation of those seen so far; with replay, up to the first update."""
    non_finite: NonFinite = "stop"
    """On NaN or infinity: stop; or skip that gradient step or transition, or clip to finite numbers, and count."""


@dataclass(frozen=True)
class HeadConfig(Config):
    """How critics' outputs stand for values."""

    critic_head: Literal["scalar", "c51", "two_hot", "hl_gauss", "quantile"] = "scalar"
    """How outputs stand for a value: one number, a histogram (of returns in c51, else of their mean), or quantiles."""
    atoms: Atoms = 101
    """Outputs of a histogram, or of quantiles."""
    value_low: float = -100.0
    """Smallest value of a histogram; what is smaller is clipped to it."""
    value_high: float = 100.0
    """Largest value of a histogram; what is larger is clipped to it."""


@dataclass(frozen=True)
class ReplayConfig(Config):
    """What every agent has that learns from random transitions of a replay buffer."""

    buffer_size: Count = 1_000_000
    """Transitions kept; the oldest are overwritten."""
    start: Number = 10_000
    """Transitions collected with random actions before the first update."""
    train_every: Count = 1
    """Transitions between two visits to the replay buffer."""
    update_ratio: Positive = 1.0
    """Updates per transition."""
    overlap: bool = False
    """Step the environments in a thread while updates run, which then do not know the step that is under way."""
    n_step: Count = 1
    """Rewards summed before bootstrapping."""
    clip_reward: bool = False
    """Learn online from the sign of each reward (Mnih et al. 2015); logs and evaluations state the rewards' sums."""
    replay: Replay = "uniform"
    """Draws: uniform, prioritized by error, reshuffled (each once a pass), balanced (half data), hindsight (goals)."""
    goals_per_transition: Count = 4
    """Draws of a transition with a goal that was achieved later, in hindsight replay, for one with its own goal."""
    priority_exponent: Share = 0.6
    """How far errors decide where draws are prioritized: 0 = not at all, 1 = in proportion."""
    priority_weight: Share = 0.4
    """Exponent of the importance weights of such draws at the beginning; it rises to 1 over the planned training."""


@dataclass(frozen=True)
class RolloutConfig(HeadConfig):
    """What every agent has that learns from what its policy has just done."""

    batch_size: Count = 64
    """Transitions per update; each pass is cut into nearly equal batches of about this size."""
    max_grad_norm: NonNegative = 0.5
    """Gradients longer than this are shortened to it; 0 = never."""
    hidden: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers of policy and critic."""
    rollout_length: Count = 2048
    """Steps of every environment between two rounds of updates."""
    epochs: Count = 10
    """Passes over each rollout."""
    gae_lambda: Share = 0.95
    """Decay of the advantage estimate: 0 = one step, 1 = whole episode."""
    clip_reward: bool = False
    """Learn online from the sign of each reward (Mnih et al. 2015); logs and evaluations state the rewards' sums."""
    normalize_reward: bool = False
    """Divide rewards by the running standard deviation of the discounted return."""
    normalize_advantage: bool = True
    """Shift and scale the advantages of each batch to mean 0 and standard deviation 1."""
    activation: Activation = "tanh"
    """Function between the layers of policy and critic; those of a CNN are relu."""
    log_std: float = 0.0
    """Logarithm of the policy's standard deviation at first, actions being in [-1, 1]; no matter if discrete."""
    orthogonal: bool = True
    """Initialise weights as orthogonal matrices, the policy's last layer of gain 0.01; else as PyTorch does."""


def convert(name: str, value: Any, hint: Any) -> Any:
    """Accepts what JSON and TOML make of a value (lists for tuples, 1 for 1.0); anything else must fit the type."""
    fits: bool
    if hint is float:
        fits = _is_number(value)
        value = float(value) if fits else value
    elif hint is int:
        fits = _is_number(value) and float(value).is_integer()
        value = int(value) if fits else value
    elif hint is bool or hint is str:
        fits = isinstance(value, hint)
    elif getattr(hint, "__origin__", None) is Literal:
        fits = value in hint.__args__
    elif getattr(hint, "__origin__", None) is tuple:
        fits = isinstance(value, list | tuple)
        value = tuple(convert(name, item, hint.__args__[0]) for item in value) if fits else value
    elif hasattr(hint, "_fields"):
        hints = get_type_hints(hint)
        fits = isinstance(value, list | tuple) and len(value) == len(hints)
        value = hint(*map(convert, [name] * len(hints), value, hints.values())) if fits else value
    else:
        raise TypeError(f"the setting {name} has the type {hint}, which no setting may have")
    if not fits:
        wanted = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        raise InvalidSetting(f"the setting {name} must be of type {wanted}, not {value!r}")
    return value


def _is_number(value: Any) -> bool:
    """Whether it is an int or a float, but neither NaN, nor a bool, nor an int too large for a float."""
    size = abs(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    return size <= sys.float_info.max or size == math.inf


def scheduled(kind: Schedule, progress: Any) -> Any:
    """Factor in [0, 1] at `progress` in [0, 1] through the training: a float, or a tensor where it is one."""
    if kind == "linear":
        return 1.0 - progress
    if kind == "cosine":
        cosine = torch.cos if isinstance(progress, torch.Tensor) else math.cos
        return 0.5 * (1.0 + cosine(math.pi * progress))
    return 1.0
