"""Agents as models of stable-baselines3 and sb3-contrib, which act alike: the inverse of `stable_baselines3.load`."""

from __future__ import annotations

import importlib
import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .core.agent import Agent
from .core.errors import InvalidSetting, MissingExtra
from .core.heads import Quantile, Scalar
from .core.nets import ACTIVATIONS, Linear
from .core.spec import Spec
from .stable_baselines3 import NETWORKS, PPO, Layers, linear_layers, names_at, transposed, units

try:
    import stable_baselines3
    from stable_baselines3.common.torch_layers import FlattenExtractor
except ImportError as error:
    raise MissingExtra("stable-baselines3", "sb3") from error

MODELS = {name: name.upper().replace("_", "") for name in NETWORKS}
"""Our names and theirs: qr_dqn is QRDQN."""
NONLINEAR = tuple(type(make()) for make in ACTIVATIONS.values())
PLAIN = (Linear, Scalar, Quantile, *NONLINEAR)
"""What networks may consist of that stable-baselines3 has as well."""


class NormalizedObs(FlattenExtractor):
    """Observations as the agent's normaliser sees them: clip((obs - mean) / std, +-clip)."""

    mean: Tensor
    std: Tensor

    def __init__(self, observation_space: Any, mean: list[float], std: list[float], clip: float):
        super().__init__(observation_space)
        self.clip = clip
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, observations: Tensor) -> Tensor:
        return ((super().forward(observations) - self.mean) / self.std).clamp(-self.clip, self.clip)


@torch.no_grad()
def to_stable_baselines3(agent: Agent, env: Any = None) -> Any:
    """A model with the agent's networks, targets, gamma, learning rate and counters: its `predict` acts alike.

    Other settings are the model's defaults, and its optimisers start anew. `env` is given to the model, to go on
    learning. A normaliser of observations becomes the model's features extractor; a zip of such a model needs bellmark
    to be loaded. A descendant of PPO, A2C, DQN, QR-DQN, SAC, TQC, TD3 or DDPG becomes a model of that; noisy networks
    lose their noise, without which they act when deterministic.
    Raises InvalidSetting for networks that no such model has, and MissingExtra without the packages.
    """
    names = [name for kind in type(agent).__mro__ if (name := vars(kind).get("name")) in MODELS]
    if not names:
        raise InvalidSetting(f"stable-baselines3 has no algorithm like '{agent.name}': it has {', '.join(MODELS)}")
    name, spec = names[0], agent.spec
    modules = dict(agent.named_modules())
    if missing := NETWORKS[name].keys() - modules:
        raise InvalidSetting(f"'{agent.name}' has no {', '.join(missing)}, which stable-baselines3's {name} has")
    networks = {own: modules[own] for own in NETWORKS[name]}
    _require_plain(agent, networks)
    layers: dict[str, Layers] = {
        own: [(layer.weight, layer.bias) for layer in linear_layers(net)] for own, net in networks.items()
    }
    actor, tensors = layers[next(iter(layers))], dict[str, Tensor]()
    if name == "qr_dqn":
        for network in layers.values():
            network[-1] = transposed(network[-1], spec.actions)
    if NETWORKS[name] is PPO and not spec.discrete:  # ours are in [-1, 1], theirs in the environment's units
        middle, half = (part.to(agent.device) for part in units(spec))
        actor[-1] = actor[-1][0] * half, actor[-1][1] * half + middle
        tensors["log_std"] = agent.get_parameter("actor_critic.actor.log_std") + half.log()
    model = _model(name, agent, _options(name, agent, networks, layers))
    state = model.policy.state_dict()
    try:
        for own, places in NETWORKS[name].items():
            _place(tensors, state, places, layers[own])
        model.policy.load_state_dict(state | tensors)
    except (ValueError, RuntimeError) as error:
        raise InvalidSetting(f"the networks of '{agent.name}' do not fit into a {MODELS[name]}: {error}") from error
    model.num_timesteps, model._n_updates = agent.steps, agent.updates
    if name in ("dqn", "qr_dqn"):
        model.exploration_rate = agent.epsilon  # type: ignore[attr-defined]
    if getattr(model, "log_ent_coef", None) is not None:
        model.log_ent_coef.fill_(agent.get_parameter("temperature.log").item())
    if env is not None:
        model.set_env(env)
    return model


