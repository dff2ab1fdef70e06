"""Which transitions of a data set are drawn, and how often: listed ones, or those of good episodes more often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..agents.core.errors import InvalidSetting
from ..agents.core.sampling import Sampler

if TYPE_CHECKING:
    from ..agents.core.buffer import Buffer
    from .trajectories import Trajectories

WEIGHTINGS = ("none", "return", "advantage")


class Listed(Sampler):
    """Uniform over the rows `index` `[M]`, with replacement. Online, all rows of the new buffer are drawn uniformly."""

    def __init__(self, index: Tensor):
        self.index = index

    def fresh(self) -> Sampler:  # type: ignore[override]
        return Sampler()

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        return self.index[torch.randint(len(self.index), (size,), device=self.index.device)]


class Weighted(Listed):
    """Row index[i] with P(i) = weight[i] / sum weight, with replacement; `weight` `[M]` is not negative, nor all 0."""

    weighted = True

    def __init__(self, index: Tensor, weight: Tensor):
        super().__init__(index)
        running = weight.double().cumsum(0)
        self.cumulative = running / running[-1]

    def draw(self, buffer: Buffer, size: int) -> Tensor:
        mass = torch.rand(size, dtype=torch.float64, device=self.index.device)  # below 1, the last of the sums
        return self.index[torch.searchsorted(self.cumulative, mass, right=True)]


def require_weighting(weighting: str, temperature: float) -> None:
    """Raises InvalidSetting for an unknown weighting or a temperature that is not above 0."""
    if weighting not in WEIGHTINGS:
        raise InvalidSetting(f"the option weighting = {weighting!r} must be one of {', '.join(WEIGHTINGS)}")
    if not temperature > 0:
        raise InvalidSetting(f"the option weighting_temperature = {temperature} must be above 0")


def episode_weights(returns: np.ndarray, first_obs: np.ndarray, weighting: str, temperature: float) -> np.ndarray:
    """Weights `[E]` of the transitions of each episode, the greatest 1 (Hong et al. 2023, arXiv 2306.13085, section 4).

        w_e = exp(g_e / alpha),   g = (x - min x) / (max x - min x),   P(transition of e) = w_e / sum_f T_f w_f

    "return": x is the undiscounted return G. "advantage": x = G - V(s_0), where V is the linear regression (with an
    intercept) of G on the first observations `[E, ...]`. As in the authors' code every transition of an episode has the
    weight of the episode, so longer ones are drawn more often. All weights are 1 where all x are the same.
    See `require_weighting` for errors.
    """
    require_weighting(weighting, temperature)
    if weighting == "none":
        return np.ones(len(returns))
    value = returns.astype(np.float64)
    if weighting == "advantage":
        inputs = np.column_stack([first_obs.reshape(len(value), -1).astype(np.float64), np.ones(len(value))])
        value = value - inputs @ np.linalg.lstsq(inputs, value)[0]
    spread = np.ptp(value)
    if spread <= 1e-9 * max(np.abs(returns).max(), 1e-300):  # regression leaves rounding where it explains all
        return np.ones(len(value))
    return np.exp((value - value.max()) / spread / temperature)


def weighted(buffer: Buffer, found: Trajectories, weighting: str, temperature: float) -> Buffer:
    """A view of `buffer`, whose episodes are `found`, with transitions drawn by `episode_weights`."""
    first_obs = buffer.observations(torch.as_tensor(found.rows[found.first], device=buffer.device)).cpu().numpy()
    weight = np.repeat(episode_weights(found.returns, first_obs, weighting, temperature), found.lengths)
    index, mass = (torch.as_tensor(values, device=buffer.device) for values in (found.rows, weight))
    return buffer.view(Weighted(index, mass))
