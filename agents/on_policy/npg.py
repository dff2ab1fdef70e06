"""Natural policy gradient, with the trust region for the value function as a setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.agent import Metrics
from ..core.batch import RolloutBatch
from ..core.config import Count, NonNegative, Positive, RolloutConfig
from ..core.errors import InvalidSetting
from ..core.natural import NaturalStep, natural_step, parts
from ..core.policies import Law
from ..core.rollouts import RolloutAgent, make_actor, make_critic
from ..core.spec import Spec


@dataclass(frozen=True)
class NPGConfig(RolloutConfig):
    """Defaults: sb3-contrib's for TRPO."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam for the value; the policy's step has the length that `max_kl` gives it."""
    batch_size: Count = 128
    """Transitions per update of the value; the policy's one step takes the whole rollout."""
    max_grad_norm: NonNegative = 0.0
    """The value's gradients and the policy's step are shortened to this if they are longer; 0 = never."""
    epochs: Count = 10
    """Passes of the value over each rollout; the policy makes one step."""
    max_kl: Positive = 0.01
    """Mean KL divergence of the policy's step, in nats (to second order)."""
    damping: NonNegative = 0.1
    """Added to the diagonal of the Fisher matrix."""
    iterations: Count = 15
    """Iterations of the conjugate gradient, fixed."""
    value_fit: Literal["adam", "trust_region"] = "adam"
    """How a batch moves the value: a step of Adam, or the GAE paper's trust region (then let batches be large)."""
    value_max_kl: Positive = 0.01
    """Size of that trust region: mean squared change of the value over twice its mean squared error."""


class NPG(RolloutAgent, name="npg"):
    """Natural policy gradient (Kakade 2001; step length as in Rajeswaran et al. 2017, arXiv 1703.02660).

    On each rollout, with advantages A from GAE, F the Hessian of mean KL(pi_old || pi) + damping / 2 |theta|^2:

        g = gradient of mean pi(a|s) / pi_old(a|s) A,   x = F^-1 g by conjugate gradients,
        theta <- theta + x sqrt(2 max_kl / x.Fx)

    then `epochs` passes fit the value to R = A + V_old in batches, each by a step of Adam on mean (V - R)^2, or in the
    trust region of Schulman et al. 2016 (eq. 28-30): H = mean j j^T, j = dV/dphi, sigma^2 = mean (V - R)^2 before,

        s = -H^-1 (gradient of mean (V - R)^2),   phi <- phi + min(a, a*) s,

    a such that mean (change of V)^2 / (2 sigma^2) = value_max_kl to first order, a* the minimiser along s.

    Departures: advantages are normalised over the rollout. The GAE paper's text scales the value's step by H without
    1 / sigma^2, which is its stated constraint only if sigma is 1; a* is ours; its targets are Monte Carlo returns,
    which gae_lambda 1 gives. With `value_fit` "trust_region" it makes one step a rollout: set epochs to 1 and
    batch_size to at least the rollout. The conjugate gradient makes all its iterations: the host never waits.
    """

    config: NPGConfig = NPGConfig()
    uncompiled = "they differentiate the gradient again"
    rollout: RolloutBatch | None = None
    """All of a rollout, until the policy has made its step."""

    def build(self, spec: Spec, c: Any) -> None:
        if c.value_fit == "trust_region" and c.critic_head != "scalar":
            raise InvalidSetting(f"value_fit='trust_region' goes with scalar values, not critic_head='{c.critic_head}'")
        self.actor, self.value = make_actor(spec, c.hidden, c), make_critic(spec, c.hidden, c)
        self.make_return_normalizer()

    def law(self, obs: Tensor) -> Law:
        return self.actor(obs)

    def values(self, obs: Tensor) -> Tensor:
        return self.value(obs)

    def prepare(self, rollout: Any) -> RolloutBatch:
        self.rollout = super().prepare(rollout)
        return self.rollout

    def update(self, batch: RolloutBatch) -> Metrics:
        metrics: Metrics = {"explained_variance": self.explained_variance.clone()}
        if self.rollout is not None:
            metrics |= self.policy_step(self.rollout)
            self.rollout = None
        loss = self.value.loss(self.value.output(batch.obs), batch.target).mean()
        if self.config.value_fit == "adam":
            return metrics | {"value_loss": self.minimize("value", loss)}
        self.move("value", self.value_step(batch, loss))
        return metrics | {"value_loss": loss.detach()}

    def policy_step(self, batch: RolloutBatch) -> Metrics:
        """Moves the policy once, by all of a rollout."""
        c, law = self.config, self.law(batch.obs)
        assert isinstance(law, tuple)
        old = type(law)(*(part.detach().clone() for part in law))  # a part may be a parameter itself
        advantage = self.normalized_advantage(batch)
        loss, divergence = self.surrogate(law, batch, advantage), old.kl(law).mean()
        natural = natural_step(self._flat["actor"], loss, divergence, c.max_kl, c.damping, c.iterations)
        share = self.share(natural, old, batch, advantage)
        self.move("actor", share * natural.step)
        with torch.no_grad():
            law = self.law(batch.obs)
            metrics = {"policy_objective": -self.surrogate(law, batch, advantage), "kl": old.kl(law).mean()}
        return metrics | {"entropy_loss": -law.entropy().mean().detach(), "step_share": share}

    def surrogate(self, law: Law, batch: RolloutBatch, advantage: Tensor) -> Tensor:
        """-mean pi(a|s) / pi_old(a|s) A."""
        return -((law.log_prob(batch.action) - batch.log_prob).exp() * advantage).mean()

    def share(self, natural: NaturalStep, old: Law, batch: RolloutBatch, advantage: Tensor) -> Tensor:
        """How much of the natural step is made, 0-d."""
        return torch.ones_like(natural.slope)

    def value_step(self, batch: RolloutBatch, loss: Tensor) -> Tensor:
        """The step s of the equations, flat, where `loss` is the mean squared error."""
        c, value = self.config, self.value(batch.obs)
        variance = loss.detach()
        divergence = (value - value.detach()).square().mean() / (2.0 * variance)
        natural = natural_step(self._flat["value"], loss, divergence, c.value_max_kl, c.damping, c.iterations)
        best = -natural.slope / (2.0 * variance * natural.curved)  # 2 sigma^2 curved: second derivative of the loss
        return natural.step * torch.where(natural.curved > 0, best, 0.0).clamp(max=1.0)

    def move(self, name: str, step: Tensor) -> None:
        """Adds `step` to the parameters of the child `name`, by an optimiser: so NaN is treated as in a gradient."""
        views, steps = self._flat[name].views, parts(self._flat[name], step)
        self.minimize(name, -torch.stack([(x * s).sum() for x, s in zip(views, steps, strict=True)]).sum())

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        if name == "value" and self.config.value_fit == "adam":
            return super().optimizer(name, parameters)
        return torch.optim.SGD([parameters], lr=1.0, fused=True)

    def learning_rate(self, name: str) -> float:
        return super().learning_rate(name) if name == "value" and self.config.value_fit == "adam" else 1.0