def _options(name: str, agent: Agent, networks: dict[str, nn.Module], layers: dict[str, Layers]) -> dict[str, Any]:
    """What the model is made with."""
    c: Any = agent.config
    widths = {own: [bias.shape[-1] for _, bias in network[:-1]] for own, network in layers.items()}
    kinds = [type(leaf) for net in networks.values() for leaf in net.modules() if isinstance(leaf, NONLINEAR)]
    policy: dict[str, Any] = {"net_arch": next(iter(widths.values())), "activation_fn": (kinds or [nn.ReLU])[0]}
    options: dict[str, Any] = {"learning_rate": c.learning_rate, "gamma": c.gamma, "policy_kwargs": policy}
    if hasattr(c, "buffer_size"):
        options["buffer_size"] = c.buffer_size
    if "critic" in networks:
        policy["net_arch"] = {"pi": widths["actor"], "qf": widths["critic"]}
        policy["n_critics"] = len(layers["critic"][0][0])
    if name == "qr_dqn":
        policy["n_quantiles"] = c.quantiles
    if name == "tqc":
        policy["n_quantiles"], options["top_quantiles_to_drop_per_net"] = c.atoms, c.drop
    if hasattr(c, "learn_temperature"):
        options["ent_coef"] = "auto" if c.learn_temperature else c.temperature
        options["target_entropy"] = c.target_entropy * agent.spec.actions
    normalizer: Any = agent.obs_normalizer
    if normalizer is not None:
        std = normalizer.deviation().tolist()
        statistics = {"mean": normalizer.mean.float().tolist(), "std": std, "clip": normalizer.clip}
        policy |= {"features_extractor_class": NormalizedObs, "features_extractor_kwargs": statistics}
    return options


def _require_plain(agent: Agent, networks: dict[str, nn.Module]) -> None:
    """Raises InvalidSetting for what stable-baselines3's networks on vectors cannot be."""
    spec = agent.spec
    odd = {type(leaf).__name__ for net in networks.values() for leaf in net.modules() if not [*leaf.children()]}
    odd -= {kind.__name__ for kind in PLAIN}
    reasons = {
        "images": spec.has_images,
        "dictionaries or masks": bool(spec.parts),
        "several choices at once": bool(spec.action_choices),
        "numbers that do not start at 0": bool(spec.obs_start or spec.action_start),
        "a memory": hasattr(agent, "act_from"),
        "dueling streams": getattr(agent.config, "dueling", False),
        f"layers such as {', '.join(sorted(odd))}": bool(odd),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise InvalidSetting(f"'{agent.name}' with {' and '.join(found)} cannot become a model of stable-baselines3")


def _model(name: str, agent: Agent, options: dict[str, Any]) -> Any:
    """A fresh model for the agent's spaces."""
    package: Any = stable_baselines3
    if not hasattr(package, MODELS[name]):
        try:
            package = importlib.import_module("sb3_contrib")
        except ImportError as error:
            raise MissingExtra("sb3-contrib", "sb3") from error
    model = getattr(package, MODELS[name])("MlpPolicy", None, device=agent.device, _init_setup_model=False, **options)
    model.observation_space, model.action_space = _spaces(agent)
    model.n_envs = 1
    model._setup_model()
    return model


def _spaces(agent: Agent) -> tuple[Any, Any]:
    """Those of the agent's environment; without one, those that its Spec describes, observations as flat vectors."""
    from gymnasium.spaces import Box, Discrete

    if agent.env is not None:
        return agent.env.env.single_observation_space, agent.env.env.single_action_space
    spec: Spec = agent.spec
    obs = Discrete(spec.obs_choices) if spec.obs_choices else Box(-np.inf, np.inf, spec.obs_shape)
    if spec.discrete:
        return obs, Discrete(spec.actions)
    low, high = np.array([spec.action_low, spec.action_high], np.float32).reshape(2, *spec.action_shape)
    return obs, Box(low, high)


def _place(tensors: dict[str, Tensor], state: dict[str, Tensor], places: tuple[str, ...], layers: Layers) -> None:
    """Puts layers into `tensors` under the names that `state` has for those places. Raises ValueError, RuntimeError."""
    if places[0].endswith("*"):
        for i in range(len(layers[0][0])):
            _place(tensors, state, (f"{places[0][:-1]}{i}",), [(weight[i], bias[i]) for weight, bias in layers])
        return
    beside = [zip(*(names_at(state, name) for name in place.split("+")), strict=True) for place in places]
    for names, (weight, bias) in zip(itertools.chain(*beside), layers, strict=True):
        sizes = [len(state[f"{name}.bias"]) for name in names]
        for name, columns, offsets in zip(names, weight.split(sizes, -1), bias.split(sizes, -1), strict=True):
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = columns.t(), offsets
