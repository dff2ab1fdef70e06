"""Implicit Q-learning for discrete actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..agents.core.critics import DiscreteQ, V
from ..agents.core.nets import frozen_copy, orthogonal_init
from ..agents.core.policies import Softmax
from ..agents.core.spec import Spec
from .iql import IQL, IQLConfig


class ChoiceQ(nn.Module):
    """Values of chosen actions by an ensemble: obs `[B, ...]`, action int64 `[B]` -> `[size, B]`."""

    def __init__(self, spec: Spec, hidden: Sequence[int], size: int = 2, **options: Any):
        super().__init__()
        self.choices = DiscreteQ(spec, hidden, size=size, **options)
        self.head = self.choices.head

    def output(self, obs: Tensor, action: Tensor) -> Tensor:
        """What the head reads: `[size, B, 1]`."""
        return self.choices.output(obs).take_along_dim(action.view(1, -1, 1, 1), 2).squeeze(2)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.head.mean(self.output(obs, action))


class DiscreteIQL(IQL, name="discrete_iql"):
    """IQL (Kostrikov, Nair, Levine 2021, arXiv 2110.06169) for discrete actions.

        value, actor, critic as in IQL;  pi(.|s) a softmax,  Q(s, a) one of |A| outputs

    Only values of recorded actions are looked at, as in IQL, so that the outputs of the others are never trained.

    Departures from the paper, which has continuous actions alone: the softmax, and the outputs of Q; else those of IQL.
    """

    config: IQLConfig = IQLConfig()

    def build(self, spec: Spec, c: IQLConfig) -> None:
        spec.require_discrete(self.name)
        init = orthogonal_init()
        self.actor = Softmax(spec, c.hidden, init=init)  # type: ignore[assignment]
        self.value = V(spec, c.hidden, init=init)
        self.critic = ChoiceQ(spec, c.hidden, init=init)  # type: ignore[assignment]
        self.critic_target = frozen_copy(self.critic)

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        law = self.actor(obs)
        return law.sample() if explore else law.mode()

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.actor(obs).log_prob(action)
