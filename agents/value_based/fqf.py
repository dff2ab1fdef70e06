"""DQN with a fully parameterised quantile function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..core.agent import Metrics
from ..core.batch import Batch
from ..core.config import Count, NonNegative
from ..core.critics import at_action
from ..core.implicit import ImplicitQ
from ..core.losses import quantile_huber
from ..core.masks import forbid
from ..core.nets import frozen_copy, mlp, orthogonal_init
from ..core.spec import Spec
from .dqn import DQN, DQNConfig


@dataclass(frozen=True)
class FQFConfig(DQNConfig):
    """Defaults: the paper's, otherwise DQN's."""

    quantiles: Count = 32
    """Intervals into which the proposed fractions cut [0, 1]."""
    cosines: Count = 64
    """Cosines that represent a fraction."""
    proposal_learning_rate: NonNegative = 2.5e-9
    """Step size of the network that proposes fractions."""
    proposal_entropy: NonNegative = 0.001
    """Weight of the entropy of the intervals' lengths, per nat."""


class Proposal(nn.Module):
    """Fractions 0 = tau_0 < ... < tau_N = 1 from features: `[B, F]` -> `[B, N + 1]`. At first nearly at equal steps."""

    def __init__(self, features: int, quantiles: int):
        super().__init__()
        self.net = mlp(features, (), quantiles, last_init=orthogonal_init(0.01))

    def forward(self, features: Tensor) -> Tensor:
        return F.pad(self.net(features).softmax(1).cumsum(1), (1, 0))

    def entropy(self, features: Tensor) -> Tensor:
        """Of the intervals' lengths, `[B]`: from their logarithms, since a length may be 0."""
        logs = self.net(features).log_softmax(1)
        return -(logs.exp() * logs).sum(1)


def midpoints(edges: Tensor) -> Tensor:
    """`[B, N + 1]` -> `[B, N]`."""
    return 0.5 * (edges[:, 1:] + edges[:, :-1])


class FQF(DQN, name="fqf"):
    """FQF (Yang et al. 2019, arXiv 1911.02140): IQN at fractions that a second network proposes.

        tau_0..tau_N  cumulative sums of softmax(W psi(s)),   mid_i = (tau_i + tau_{i+1}) / 2
        Q(s, a)       sum_i (tau_{i+1} - tau_i) Z_{mid_i}(s, a)
        q             as IQN's loss, at the midpoints of s, targets at the midpoints of s'
        proposal      gradient in tau_i: 2 Z_{tau_i}(s, a) - Z_{mid_i}(s, a) - Z_{mid_{i-1}}(s, a)     (proposition 1),
                      -c times the entropy of (tau_{i+1} - tau_i)_i; features psi are not changed by it

    The fractions at s' come from a copy of the proposal that follows with the target network, as in the authors' code.
    W starts near 0, as in others' code: the paper's step size hardly moves it, and fractions at random distances, which
    drift apart as psi grows, end in one interval that takes all.

    Departures from the paper: those of IQN; Adam instead of RMSProp for the proposals.
    """

    config: FQFConfig = FQFConfig()

    def build(self, spec: Spec, c: Any) -> None:
        super().build(spec, c)
        self.proposal = Proposal(self.q.features, c.quantiles)
        self.proposal_target = frozen_copy(self.proposal)

    def network(self, spec: Spec, c: Any) -> ImplicitQ:
        options = {"cosines": c.cosines, "dueling": c.dueling, "noise": c.noise * c.noisy}
        return ImplicitQ(spec, c.hidden, c.quantiles, c.quantiles, **options)

    def action_values(self, obs: Tensor) -> Tensor:
        features = self.q.body(obs)
        edges = self.proposal(features)
        return self.weighted(obs, self.q.quantiles(features, midpoints(edges)), edges)

    def weighted(self, obs: Tensor, output: Tensor, edges: Tensor) -> Tensor:
        """Values of actions `[B, A]` from quantiles `[B, A, N]` at the midpoints of the intervals."""
        return forbid(self.spec, obs, (output @ edges.diff().unsqueeze(-1)).squeeze(-1))

    def return_distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        self.q.eval()
        features = self.q.body(obs)
        edges = self.proposal(features)
        output = self.q.quantiles(features, midpoints(edges))
        self.q.train()
        return at_action(output, self.weighted(obs, output, edges).argmax(1)), edges.diff()

    def update(self, batch: Batch) -> Metrics:
        metrics = {"proposal_loss": self.minimize("proposal", self.proposal_loss(batch))}
        return metrics | super().update(batch)

    def next_output(self, obs: Tensor) -> Tensor:
        features = self.q_target.body(obs)
        edges = self.proposal_target(features)
        output = self.q_target.quantiles(features, midpoints(edges))
        value = self.action_values(obs) if self.config.double else self.weighted(obs, output, edges)
        return at_action(output, value.argmax(1))

    def losses(self, batch: Batch) -> Tensor:
        features = self.q.body(batch.obs)
        fractions = midpoints(self.proposal(features.detach()).detach())
        output = at_action(self.q.quantiles(features, fractions), batch.action)
        return quantile_huber(output, self.target(batch), fractions, self.q.head.threshold)

    def proposal_loss(self, batch: Batch) -> Tensor:
        """0-d; its gradient, not its value, is what the equations say."""
        with torch.no_grad():
            features = self.q.body(batch.obs)
        edges = self.proposal(features)
        inner = edges[:, 1:-1]
        with torch.no_grad():
            fractions = torch.cat([inner, midpoints(edges)], 1)
            value = at_action(self.q.quantiles(features, fractions), batch.action)
            at_inner, at_middle = value.tensor_split([inner.shape[1]], 1)
            slope = 2.0 * at_inner - at_middle[:, 1:] - at_middle[:, :-1]
        entropy = self.config.proposal_entropy * self.proposal.entropy(features)
        return (batch.weight * ((slope * inner).sum(1) - entropy)).mean()
