"""Discrete actions inside networks: which are allowed, how several choices at once are laid out, random ones.

Choices are `[B, actions]`, as in a mask. A multi-discrete action has P parts; its choices, padded to those of the
largest part, are `[B, P, K]`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .spec import Spec

FORBIDDEN = -1e9
"""Logit or value of a choice that is not allowed: finite, so that its probability is 0 and no product NaN."""


def allowed(spec: Spec, obs: Tensor) -> Tensor:
    """The mask at the end of observations `[B, ...]` of a `masked` spec: bool `[B, actions]`."""
    return obs[..., -spec.actions :] > 0.5


def forbid(spec: Spec, obs: Tensor, values: Tensor) -> Tensor:
    """Values or logits `[B, actions]`, with those of choices that `obs` does not allow at FORBIDDEN."""
    return values.where(allowed(spec, obs), FORBIDDEN) if spec.masked else values


def random_actions(spec: Spec, obs: Tensor) -> Tensor:
    """Uniform among the allowed: int64 `[B]`, or `[B, P]` if multi-discrete; continuous `[B, A]` in [-1, 1]."""
    if not spec.discrete:
        return torch.rand(obs.shape[0], spec.actions, device=obs.device) * 2 - 1
    if not (spec.masked or spec.action_choices):
        return torch.randint(spec.actions, (obs.shape[0],), device=obs.device)
    draws = forbid(spec, obs, torch.rand(obs.shape[0], spec.actions, device=obs.device))
    return (Parted(spec.action_choices)(draws) if spec.action_choices else draws).argmax(-1)


class Parted(nn.Module):
    """Lays out `[B, actions]` as `[B, P, K]`; a place beyond the choices of its part is FORBIDDEN."""

    index: Tensor

    def __init__(self, choices: tuple[int, ...]):
        super().__init__()
        place, count = torch.arange(max(choices)), torch.tensor(choices).unsqueeze(1)
        index = torch.where(place < count, count.cumsum(0) - count + place, sum(choices))
        self.register_buffer("index", index, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        return torch.cat([values, values.new_full((len(values), 1), FORBIDDEN)], 1)[:, self.index]
