"""Decision Transformer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.core.agent import Metrics
from ..agents.core.buffer import Buffer
from ..agents.core.config import Count, NonNegative, Positive, ReplayConfig, Share
from ..agents.core.errors import InvalidData, InvalidSetting
from ..agents.core.losses import mse
from ..agents.core.policies import Categorical
from ..agents.core.recurrence import starts
from ..agents.core.replay import ReplayAgent
from ..agents.core.spec import Spec
from .trajectories import trajectories
from .transformer import CausalTransformer


@dataclass(frozen=True)
class DecisionTransformerConfig(ReplayConfig):
    """Defaults: the authors' for MuJoCo. The settings of replay, start and bootstrapping have no effect."""

    learning_rate: NonNegative = 1e-4
    """Step size of AdamW after the warm-up."""
    warm_up: Count = 10_000
    """Updates over which the step size rises linearly."""
    weight_decay: NonNegative = 1e-4
    """Share of every parameter that a step takes away, in units of the step size."""
    batch_size: Count = 64
    """Windows per update."""
    max_grad_norm: NonNegative = 0.25
    """Gradients longer than this are shortened to it; 0 = never."""
    hidden: tuple[int, ...] = (128, 128, 128)
    """Widths of the transformer's blocks, all the same."""
    normalize_obs: bool = True
    """Shift and scale each observation dimension by the data's mean and standard deviation (plus 1e-3)."""
    heads: Count = 1
    """Heads of attention; the width must be a multiple of them."""
    dropout: Share = 0.1
    """Probability of leaving out a unit or an attention weight in training."""
    context: Count = 20
    """Steps that the policy looks back, the present one included."""
    longest: Count = 1000
    """Steps of the longest episode, each of which has an embedding; what comes later counts as the last."""
    return_scale: Positive = 1000.0
    """Returns are divided by this."""
    target_return: float = 0.0
    """Undiscounted return to ask for, in the environment's units; 0 = that of the data's best episode."""


class Windows(NamedTuple):
    """Stretches of up to K steps of an episode. Step t is real where `mask` is 1; what is not comes after."""

    return_to_go: Tensor
    """[B, K] undiscounted rewards from here to the episode's end, divided by the scale."""
    obs: Tensor
    """[B, K, ...]"""
    action: Tensor
    """[B, K, A], or [B, K]."""
    time: Tensor
    """[B, K] int64 steps since the episode began."""
    mask: Tensor
    """[B, K]"""


class Context(NamedTuple):
    """What N running episodes have seen, oldest first; what is beyond the present step has no meaning."""

    return_to_go: Tensor
    """[N, K]"""
    obs: Tensor
    """[N, K, ...]"""
    action: Tensor
    """[N, K, A], or [N, K]."""
    steps: Tensor
    """[N] int64 steps of the episode before the present one."""
    target: Tensor
    """[N] return to ask for next, divided by the scale."""


