"""SAC with an anti-exploration bonus from random network distillation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..agents.actor_critic.sac import SAC, SACConfig
from ..agents.core.agent import Metrics
from ..agents.core.batch import Batch
from ..agents.core.buffer import Buffer
from ..agents.core.config import Count, NonNegative, Number
from ..agents.core.errors import InvalidSetting
from ..agents.core.nets import Linear, mlp
from ..agents.core.normalizer import Normalizer
from ..agents.core.spec import Spec

WIDTH, EMBEDDING = 256, 32


@dataclass(frozen=True)
class SACRNDConfig(SACConfig):
    """Defaults: the authors' for MuJoCo; the weight of the bonus is to be tuned for each data set."""

    learning_rate: NonNegative = 1e-3
    """Step size of Adam."""
    predictor_learning_rate: NonNegative = 3e-4
    """Step size of the predictor's Adam."""
    batch_size: Count = 1024
    """Transitions per update."""
    hidden: tuple[int, ...] = (256, 256, 256)
    """Widths of the hidden layers of actor and critics."""
    layer_norm: bool = True
    """Normalise every critic layer over its units, before the activation."""
    predictor_updates: Number = 1000
    """Updates at the beginning that train the predictor, and nothing else."""
    beta: NonNegative = 1.0
    """Weight of the novelty of an action against its value."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.actor_delay != 1:
            raise InvalidSetting("sac_rnd updates its actor before the critics each time: leave actor_delay out")


class Prior(nn.Module):
    """Random features of an action, modulated by the state: (obs `[B, S]`, action `[B, A]`) -> `[B, 32]`.

    L4 relu(gamma(s) L3 relu(L2 relu(L1 a)) + beta(s)), gamma and beta linear (FiLM on the last hidden layer).
    """

    def __init__(self, spec: Spec):
        super().__init__()
        self.body = mlp(spec.actions, (WIDTH, WIDTH, WIDTH))[:-1]
        self.film, self.last = Linear(spec.vector_size, 2 * WIDTH), Linear(WIDTH, EMBEDDING)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        gamma, beta = self.film(obs).chunk(2, -1)
        return self.last((gamma * self.body(action) + beta).relu())


class Predictor(nn.Module):
    """Learns the prior's features: relu(a^T W_k s + c_k), k = 1..256, then two hidden layers and a linear one."""

    def __init__(self, spec: Spec):
        super().__init__()
        bound = spec.actions**-0.5
        self.weight = nn.Parameter(torch.empty(spec.vector_size, spec.actions * WIDTH).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(WIDTH).uniform_(-bound, bound))
        self.rest = mlp(WIDTH, (WIDTH, WIDTH), EMBEDDING)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        modulated = (obs @ self.weight).unflatten(-1, (-1, WIDTH))  # [B, A, 256]
        return self.rest(((action.unsqueeze(-1) * modulated).sum(-2) + self.bias).relu())


class SACRND(SAC, name="sac_rnd"):
    """SAC-RND (Nikulin et al. 2023, arXiv 2301.13616): SAC that stays where a predictor of random features is good.

        b(s, a)   = |predictor(s, a) - prior(s, a)|^2 / sigma,  both of standardised s and a
        first       `predictor_updates` updates of mean |predictor - prior|^2; sigma is the standard deviation of all
                    those rows' errors; then both stay as they are
        y         = r + discount (min_e Qbar_e(s', a') - alpha log pi(a'|s') - beta b(s', a'))
        actor       mean (alpha log pi(a|s) + beta b(s, a) - min_e Q_e(s, a)), before the critics
        critic      as in SAC

    States and actions are standardised by the data's mean and deviation, for the bonus alone. Departures from the
    authors' code: layer norm before the activation; the critics' target has the new temperature; its loss is in log
    form; PyTorch's initialisation; sigma without the 1e-4 imaginary rows of error 0 with which theirs begins.
    """

    config: SACRNDConfig = SACRNDConfig()
    uncompiled = "they change running statistics, which the compiler loses"
    predicting = True
    """Whether updates still train the predictor."""

    def build(self, spec: Spec, c: Any) -> None:
        super().build(spec, c)
        self.prior, self.predictor = Prior(spec).requires_grad_(False), Predictor(spec)
        self.obs_scale = Normalizer((spec.vector_size,), epsilon=1e-6)
        self.action_scale = Normalizer((spec.actions,), epsilon=1e-6)
        self.sigma = Normalizer()

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Batch]:
        batches = super().sample(buffer, count)
        if self.updates == 0:
            for obs, action in buffer.parts():
                self.obs_scale.update(obs if self.obs_normalizer is None else self.obs_normalizer(obs))
                self.action_scale.update(action)
        return batches

    def step(self, batch: Batch) -> Metrics:
        self.predicting = self.updates < self.config.predictor_updates
        return super().step(batch)

    def update(self, batch: Batch) -> Metrics:
        if self.predicting:
            error = self.error(batch.obs, batch.action)
            self.sigma.update(error.detach())
            return {"predictor_loss": self.minimize("predictor", error.mean())}
        metrics = {**self.update_actor(batch), **self.update_critic(batch)}
        self.follow(self.config.tau)
        return metrics

    def error(self, obs: Tensor, action: Tensor) -> Tensor:
        """Squared distance `[B]` of prediction and prior."""
        obs, action = self.obs_scale(obs), self.action_scale(action)
        return (self.predictor(obs, action) - self.prior(obs, action)).square().sum(-1)

    def novelty(self, obs: Tensor, action: Tensor) -> Tensor:
        """b(s, a), `[B]`."""
        return self.sigma.scale(self.error(obs, action))

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        action, log_prob = self.actor(batch.next_obs).sample_with_log_prob()
        novelty = self.config.beta * self.novelty(batch.next_obs, action)
        batch = batch._replace(reward=batch.reward - batch.discount * novelty)
        return self.backup(batch, self.next_output(batch.next_obs, action), log_prob)

    def actor_value(self, obs: Tensor, action: Tensor) -> Tensor:
        return super().actor_value(obs, action) - self.config.beta * self.novelty(obs, action)
