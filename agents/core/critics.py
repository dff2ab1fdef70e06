"""Critics: a network and a head. Ensembles are one batched tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .heads import Head, Scalar
from .nets import body, mlp
from .spec import Spec


class V(nn.Module):
    """State value: obs `[B, ...]` -> `[B]`. Options go to `mlp`."""

    def __init__(self, spec: Spec, hidden: Sequence[int], **options: Any):
        super().__init__()
        last_init = options.pop("last_init", None) or options.get("init")
        self.body, features = body(spec, hidden, **options)
        self.last = mlp(features, (), 1, **({"init": last_init} if last_init else {}))

    def forward(self, obs: Tensor) -> Tensor:
        return self.last(self.body(obs)).squeeze(-1)


class Q(nn.Module):
    """Values of continuous actions, by an ensemble of `size` networks.

    obs `[B, ...]`, action `[B, A]` -> `[size, B]`. Options go to `mlp`.
    """

    def __init__(self, spec: Spec, hidden: Sequence[int], size: int = 2, head: Head | None = None, **options: Any):
        super().__init__()
        self.head = head or Scalar()
        self.net = mlp(spec.vector_size + spec.actions, hidden, self.head.outputs, size=size, **options)

    def output(self, obs: Tensor, action: Tensor) -> Tensor:
        """What the head reads: `[size, B, K]`."""
        return self.net(torch.cat([obs, action], -1))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.head.mean(self.output(obs, action))

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """The first network's values `[B]`, without computing the others'."""
        alone = {name: parameter[:1] for name, parameter in self.net.named_parameters()}
        output = torch.func.functional_call(self.net, alone, (torch.cat([obs, action], -1),))
        return self.head.mean(output)[0]


class DiscreteQ(nn.Module):
    """Values of all discrete actions: obs `[B, ...]` -> `[B, A]`.

    `dueling` adds a stream for the state: V + A - mean_a A on the outputs, before the head, so it goes with every head
    (Wang et al. 2016, eq. 9). Options go to `mlp`.
    """

    def __init__(
        self, spec: Spec, hidden: Sequence[int], head: Head | None = None, dueling: bool = False, **options: Any
    ):
        super().__init__()
        self.head, self.actions, self.dueling = head or Scalar(), spec.actions, dueling
        self.body, features = body(spec, hidden, **options)
        self.last = mlp(features, (), (spec.actions + dueling) * self.head.outputs)

    def output(self, obs: Tensor) -> Tensor:
        """What the head reads: `[B, A, K]`."""
        output = self.last(self.body(obs)).unflatten(-1, (-1, self.head.outputs))
        if not self.dueling:
            return output
        advantage = output[:, 1:]
        return output[:, :1] + advantage - advantage.mean(1, keepdim=True)

    def forward(self, obs: Tensor) -> Tensor:
        return self.head.mean(self.output(obs))


def at_action(output: Tensor, action: Tensor) -> Tensor:
    """The rows of `[B, A, ...]` that belong to the actions `[B]`: `[B, ...]`."""
    index = action.view(-1, *(1,) * (output.ndim - 1))
    return output.gather(1, index.expand(-1, 1, *output.shape[2:])).squeeze(1)