class DecisionTransformer(ReplayAgent, name="decision_transformer"):
    """Decision Transformer (Chen et al. 2021, arXiv 2106.01345): the action as a guess from return, state and history.

        tokens   (R_1, s_1, a_1, R_2, s_2, a_2, ...),  R_t = sum_{i >= t} r_i / scale
        pi       a causal transformer over them; the output at s_t, which sees R_t, s_t and all before, guesses a_t
        loss     mean (pi_t - a_t)^2 over real steps and dimensions  (discrete: -mean log pi_t(a_t))
        acting   R_1 = target / scale,  R_{t + 1} = R_t - r_t / scale,  the last K steps

    It has no values and learns from data alone. `evaluate` tells it its rewards; whoever calls `predict` with
    stable-baselines3's `state` and `episode_start` may (see `credit`), else it keeps on asking for the same return.

    Departures from the authors' code: short windows are padded at the end, where causality hides it, not in front;
    standard deviations get 1e-3, not 1e-6, added; discrete actions, which forbidden ones are not among, are ours.
    """

    config: DecisionTransformerConfig = DecisionTransformerConfig()
    learns: ClassVar[tuple[str, ...]] = ("from data",)
    best_return: Tensor
    _whole: Buffer | None = None
    _time: Tensor
    _return_to_go: Tensor

    def build(self, spec: Spec, c: DecisionTransformerConfig) -> None:
        if len(set(c.hidden)) != 1 or c.hidden[0] % c.heads:
            raise InvalidSetting(f"hidden = {c.hidden} must be one width for each block, a multiple of {c.heads} heads")
        if spec.discrete:
            spec.require_discrete(self.name)
        self.actor = CausalTransformer(spec, c.hidden[0], len(c.hidden), c.heads, c.longest, c.dropout).eval()
        self.register_buffer("best_return", torch.zeros(()))

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        decay = self.config.weight_decay
        return torch.optim.AdamW([parameters], lr=self.learning_rate(name), weight_decay=decay, fused=True)

    def learning_rate(self, name: str) -> float:
        share = self.updates / self.config.warm_up
        return super().learning_rate(name) * 0.5 * (1.0 + share - abs(1.0 - share))  # min(share, 1), also of a tensor

    # ---- learning ----------------------------------------------------------------------------------------------

    def view(self, buffer: Buffer) -> Buffer:
        if buffer.reward_change != (1.0, 0.0):
            raise InvalidSetting(f"'{self.name}' is told the environment's rewards: leave those of the data unchanged")
        return super().view(buffer)

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Windows]:  # type: ignore[override]
        c = self.config
        if self._whole is not buffer:
            self._read(buffer)
        if self.updates == 0:
            self.fit_normalizer(buffer)
        step = torch.arange(c.context, device=buffer.device)
        at = buffer.draw(c.batch_size * count)[:, None] + buffer.columns * step
        at = at % (buffer.rows * buffer.columns)
        time = self._time[at]
        windows = Windows(
            self._return_to_go[at],
            self.normalized_obs(buffer.observations(at)),
            buffer.action.flatten(0, 1)[at],
            time.clamp(min=0),
            (time == time[:, :1] + step).float(),
        )
        return [Windows(*fields) for fields in zip(*(field.chunk(count) for field in windows), strict=True)]

    def _read(self, buffer: Buffer) -> None:
        """Notes the time and the return to go of each row; rows that are no transitions have the time -1."""
        c, found = self.config, trajectories(buffer)
        if found.lengths.max() > c.longest:
            raise InvalidData(f"an episode has {found.lengths.max()} steps: set longest, now {c.longest}, to that")
        time, to_go = np.full(buffer.rows * buffer.columns, -1), np.zeros(buffer.rows * buffer.columns, np.float32)
        time[found.rows], to_go[found.rows] = found.time, found.returns_to_go / c.return_scale
        self._time, self._return_to_go = (torch.as_tensor(x, device=self.device) for x in (time, to_go))
        self.best_return.fill_(float(found.returns.max()))
        self._whole = buffer

    def update(self, batch: Windows) -> Metrics:
        self.actor.train()
        loss = self.minimize("actor", self.actor_loss(batch))
        self.actor.eval()
        return {"actor_loss": loss}

    def actor_loss(self, batch: Windows) -> Tensor:
        """0-d: its mean over real steps."""
        guess = self.actor(batch.return_to_go, batch.obs, batch.action, batch.time)
        discrete = isinstance(guess, Categorical)
        error = -guess.log_prob(batch.action) if discrete else mse(guess, batch.action).mean(-1)
        return (batch.mask * error).sum() / batch.mask.sum()

    # ---- acting ------------------------------------------------------------------------------------------------

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """What to do at the first step of an episode."""
        return self._extend(obs, self._initial(len(obs)), explore)[0]

    @torch.inference_mode()
    def act_from(
        self, obs: np.ndarray, state: Context | None, start: np.ndarray, explore: bool
    ) -> tuple[np.ndarray, Context]:
        """`act_on` with the context `state` of N environments, which is forgotten where `start` `[N]`; and the next."""
        fresh = self._initial(len(obs))
        begins = torch.as_tensor(start, device=self.device)
        if state is not None:
            steps = torch.where(begins, fresh.steps, state.steps)
            fresh = state._replace(steps=steps, target=torch.where(begins, fresh.target, state.target))
        action, state = self._extend(self.inputs(obs), fresh, explore)
        return action.cpu().numpy(), state

    def credit(self, state: Context, reward: np.ndarray) -> Context:
        """The context after the rewards `[N]` of the last step, in the units of the data's rewards."""
        return state._replace(target=state.target - torch.as_tensor(reward / self.config.return_scale).to(state.target))

    def act_next(self, obs: np.ndarray, state: Any, start: Any, explore: bool) -> tuple[np.ndarray, Any]:
        return self.act_from(obs, state, starts(start, len(obs)), explore)

    def _initial(self, columns: int) -> Context:
        c, spec, device = self.config, self.spec, self.device
        target = torch.full((columns,), c.target_return, device=device) if c.target_return else self.best_return
        width = () if spec.discrete else (spec.actions,)
        return Context(
            torch.zeros(columns, c.context, device=device),
            torch.zeros(columns, c.context, *spec.obs_shape, device=device),
            torch.zeros(columns, c.context, *width, dtype=torch.int64 if spec.discrete else None, device=device),
            torch.zeros(columns, dtype=torch.int64, device=device),
            (target / c.return_scale).expand(columns),
        )

    def _extend(self, obs: Tensor, context: Context, explore: bool) -> tuple[Tensor, Context]:
        """The actions in the observations `[N, ...]`, and the context with both."""
        size, column = self.config.context, torch.arange(len(obs), device=obs.device)
        place = context.steps.clamp(max=size - 1)
        full = context.steps >= size

        def with_room(values: Tensor) -> Tensor:
            """A copy in which what is full has lost its oldest step."""
            return torch.where(full.view(-1, *(1,) * (values.ndim - 1)), values.roll(-1, 1), values)

        to_go, seen, done = with_room(context.return_to_go), with_room(context.obs), with_room(context.action)
        to_go[column, place], seen[column, place] = context.target, obs.to(seen.dtype)
        time = (context.steps - place)[:, None] + torch.arange(size, device=obs.device)
        guess = self.actor(to_go, seen, done, time)
        if isinstance(guess, Categorical):
            law = Categorical(guess.log_probs[column, place])
            action = law.sample() if explore else law.mode()
        else:
            action = guess[column, place]
        done[column, place] = action
        return action, Context(to_go, seen, done, context.steps + 1, context.target)
