"""Policies: networks from observations to laws over actions, and those laws as light tuples.

The laws are written out, since acting runs one of them at every step and torch.distributions costs several times the
network. All log-probabilities and entropies are summed over action dimensions: `[B]`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .bodies import body
from .direct import Direct
from .masks import Parted, forbid
from .nets import Activation, Initialiser, mlp, orthogonal_init, uniform_init
from .spec import Spec

LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class Law(Protocol):
    """A law over actions."""

    def mode(self) -> Tensor: ...

    def sample(self) -> Tensor: ...

    def log_prob(self, action: Tensor) -> Tensor: ...

    def entropy(self) -> Tensor: ...

    def kl(self, other: Any) -> Tensor: ...


class Normal(NamedTuple):
    """Independent Gaussians with mean `[B, A]` and log standard deviation `[B, A]` or `[A]`."""

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        return self.mean

    def sample(self) -> Tensor:
        """Differentiable in the parameters."""
        return self.mean + self.log_std.exp() * torch.randn_like(self.mean)

    def log_prob(self, action: Tensor) -> Tensor:
        deviation = (action - self.mean) * (-self.log_std).exp()
        return (-0.5 * deviation.square() - self.log_std - LOG_SQRT_2PI).sum(-1)

    def entropy(self) -> Tensor:
        return (self.log_std.expand_as(self.mean) + (0.5 + LOG_SQRT_2PI)).sum(-1)

    def kl(self, other: Normal) -> Tensor:
        """KL(self || other), `[B]`."""
        log_ratio, shift = self.log_std - other.log_std, (self.mean - other.mean) * (-other.log_std).exp()
        return (0.5 * ((2.0 * log_ratio).exp() + shift.square() - 1.0) - log_ratio).sum(-1)


class TanhNormal(NamedTuple):
    """a = tanh(z), z Gaussian with mean and log standard deviation `[B, A]` (Haarnoja et al. 2018, appendix C)."""

    mean: Tensor
    log_std: Tensor

    def mode(self) -> Tensor:
        """tanh of the Gaussian's mean."""
        return self.mean.tanh()

    def sample(self) -> Tensor:
        return Normal(*self).sample().tanh()

    def sample_with_log_prob(self) -> tuple[Tensor, Tensor]:
        """Actions `[B, A]`, differentiable, and their log-probabilities `[B]`."""
        before = Normal(*self).sample()
        return before.tanh(), self.log_prob_before_tanh(before)

    def log_prob_before_tanh(self, before: Tensor) -> Tensor:
        """log pi of the action tanh(z), from z, exact where tanh saturates."""
        slope = 2.0 * (math.log(2.0) - before - F.softplus(-2.0 * before))  # log(1 - tanh(z)^2)
        return Normal(*self).log_prob(before) - slope.sum(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """log pi(action), the action kept 1e-6 inside (-1, 1)."""
        return self.log_prob_before_tanh(action.clamp(-1 + 1e-6, 1 - 1e-6).atanh())


class Categorical(NamedTuple):
    """Choices with the given log-probabilities `[B, A]`."""

    log_probs: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> Categorical:
        """With probabilities in proportion to exp(logits)."""
        return cls(logits.log_softmax(-1))

    def mode(self) -> Tensor:
        return self.log_probs.argmax(-1)

    def sample(self) -> Tensor:
        """`[B]` int64, by the exponential race: the first of A clocks with rates p_a to ring."""
        return (self.log_probs.exp() / torch.empty_like(self.log_probs).exponential_()).argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        return self.log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        return -(self.log_probs.exp() * self.log_probs).sum(-1)

    def kl(self, other: Categorical) -> Tensor:
        """KL(self || other), `[B]`."""
        return (self.log_probs.exp() * (self.log_probs - other.log_probs)).sum(-1)


class MultiCategorical(NamedTuple):
    """Independent choices with the given log-probabilities `[B, P, K]`: actions `[B, P]`."""

    log_probs: Tensor

    @classmethod
    def of(cls, logits: Tensor) -> MultiCategorical:
        return cls(logits.log_softmax(-1))

    def mode(self) -> Tensor:
        return Categorical(self.log_probs).mode()

    def sample(self) -> Tensor:
        return Categorical(self.log_probs).sample()

    def log_prob(self, action: Tensor) -> Tensor:
        return Categorical(self.log_probs).log_prob(action).sum(-1)

    def entropy(self) -> Tensor:
        return Categorical(self.log_probs).entropy().sum(-1)

    def kl(self, other: MultiCategorical) -> Tensor:
        """KL(self || other), `[B]`."""
        return Categorical(self.log_probs).kl(Categorical(other.log_probs)).sum(-1)


class Deterministic(Direct):
    """tanh(net(obs)): `[B, ...]` -> `[B, A]`. Options go to `mlp`."""

    def __init__(self, spec: Spec, hidden: Sequence[int], **options: Any):
        super().__init__()
        self.net = mlp(spec.vector_size, hidden, spec.actions, **options)

    def forward(self, obs: Tensor) -> Tensor:
        return self.net(obs).tanh()


class TanhGaussian(Direct):
    """Squashed Gaussian with a state-dependent log standard deviation, clipped to [-20, 2]."""

    def __init__(self, spec: Spec, hidden: Sequence[int], **options: Any):
        super().__init__()
        self.net = mlp(spec.vector_size, hidden, 2 * spec.actions, **options)

    def forward(self, obs: Tensor) -> TanhNormal:
        mean, log_std = self.net(obs).chunk(2, -1)
        return TanhNormal(mean, log_std.clamp(-20.0, 2.0))


class Gaussian(Direct):
    """Gaussian with a free log standard deviation, the same in every state, clipped to [-5, 2] if `squash_mean`.

    `squash_mean` puts the mean through tanh (IQL); the sample is not squashed. Options go to `mlp`.
    """

    def __init__(
        self, spec: Spec, hidden: Sequence[int], log_std: float = 0.0, squash_mean: bool = False, **options: Any
    ):
        super().__init__()
        self.squash_mean = squash_mean
        self.net = mlp(spec.vector_size, hidden, spec.actions, **options)
        self.log_std = nn.Parameter(torch.full((spec.actions,), log_std))

    def forward(self, obs: Tensor) -> Normal:
        mean = self.net(obs)
        return Normal(mean.tanh(), self.log_std.clamp(-5.0, 2.0)) if self.squash_mean else Normal(mean, self.log_std)


class Softmax(Direct):
    """Categorical law over the discrete actions that are allowed; a product of laws for several choices at once.

    Options go to `mlp`.
    """

    def __init__(self, spec: Spec, hidden: Sequence[int], last_init: Initialiser = uniform_init, **options: Any):
        super().__init__()
        self.body, features = body(spec, hidden, **options)
        self.last = mlp(features, (), spec.actions, init=last_init)
        self.spec, self.parted = spec, Parted(spec.action_choices) if spec.action_choices else None

    def forward(self, obs: Tensor) -> Categorical | MultiCategorical:
        logits = forbid(self.spec, obs, self.last(self.body(obs)))
        return Categorical.of(logits) if self.parted is None else MultiCategorical.of(self.parted(logits))


def stochastic_policy(
    spec: Spec, hidden: Sequence[int], activation: Activation = "tanh", log_std: float = 0.0, orthogonal: bool = True
) -> Gaussian | Softmax:
    """The policy of on-policy agents.

    Its layers are `orthogonal`, the last of gain 0.01, so that all actions start alike; or PyTorch's default.
    """
    options: dict[str, Any] = {"init": orthogonal_init(), "last_init": orthogonal_init(0.01)} if orthogonal else {}
    if spec.discrete:
        return Softmax(spec, hidden, activation=activation, **options)
    return Gaussian(spec, hidden, log_std, activation=activation, **options)
