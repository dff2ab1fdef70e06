"""The picture of a distributional agent: the returns that it expects along an episode, and the one that came."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..agents.core.advantages import backward
from ..agents.core.agent import Agent
from ..agents.core.errors import InvalidSetting
from ..agents.core.files import write_atomically
from ..agents.core.heads import Categorical

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..envs.vector import VectorEnv

BINS = 100
"""Most rows of shading, where the expected returns are not the same atoms at every step."""
ROWS = 256
"""Observations that the networks see at a time."""
FORMATS = (".png", ".svg")


class Forecast(NamedTuple):
    """An episode of T steps."""

    values: torch.Tensor
    """[T, K] returns that the agent thinks possible, discounted."""
    probability: torch.Tensor
    """[T, K] how likely it thinks them."""
    reward: torch.Tensor
    """[T] what came; its sign, where the agent learns from that."""
    gamma: float
    """Discount per step."""
    truncated: bool
    """Whether the episode was cut off, so that its last returns lack what would have come."""

    @property
    def mean(self) -> torch.Tensor:
        """[T] what the agent expects."""
        return (self.values * self.probability).sum(1)

    @property
    def returns(self) -> torch.Tensor:
        """[T] the discounted sum of the rewards from each step to the end of the episode."""
        return backward(self.reward, torch.full_like(self.reward, self.gamma))

    def grid(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns `[M]` and their mass `[T, M]`, in whose rows both sum and mean are those of the probabilities."""
        if (self.values == self.values[0]).all() and (self.values[0].diff() > 0).all():
            return self.values[0], self.probability
        low, high = float(self.values.min()), float(self.values.max())
        bins = Categorical(low, max(high, low + 1e-3 * (1.0 + abs(low))), max(min(self.values.shape[1], BINS), 2))
        rows = zip(self.values.split(ROWS), self.probability.split(ROWS), strict=True)
        return bins.atoms, torch.cat([bins.project(*row) for row in rows])


@torch.inference_mode()
def forecast(agent: Agent, env: VectorEnv, seed: int, deterministic: bool = True) -> Forecast:
    """Acts through an episode of the first environment. Raises InvalidSetting for an agent without distributions."""
    obs, rows, rewards, over = env.reset(seed), [], [], None
    agent.return_distribution(agent.inputs(obs[:1]))
    while over is None:
        rows.append(obs[0].copy())
        step = env.step(agent.act_on(obs, explore=not deterministic))
        rewards.append(float(step.reward[0]))
        if not step.valid[0]:  # the episode was lost
            rows, rewards = [], []
        if step.terminated[0] or step.truncated[0]:
            over = step
        obs = step.obs
    parts = [agent.return_distribution(agent.inputs(np.stack(rows[i : i + ROWS]))) for i in range(0, len(rows), ROWS)]
    values, probability = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    reward = torch.tensor(rewards)
    reward = reward.sign() if getattr(agent.config, "clip_reward", False) else reward
    return Forecast(values, probability, reward, agent.config.gamma, bool(over.truncated[0]))


def draw(found: Forecast, title: str) -> Figure:
    """Steps against returns: the distribution as shading, its mean, and the return that came."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    returns, mass = found.grid()
    steps = np.arange(len(mass))
    shown = (mass > 0.01 * mass.max()).any(0).nonzero()[:, 0]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(steps, returns, mass.T, cmap="Blues", norm=PowerNorm(0.5, vmin=0.0), rasterized=True)
    came = "what came" + ", until the episode was cut off" * found.truncated
    axes.plot(steps, found.mean, color="tab:orange", label="what the agent expects: the mean")
    axes.plot(steps, found.returns, color="black", linewidth=1.0, label=came)
    low, high = float(returns[shown].min()), float(returns[shown].max())
    low, high = min(low, float(found.returns.min())), max(high, float(found.returns.max()))
    room = 0.03 * (high - low) or 1.0
    axes.set(title=title, xlabel="step of the episode", ylabel="discounted return", ylim=(low - room, high + room))
    axes.legend()
    figure.colorbar(mesh, label="probability")
    return figure


def checked(name: str) -> Path | None:
    """The file for a picture, if one is named. Raises InvalidSetting for a name that says no kind of picture."""
    if name and Path(name).suffix.lower() not in FORMATS:
        raise InvalidSetting(f"{name} does not say which kind of picture it is: let it end in {' or '.join(FORMATS)}")
    return Path(name) if name else None


def write(figure: Figure, path: Path) -> None:
    image = io.BytesIO()
    figure.savefig(image, format=path.suffix[1:].lower(), dpi=150)
    write_atomically(path, image.getvalue())
