"""Critics: a network and a head. Ensembles are one batched tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .bodies import body
from .direct import Direct
from .errors import InvalidSetting
from .heads import Head, Scalar
from .masks import forbid
from .nets import mlp
from .spec import Spec


class V(Direct):
    """State value: obs `[B, ...]` -> `[B]`. Options go to `mlp`."""

    def __init__(self, spec: Spec, hidden: Sequence[int], head: Head | None = None, **options: Any):
        super().__init__()
        self.head = head or Scalar()
        last_init = options.pop("last_init", None) or options.get("init")
        self.body, features = body(spec, hidden, **options)
        self.last = mlp(features, (), self.head.outputs, **({"init": last_init} if last_init else {}))

    def output(self, obs: Tensor) -> Tensor:
        """What the head reads: `[B, K]`."""
        return self.last(self.body(obs))

    def forward(self, obs: Tensor) -> Tensor:
        return self.head.mean(self.output(obs))

    def loss(self, output: Tensor, value: Tensor) -> Tensor:
        """The head's loss of outputs `[..., K]` against the values `[...]` that they should have: `[...]`."""
        return self.head.loss(output, self.head.encode(value))


class Q(Direct):
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

    def output_of(self, members: slice | Tensor, obs: Tensor, action: Tensor) -> Tensor:
        """What the head reads of some networks, chosen by a slice or by indices, without computing the others'."""
        named = (*self.net.named_parameters(), *self.net.named_buffers())
        chosen = {name: value[members] for name, value in named}
        return torch.func.functional_call(self.net, chosen, (torch.cat([obs, action], -1),))

    def output_of_actions(self, obs: Tensor, actions: Tensor) -> Tensor:
        """What the head reads, K actions in each state: obs `[B, S]`, actions `[B, K, A]` -> `[size, B, K, outputs]`.

        The first layer's product with the observation is made once a state, not once an action.
        """
        first: Any = self.net[0]
        weight, bias, split = first.weight, first.bias.unsqueeze(1), obs.shape[-1]
        state = torch.baddbmm(bias, obs.expand(len(weight), *obs.shape), weight[:, :split])
        action = (actions.flatten(0, 1) @ weight[:, split:]).unflatten(1, actions.shape[:2])
        return self.net[1:]((action + state.unsqueeze(2)).flatten(1, 2)).unflatten(1, actions.shape[:2])

    def of_actions(self, obs: Tensor, actions: Tensor) -> Tensor:
        """Values of K actions in each state: obs `[B, S]`, actions `[B, K, A]` -> `[size, B, K]`."""
        return self.head.mean(self.output_of_actions(obs, actions))

    def first(self, obs: Tensor, action: Tensor) -> Tensor:
        """The first network's values `[B]`."""
        return self.head.mean(self.output_of(slice(1), obs, action))[0]

    def lowest(self, output: Tensor) -> Tensor:
        """Of outputs `[E, B, K]`, row by row those of the network with the smallest mean: `[B, K]`."""
        if output.shape[-1] == 1:
            return output.amin(0)
        member = self.head.mean(output).argmin(0)
        return output.take_along_dim(member[None, :, None], 0)[0]


class Dueling(Direct):
    """Values of all actions from two streams: V + A - mean_a A (Wang et al. 2016, eq. 9), on the head's outputs.

    features `[..., F]` -> `[..., actions * outputs]`; the first half of the features is the stream of the state, the
    second that of the advantages. `options` go to `mlp`.
    """

    def __init__(self, features: int, actions: int, outputs: int, **options: Any):
        super().__init__()
        self.actions, self.width = actions, features // 2
        self.state = mlp(self.width, (), outputs, **options)
        self.advantage = mlp(self.width, (), actions * outputs, **options)

    def forward(self, features: Tensor) -> Tensor:
        state, advantage = features.split(self.width, -1)
        advantage = self.advantage(advantage).unflatten(-1, (self.actions, -1))
        return (self.state(state).unsqueeze(-2) + advantage - advantage.mean(-2, keepdim=True)).flatten(-2)


class DiscreteQ(Direct):
    """Values of all discrete actions: obs `[B, ...]` -> `[B, A]`, or `[size, B, A]` for an ensemble of `size`.

    `dueling` splits the last hidden layer, made twice as wide, into a stream for the state and one for the advantages;
    it acts on outputs, so it goes with every head. `noise` above 0 makes the linear layers noisy. Options go to `mlp`.
    Raises InvalidSetting for dueling streams without a hidden layer.
    """

    def __init__(
        self,
        spec: Spec,
        hidden: Sequence[int],
        head: Head | None = None,
        dueling: bool = False,
        noise: float = 0.0,
        size: int | None = None,
        **options: Any,
    ):
        super().__init__()
        if dueling and not (hidden or spec.is_image):
            raise InvalidSetting("dueling splits the last hidden layer in two: give hidden at least one layer")
        self.head, self.spec = head or Scalar(), spec
        self.body, features = body(spec, hidden, widen=1 + dueling, noise=noise, size=size, **options)
        self.last = action_outputs(features, spec.actions, self.head.outputs, dueling, noise=noise, size=size)

    def output(self, obs: Tensor) -> Tensor:
        """What the head reads: `[..., B, A, K]`."""
        return self.last(self.body(obs)).unflatten(-1, (self.spec.actions, -1))

    def values(self, obs: Tensor, output: Tensor) -> Tensor:
        """What `output(obs)` says that each action is worth, `[..., B, A]`; hardly anything where `obs` forbids it."""
        return forbid(self.spec, obs, self.head.mean(output))

    def forward(self, obs: Tensor) -> Tensor:
        return self.values(obs, self.output(obs))

    def loss(self, obs: Tensor, action: Tensor, target: Tensor) -> Tensor:
        """The head's loss of the chosen actions `[B]`: `[B]`."""
        return self.head.loss(at_action(self.output(obs), action), target)


def action_outputs(features: int, actions: int, outputs: int, dueling: bool, **options: Any) -> nn.Module:
    """The last layer of a network for discrete actions: `[..., features]` -> `[..., actions * outputs]`."""
    if dueling:
        return Dueling(features, actions, outputs, **options)
    return mlp(features, (), actions * outputs, **options)


def at_action(output: Tensor, action: Tensor) -> Tensor:
    """The rows of `[B, A, ...]` that belong to the actions `[B]`: `[B, ...]`."""
    index = action.view(-1, *(1,) * (output.ndim - 1))
    return output.gather(1, index.expand(-1, 1, *output.shape[2:])).squeeze(1)
