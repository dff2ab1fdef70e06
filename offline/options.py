"""What may be done to recorded data on the way in. All of it is recorded in `Dataset.describe`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..agents.core.errors import InvalidSetting
from .weighting import require_weighting


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
    """Rewards are multiplied by this, and so are those of the environment if learning goes on online."""
    reward_shift: float = 0.0
    """Added to every reward after scaling, online as well; -1 is usual for AntMaze."""
    scale_returns: bool = False
    """First scale rewards, online as well, so that the best and the worst episode differ by 1000: IQL for MuJoCo."""
    clip_actions: bool = False
    """Clip actions beyond the bounds instead of refusing the file."""
    validation: float = 0.0
    """Share of the episodes that is set aside, at random, for `Dataset.validation`; 0 = none. `bellmark fit` logs the
    loss of bc and top_bc on them."""
    split_seed: int = 0
    """Decides which episodes those are."""
    top_episodes: float = 1.0
    """Share of the finished episodes (of those not set aside) that is kept: the best by return in the file."""
    weighting: str = "none"
    """Draw good episodes more often: none, return, or advantage (Hong et al. 2023)."""
    weighting_temperature: float = 0.1
    """The smaller, the more the best episodes dominate; in units of the spread of returns or advantages."""
    memory_map: bool = False
    """Convert the file once to Bellmark's rows beside it, and leave these on the disk until they are drawn."""

    def __post_init__(self) -> None:
        if self.max_episode_steps < 0:
            raise InvalidSetting(f"the option max_episode_steps = {self.max_episode_steps} must be at least 0")
        for name in ("reward_scale", "reward_shift"):
            if not math.isfinite(getattr(self, name)):
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be a finite number")
        if not 0 <= self.validation < 1:
            raise InvalidSetting(f"the option validation = {self.validation} must be a share in [0, 1)")
        if self.split_seed < 0:
            raise InvalidSetting(f"the option split_seed = {self.split_seed} must be at least 0")
        if not 0 < self.top_episodes <= 1:
            raise InvalidSetting(f"the option top_episodes = {self.top_episodes} must be a share in (0, 1]")
        require_weighting(self.weighting, self.weighting_temperature)
