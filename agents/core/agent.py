"""The contract: an agent is a policy, an update and a state. Loops, data and logs live outside."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from .buffer import Buffer
from .compiled import Compiled, one_graph
from .config import Config, scheduled
from .errors import InvalidSetting
from .heads import DISTRIBUTIONAL
from .masks import random_actions
from .normalizer import FeatureNormalizer, Normalizer
from .parameters import FlatParameters
from .spec import Spec
from .stateful import Stateful

if TYPE_CHECKING:
    from ...envs.vector import VectorEnv

Metrics = dict[str, Tensor]
CANNOT = {  # what such an agent learns from instead, and the remedy
    "online": "from recorded data, not online: take one that goes on online, such as iql, awac or td3_bc",
    "from data": "from what its own policy has just done, not data: take one with replay, such as iql, td3_bc or sac",
}


class Agent(Stateful):
    """Base of all agents.

    A subclass names its settings (`config`), makes its networks (`build`), acts (`act`) and lists what an update
    minimises and in which order (`update`). `class TD3(Agent, name="td3")` registers it.

    Every child module with parameters that want gradients gets an optimiser of its own; `x_target` follows `x`.
    """

    config: Config = Config()
    name: ClassVar[str] = ""
    registry: ClassVar[dict[str, type[Agent]]] = {}
    uncompiled: ClassVar[str] = ""
    """Why an update cannot be one compiled graph; "" if it can."""
    learns: ClassVar[tuple[str, ...]] = ("online",)
    """How it can learn: "online", "from data", or both; see `require`."""

    def __init_subclass__(cls, name: str = "", **kwargs: Any):
        super().__init_subclass__(**kwargs)
        cls.name = name
        if name:
            other = Agent.registry.setdefault(name, cls)
            if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
                raise InvalidSetting(f"two agents are named '{name}': {other.__module__} and {cls.__module__}")
            Agent.registry[name] = cls

    def __init__(self, spec: Spec, config: Config | None = None, *, device: str | torch.device = "cpu", seed: int = 0):
        super().__init__()
        self.spec, self.config = spec, config or type(self).config
        self.seed, self.device = seed, torch.device(device)
        self.steps = self.updates = 0
        """Transitions seen online, and calls of `update`."""
        self.owed = 0.0
        """Updates that are due but not done."""
        self.progress = 0.0
        """Share of the planned training that is over; the loop sets it, schedules read it."""
        self.env: VectorEnv | None = None
        self.buffer: Buffer | None = None
        self.dues: dict[int, bool] = {}
        """Answers of `due`, given beforehand while an update is compiled."""
        self._descents: Metrics = {}
        self._compiled: Compiled | None = None
        with self.device:
            self.obs_normalizer = self.make_normalizer() if self.config.normalize_obs else None
            self.build(spec, self.config)
            self._flat = {name: FlatParameters(net) for name, net in self.named_children() if [*net.parameters()]}
        for name, flat in self._flat.items():
            flat.make_optimizer = partial(self.optimizer, name)

    def anew(self) -> Self:
        return type(self)(self.spec, self.config, device=self.device, seed=self.seed)

    # ---- what an algorithm writes ------------------------------------------------------------------------------

    def build(self, spec: Spec, c: Any) -> None:
        """Makes the networks as attributes; a target network is `self.x_target = frozen_copy(self.x)`.

        Raises UnsupportedSpace for a spec that this algorithm cannot handle.
        """
        raise NotImplementedError

    def act(self, obs: Tensor, explore: bool) -> Tensor:
        """obs `[N, ...]` -> actions `[N, A]` in [-1, 1] (the environment clips), or int64 `[N]`."""
        raise NotImplementedError

    def return_distribution(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The return after the deterministic action, discounted: values and their probabilities, both `[N, K]`.

        Raises InvalidSetting for an agent that does not learn it.
        """
        raise InvalidSetting(f"'{self.name}' knows no distribution of returns: {DISTRIBUTIONAL}")

    def update(self, batch: Any) -> Metrics:
        """Minimises this algorithm's losses on one batch, in its order. Returns 0-d tensors, still on the device."""
        raise NotImplementedError

    def optimizer(self, name: str, parameters: nn.Parameter) -> torch.optim.Optimizer:
        """The optimiser of the child `name`, over all its parameters as one tensor."""
        return torch.optim.Adam([parameters], lr=self.learning_rate(name), fused=True)

    def learning_rate(self, name: str) -> float:
        """The step size of the child `name` at this moment: its own setting `<name>_learning_rate`, or the common."""
        base = getattr(self.config, f"{name}_learning_rate", self.config.learning_rate)
        return base * scheduled(self.config.schedule, self.progress)

    def make_normalizer(self) -> Normalizer:
        """How observations are normalised if the setting `normalize_obs` is on."""
        if self.spec.has_images:
            raise InvalidSetting("normalize_obs does not go with images, which are divided by 255: turn it off")
        if self.spec.masked:
            return FeatureNormalizer(self.spec.obs_size, self.spec.actions, epsilon=1e-3)
        return Normalizer(self.spec.obs_shape, epsilon=1e-3)

    def make_buffer(self, columns: int) -> Buffer:
        """The buffer that this agent wants for `columns` environments."""
        raise NotImplementedError

    def view(self, buffer: Buffer) -> Buffer:
        """Recorded data, not copied, read in the way that this agent wants."""
        return buffer

    def batches(self, buffer: Buffer) -> Iterable[Any]:
        """What to update on after an environment step."""
        raise NotImplementedError

    def require(self, source: str) -> None:
        """Raises InvalidSetting for an agent that cannot learn "online", or "from data"."""
        if source not in self.learns:
            raise InvalidSetting(f"'{self.name}' learns only {CANNOT[source]}")

    def sample(self, buffer: Buffer, count: int = 1) -> Iterable[Any]:
        """`count` random batches of old data. Raises InvalidSetting for an agent that cannot use them."""
        self.require("from data")
        return ()

    # ---- given -------------------------------------------------------------------------------------------------

    def minimize(self, name: str, loss: Tensor) -> Tensor:
        """One step of the child `name` down the gradient of `loss` with respect to it alone; the loss, detached."""
        c, rate = self.config, self.learning_rate(name)
        found = self._flat[name].descend(loss, rate, c.max_grad_norm, c.non_finite)
        self._descents |= {f"{name}_{key}": value for key, value in found.items()}
        return loss.detach()

    def due(self, every: int) -> bool:
        """Whether this update is a multiple of `every`: with 2, the second, fourth, ..."""
        return self.dues[every] if every in self.dues else self.updates % every == 0

    def follow(self, tau: float) -> None:
        """Moves every `x_target` a share `tau` towards `x`; 1 copies."""
        for name, flat in self._flat.items():
            if name.endswith("_target"):
                flat.follow(self._flat[name.removesuffix("_target")], tau)

    def forward(self, batch: Any) -> Metrics:
        """An update with the length of each gradient as `<name>_grad_norm`, not counted."""
        self._descents = {}
        return {**self.update(batch), **self._descents}

    def compile_updates(self, backend: str = "inductor") -> None:
        """From now on updates and acting in training are graphs of torch.compile's `backend`; first calls are slow.

        Raises InvalidSetting where updates cannot be one graph; if only settings are the reason, the first update does.
        """
        self._compiled = Compiled(self, backend)

    def step(self, batch: Any) -> Metrics:
        """Counts an update and does it. Its metrics, and the length of each gradient as `<name>_grad_norm`."""
        self.updates += 1
        metrics = self(batch) if self._compiled is None else self._compiled.update(batch)
        return metrics if self.config.non_finite == "stop" else {k: v.nan_to_num(0, 0, 0) for k, v in metrics.items()}

    @torch.inference_mode()
    def act_on(self, obs: np.ndarray, explore: bool) -> np.ndarray:
        """`act` on encoded observations `[N, ...]` from the host, normalised if the agent normalises."""
        return self.act(self.inputs(obs), explore).cpu().numpy()

    def inputs(self, obs: np.ndarray) -> Tensor:
        """Encoded observations `[N, ...]` from the host as the networks take them: normalised if the agent does."""
        return self.normalized_obs(torch.from_numpy(obs).to(self.device))

    def normalized_obs(self, obs: Tensor) -> Tensor:
        """Encoded observations `[..., obs]`, normalised if the agent normalises."""
        return obs if self.obs_normalizer is None else self.obs_normalizer(obs)

    @torch.inference_mode()
    def explore(self, obs: np.ndarray) -> np.ndarray:
        """What to do in training: uniformly random actions until `start`, unless something has been learnt before."""
        if self.updates == 0 and self.steps < getattr(self.config, "start", 0):
            return random_actions(self.spec, torch.from_numpy(obs)).numpy()
        return self.exploration(torch.from_numpy(obs).to(self.device)).cpu().numpy()

    @one_graph
    def exploration(self, obs: Tensor) -> Tensor:
        """`act` on encoded observations `[N, ...]`, normalised if the agent normalises."""
        return self.act(self.normalized_obs(obs), True)

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """stable-baselines3's `predict`: raw observations, one or a batch, to actions in the environment's units.

        `action_masks` `[actions]` or `[N, actions]` are sb3-contrib's: the choices that are allowed; all if None.
        """
        single = self.spec.is_single(observation)
        obs = self.spec.encode_obs(observation, not single, action_masks)
        action, state = self.act_next(obs, state, episode_start, not deterministic)
        return self.spec.decode_action(action)[0 if single else ...], state

    def act_next(self, obs: np.ndarray, state: Any, start: Any, explore: bool) -> tuple[np.ndarray, Any]:
        """`act_on`, and what an agent with a memory remembers then; without one `state` stays."""
        return self.act_on(obs, explore), state

    def learn(self, total_timesteps: int, **options: Any) -> Self:
        """Trains for so many environment steps more; see `loop.learn` for the options."""
        from .loop import learn

        learn(self, total_timesteps, **options)
        return self

    def fit(self, data: Any, updates: int, **options: Any) -> Self:
        """Trains on recorded data for so many updates more; see `loop.fit` for the options."""
        from .loop import fit

        fit(self, data, updates, **options)
        return self

    def save(self, path: Any, **options: Any) -> None:
        """Writes a checkpoint; see `checkpoint.save`."""
        from .checkpoint import save

        save(path, self, **options)
