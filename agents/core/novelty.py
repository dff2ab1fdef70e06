"""Novelty of observations by random network distillation (Burda et al. 2018, arXiv 1810.12894), for any agent."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor, nn

from .agent import Agent
from .bodies import CNN, body
from .losses import mse
from .nets import mlp, orthogonal_init
from .normalizer import Normalizer
from .spec import Spec

CLIP = 5.0
"""Normalised observations are clipped to +-5."""


class Features(nn.Module):
    """Observations, normalised, to `[B, features]`; `depth` hidden layers more than the body has."""

    def __init__(self, spec: Spec, hidden: tuple[int, ...], features: int, depth: int):
        super().__init__()
        self.body, width = body(spec, hidden, init=orthogonal_init())
        self.last = mlp(width, depth * (features,), features, init=orthogonal_init())

    def forward(self, frame: Tensor) -> Tensor:
        if isinstance(self.body, CNN):  # which would divide by 255
            return self.last(self.body.linear(self.body.convolutions(frame)))
        return self.last(self.body(frame))


class NoveltyAgent(Agent):
    """An agent that sees how new observations are: the error of a network that imitates a random one.

        f random and fixed, fhat trained,   x = clip((o - mean) / std, +-5) of the newest frame,
        novelty  mean_k (f_k(x) - fhat_k(x))^2,   which is also fhat's loss

    Departures from the paper: convolutions are those of the agents (with ReLU); statistics of observations begin with
    the first observations that are looked at, not with steps of a random policy.
    """

    def build_novelty(self, spec: Spec, c: Any) -> None:
        frame = frame_spec(spec)
        self.random_features = Features(frame, c.hidden, c.novelty_features, 0).requires_grad_(False)
        self.predictor = Features(frame, c.hidden, c.novelty_features, 2)
        self.frame_normalizer = Normalizer(frame.obs_shape, clip=CLIP)
        self.novelty_normalizer = Normalizer()

    def frame(self, obs: Tensor) -> Tensor:
        """The newest frame of observations `[B, ...]`."""
        return obs if self.spec.frame_stack == 1 else obs[:, -(obs.shape[1] // self.spec.frame_stack) :]

    def observe(self, obs: Tensor) -> None:
        """Takes observations `[B, ...]` into the statistics."""
        self.frame_normalizer.update(self.frame(obs))

    def novelty(self, obs: Tensor) -> Tensor:
        """`[B]`, with the predictor's gradient."""
        frame = self.frame_normalizer(self.frame(obs).float())
        return mse(self.predictor(frame), self.random_features(frame)).mean(-1)


def frame_spec(spec: Spec) -> Spec:
    """The spec of one frame of an observation."""
    if spec.frame_stack == 1:
        return spec
    shape = (spec.obs_shape[0] // spec.frame_stack, *spec.obs_shape[1:])
    return dataclasses.replace(spec, obs_shape=shape, frame_stack=1)
