"""Implicit quantile networks: the return's quantile function at any fraction, and distortions of the fractions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .bodies import body
from .critics import action_outputs, at_action
from .heads import Quantile
from .losses import quantile_huber
from .masks import forbid
from .nets import mlp
from .spec import Spec

Risk = Literal["neutral", "cvar", "wang", "cpw"]

DISTORTIONS: dict[Risk, tuple[float, Callable[[Tensor, float], Tensor]]] = {
    "neutral": (0.0, lambda fraction, level: fraction),
    "cvar": (0.25, lambda fraction, level: level * fraction),
    "wang": (-0.75, lambda fraction, level: torch.special.ndtr(torch.special.ndtri(fraction) + level)),
    "cpw": (0.71, lambda fraction, level: _power(fraction, level)),
}
"""The usual level, and how a fraction is changed (Dabney et al. 2018, section 3.1)."""


def _power(fraction: Tensor, level: float) -> Tensor:
    """Cumulative probability weighting (Tversky & Kahneman 1992): t^e / (t^e + (1 - t)^e)^(1/e)."""
    power = fraction**level
    return power / (power + (1.0 - fraction) ** level) ** (1.0 / level)


def distort(fraction: Tensor, risk: Risk, level: float = 0.0) -> Tensor:
    """Fractions as a policy of that attitude to risk sees them; level 0 takes the usual one."""
    usual, change = DISTORTIONS[risk]
    return change(fraction, level or usual)


class ImplicitQ(nn.Module):
    """Values of all discrete actions `[B, A]`, as the mean over fractions of the return's quantile function.

    Z_tau = outputs(relu(mix(body(obs) * relu(W cos(pi i tau) + b)))), i = 1..cosines (Dabney et al. 2018, eq. 4).
    In training mode fractions are drawn anew at each call, in evaluation mode they are midpoints of equal intervals.
    `policy_quantiles` of them, distorted by `risk`, give the values of actions; `quantiles` of them the outputs.
    `noise` and other options are those of DiscreteQ.
    """

    waves: Tensor

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int],
        quantiles: int = 64,
        policy_quantiles: int = 32,
        risk: Risk = "neutral",
        level: float = 0.0,
        cosines: int = 64,
        dueling: bool = False,
        noise: float = 0.0,
        **options: Any,
    ):
        super().__init__()
        self.spec, self.head = spec, Quantile(quantiles)
        self.policy_quantiles, self.risk, self.level = policy_quantiles, risk, level
        self.register_buffer("waves", torch.arange(1, cosines + 1) * math.pi, persistent=False)
        self.body, self.features = body(spec, hidden, noise=noise, **options)
        features, width = self.features, self.features * (1 + dueling)
        self.embedding, self.mix = mlp(cosines, (features,)), mlp(features, (width,), noise=noise)
        self.last = action_outputs(width, spec.actions, 1, dueling, noise=noise)

    def fractions(self, features: Tensor, count: int) -> Tensor:
        """`[B, count]` in (0, 1)."""
        if self.training:
            return torch.rand(len(features), count, device=features.device).clamp_(min=1e-6)
        return ((torch.arange(count, device=features.device) + 0.5) / count).expand(len(features), -1)

    def quantiles(self, features: Tensor, fractions: Tensor) -> Tensor:
        """features `[B, F]`, fractions `[B, N]` -> `[B, A, N]`."""
        embedding = self.embedding((fractions.unsqueeze(-1) * self.waves).cos_().flatten(0, 1))
        rows = (features.unsqueeze(1) * embedding.unflatten(0, fractions.shape)).flatten(0, 1)
        return self.last(self.mix(rows)).unflatten(0, fractions.shape).transpose(1, 2)

    def output(self, obs: Tensor) -> Tensor:
        """Quantiles at undistorted fractions: `[B, A, quantiles]`."""
        features = self.body(obs)
        return self.quantiles(features, self.fractions(features, self.head.outputs))

    def forward(self, obs: Tensor) -> Tensor:
        features = self.body(obs)
        fractions = distort(self.fractions(features, self.policy_quantiles), self.risk, self.level)
        return forbid(self.spec, obs, self.quantiles(features, fractions).mean(-1))

    def loss(self, obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """Quantile Huber loss of the chosen actions at new fractions: `[B]`."""
        features = self.body(obs)
        fractions = self.fractions(features, self.head.outputs)
        output = at_action(self.quantiles(features, fractions), action)
        return quantile_huber(output, target, fractions, self.head.threshold)
