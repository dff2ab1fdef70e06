"""Heads: how a network's outputs stand for a value. Each owns `mean`, `backup` and `loss`, so no algorithm does.

Shapes: outputs `[..., K]` with K = `head.outputs`; `mean` gives `[...]`. `backup` turns rewards and discounts `[B]` and
the outputs `[B, K]` of a target network at the chosen next action into a target; `loss` compares outputs
`[..., B, K]` with it and gives `[..., B]`. `error` turns losses into what prioritised replay goes by: |target - value|
of a scalar, the loss itself of a distribution (as in Rainbow). `encode` turns values `[...]` into a target, where there
is no next output: returns, say. `distribution` gives values and their probabilities,
both `[..., K]`, of the return that outputs `[..., K]` stand for; InvalidSetting where they stand for its mean alone.
"""

from __future__ import annotations

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from .config import HeadConfig
from .errors import InvalidSetting
from .losses import check_shapes, huber, mse, quantile_huber

DISTRIBUTIONAL = "take an agent that learns their distribution, such as c51, qr_dqn, iqn, fqf or tqc"
"""The remedy where a distribution of returns is asked for and there is none."""


class Head(Protocol):
    """What an agent may ask of a head."""

    outputs: int

    def mean(self, output: Tensor) -> Tensor: ...

    def backup(self, reward: Tensor, discount: Tensor, next_output: Tensor) -> Tensor: ...

    def encode(self, value: Tensor) -> Tensor: ...

    def loss(self, output: Tensor, target: Tensor) -> Tensor: ...

    def error(self, loss: Tensor) -> Tensor: ...

    def distribution(self, output: Tensor) -> tuple[Tensor, Tensor]: ...


class Scalar(nn.Module):
    """One output is the value; Huber loss with the given threshold, or squared error (threshold 0)."""

    outputs = 1

    def __init__(self, threshold: float = 0.0):
        super().__init__()
        self.threshold = threshold

    def mean(self, output: Tensor) -> Tensor:
        return output.squeeze(-1)

    def backup(self, reward: Tensor, discount: Tensor, next_output: Tensor) -> Tensor:
        return reward + discount * self.mean(next_output)

    def encode(self, value: Tensor) -> Tensor:
        return value

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        value = self.mean(output)
        return huber(value, target, self.threshold) if self.threshold else mse(value, target)

    def error(self, loss: Tensor) -> Tensor:
        if not self.threshold:
            return loss.sqrt()
        k = self.threshold
        return torch.where(loss > 0.5 * k * k, loss / k + 0.5 * k, (2.0 * loss).sqrt())

    def distribution(self, output: Tensor) -> tuple[Tensor, Tensor]:
        raise InvalidSetting(f"a scalar head knows the mean of the returns alone: {DISTRIBUTIONAL}")


class Categorical(nn.Module):
    """Probabilities of `atoms` values, equally spaced from `low` to `high`; cross-entropy loss.

    `c51` propagates the return's distribution and projects it onto the atoms (Bellemare et al. 2017, eq. 7).
    `two_hot` and `hl_gauss` propagate only its mean and encode that scalar, as the two nearest atoms or as a Gaussian
    of `sigma` bin widths, cut to the support (Imani & White 2018; Farebrother et al. 2024). For hl_gauss the atoms
    are centres of bins whose outer edges are `low` and `high`.
    """

    atoms: Tensor
    edges: Tensor

    def __init__(
        self,
        low: float,
        high: float,
        atoms: int = 51,
        target: Literal["c51", "two_hot", "hl_gauss"] = "c51",
        sigma: float = 0.75,
    ):
        super().__init__()
        self.outputs, self.low, self.high, self.target, self.sigma = atoms, low, high, target, sigma
        edges = torch.linspace(low, high, atoms + 1)
        centres = 0.5 * (edges[1:] + edges[:-1])
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer(
            "atoms", centres if target == "hl_gauss" else torch.linspace(low, high, atoms), persistent=False
        )

    @property
    def width(self) -> float:
        """Distance between neighbouring atoms."""
        return (self.high - self.low) / (self.outputs if self.target == "hl_gauss" else self.outputs - 1)

    def mean(self, output: Tensor) -> Tensor:
        return output.softmax(-1) @ self.atoms

    def project(self, values: Tensor, probability: Tensor) -> Tensor:
        """Mass `probability` `[B, M]` at `values` `[B, M]`, clipped to the support and shared among atoms, `[B, K]`.

        Each value gives to the two atoms beside it, so the work grows with M and not with M times K.
        """
        place = (values.clamp(self.low, self.high) - self.low) / self.width
        below = place.nan_to_num().floor().clamp(max=self.outputs - 2)  # a value that is NaN has a place, and no mass
        above = probability * (place - below)
        atom, empty = below.long(), above.new_zeros(*values.shape[:-1], self.outputs)
        return empty.scatter_add(-1, atom, probability - above).scatter_add(-1, atom + 1, above)

    def encode(self, value: Tensor) -> Tensor:
        """Probabilities `[..., K]` whose mean is the scalar `[...]`, clipped to the support."""
        value = value.clamp(self.low, self.high).unsqueeze(-1)
        if self.target != "hl_gauss":
            return self.project(value, torch.ones_like(value))
        cumulative = torch.special.ndtr((self.edges - value) / (self.sigma * self.width))
        return cumulative.diff(dim=-1) / (cumulative[..., -1:] - cumulative[..., :1])

    def backup(self, reward: Tensor, discount: Tensor, next_output: Tensor) -> Tensor:
        if self.target == "c51":
            return self.project(reward[:, None] + discount[:, None] * self.atoms, next_output.softmax(-1))
        return self.encode(reward + discount * self.mean(next_output))

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        check_shapes(output, target)
        return -(target * output.log_softmax(-1)).sum(-1)

    def error(self, loss: Tensor) -> Tensor:
        return loss

    def distribution(self, output: Tensor) -> tuple[Tensor, Tensor]:
        if self.target != "c51":
            raise InvalidSetting(f"the histogram of {self.target} stands for the mean of the returns: {DISTRIBUTIONAL}")
        return self.atoms.expand(output.shape), output.softmax(-1)


class Quantile(nn.Module):
    """Values at the fractions (i + 1/2) / K; quantile Huber loss (QR-DQN, Dabney et al. 2018)."""

    fractions: Tensor

    def __init__(self, quantiles: int = 200, threshold: float = 1.0):
        super().__init__()
        self.outputs, self.threshold = quantiles, threshold
        self.register_buffer("fractions", (torch.arange(quantiles) + 0.5) / quantiles, persistent=False)

    def mean(self, output: Tensor) -> Tensor:
        return output.mean(-1)

    def backup(self, reward: Tensor, discount: Tensor, next_output: Tensor) -> Tensor:
        return reward[:, None] + discount[:, None] * next_output

    def encode(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return quantile_huber(output, target, self.fractions, self.threshold)

    def error(self, loss: Tensor) -> Tensor:
        return loss

    def distribution(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return output, torch.full_like(output, 1.0 / output.shape[-1])


def head_of(c: HeadConfig) -> Head:
    """The head that the settings describe. Raises InvalidSetting for a histogram without room for values."""
    if c.critic_head == "scalar":
        return Scalar()
    if c.critic_head == "quantile":
        return Quantile(c.atoms)
    if c.value_low >= c.value_high:
        raise InvalidSetting(
            f"value_low = {c.value_low:g} and value_high = {c.value_high:g} leave no room for values: give the "
            "smallest and the largest return that can occur"
        )
    return Categorical(c.value_low, c.value_high, c.atoms, c.critic_head)
