"""Reads the zip files of stable-baselines3 without unpickling what they carry.

A zip holds `data`, JSON with readable settings beside pickled blobs, which are never decoded, and `policy.pth`, the
tensors. Those are read by `torch.load(weights_only=True)`, after a look at what it would have to build.

    PPO, A2C -> ppo     DQN -> dqn     SAC -> sac     TD3, DDPG -> td3

Kept are networks, targets, spaces (bounds to the eight digits that are readable) and gamma; other settings are
Bellmark's defaults, optimisers start anew. A2C's policy is PPO's: its zip becomes a `ppo` agent that acts as it did.
Statistics of VecNormalize are in a pickle beside the zip, which is not read: scale observations before.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .core import state_dict
from .core.agent import Agent
from .core.container import parse
from .core.errors import InvalidCheckpoint
from .core.nets import Linear
from .core.registry import agent_class
from .core.spec import Spec


class Source(NamedTuple):
    """How a policy of stable-baselines3 becomes an agent."""

    agent: str
    activation: str
    networks: Mapping[str, tuple[str, ...]]
    """Ours, and where theirs has its layers, in order: `a+b` side by side in one layer, `*` members of an ensemble."""


PPO = {
    "actor_critic.actor": ("mlp_extractor.policy_net", "action_net"),
    "actor_critic.critic": ("mlp_extractor.value_net", "value_net"),
}
CRITICS = {"critic": ("critic.qf*",), "critic_target": ("critic_target.qf*",)}
SAC = {"actor": ("actor.latent_pi", "actor.mu+actor.log_std"), **CRITICS}
TD3 = {"actor": ("actor.mu",), "actor_target": ("actor_target.mu",), **CRITICS}
SOURCES = {
    "common.policies.ActorCriticPolicy": Source("ppo", "Tanh", PPO),
    "dqn.policies.DQNPolicy": Source("dqn", "ReLU", {"q": ("q_net.q_net",), "q_target": ("q_net_target.q_net",)}),
    "sac.policies.SACPolicy": Source("sac", "ReLU", SAC),
    "td3.policies.TD3Policy": Source("td3", "ReLU", TD3),
}
"""By the policy's class within the package stable_baselines3. The first network is the one that acts."""
HARMLESS = {":type:", ":serialized:", "net_arch", "activation_fn", "n_critics", "use_sde", "log_std_init", "ortho_init"}
HARMLESS |= {"optimizer_class", "optimizer_kwargs", "normalize_images", "share_features_extractor", "device"}
"""Arguments of a policy that change nothing in it but what its tensors show or what is checked."""
Layers = list[tuple[Tensor, Tensor]]
"""Weights `[inputs, outputs]` and biases `[outputs]`; an ensemble's with an axis before."""


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Agent:
    """The agent in a zip file of stable-baselines3; its `predict` gives the same actions.

    Raises InvalidCheckpoint if the file is damaged, lacks what is needed, or holds a policy that no agent can express.
    """
    try:
        found = state_dict.entries(Path(path), ("data", "policy.pth"))
        settings = parse(found["data"].decode())
        agent = build(settings, state_dict.read(found["policy.pth"]), device)
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(f"{path} cannot be loaded: {error}") from error
    except Exception as error:  # values of any type may stand anywhere in it
        raise InvalidCheckpoint(f"{path} is damaged or no file of stable-baselines3: {error!r}") from error
    if agent.name == "ppo" and settings.get("_last_original_obs") is not None:
        warnings.warn(f"{path} was trained on what VecNormalize made of observations: scale them alike", stacklevel=3)
    return agent


def build(settings: dict[str, Any], tensors: dict[str, Tensor], device: str | torch.device) -> Agent:
    """The agent. Consumes `tensors`. Raises InvalidCheckpoint if they do not fit the settings, or fit no agent."""
    if not isinstance(settings, dict):
        raise InvalidCheckpoint("its settings are no table")
    source = _source(settings)
    networks = {name: _network(tensors, places) for name, places in source.networks.items()}
    actor = next(iter(networks.values()))
    outputs = actor[-1][0].shape[1] // (2 if source.agent == "sac" else 1)
    spec = _spec(settings, actor[0][0].shape[0], outputs)
    log_std = tensors.pop("log_std") if source.agent == "ppo" and not spec.discrete else None
    if tensors:
        raise InvalidCheckpoint(f"its networks have parts that no agent here has: {sorted(tensors)[:4]}")
    hidden = {tuple(weight.shape[-1] for weight, _ in layers[:-1]) for layers in networks.values()}
    if len(hidden) > 1:
        raise InvalidCheckpoint(f"its networks differ in their hidden layers {sorted(hidden)}, ours are alike")
    options = {"hidden": hidden.pop(), "gamma": settings["gamma"]}
    if "critic" in networks:
        options["critics"] = len(networks["critic"][0][0])
    kind = agent_class(source.agent)
    with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten: draw them from no stream
        agent = kind(spec, kind.config.override(options), device=device)
    if log_std is not None:  # their actions are in the environment's units, ours in [-1, 1]
        low, high = torch.tensor(spec.action_low), torch.tensor(spec.action_high)
        middle, half = (low + high) / 2, (high - low) / 2
        actor[-1] = actor[-1][0] / half, (actor[-1][1] - middle) / half
        _fill(agent.get_parameter("actor_critic.actor.log_std"), log_std - half.log())
    for name, layers in networks.items():
        own = [module for module in agent.get_submodule(name).modules() if isinstance(module, Linear)]
        for module, (weight, bias) in zip(own, layers, strict=True):
            _fill(module.weight, weight)
            _fill(module.bias, bias)
    return agent


def _source(settings: dict[str, Any]) -> Source:
    """Which algorithm it is, by the class of its policy. Raises InvalidCheckpoint for what we cannot express."""
    policy = settings["policy_class"]
    constructor = re.match(r"<function (\w+)\.__init__ at ", policy.get("__init__", ""))
    name = f"{policy['__module__']}.{constructor[1] if constructor else 'Policy'}"
    source = SOURCES.get(name.removeprefix("stable_baselines3."))
    if source is None:
        raise InvalidCheckpoint(f"no agent has the policy {name}: it must be of PPO, A2C, DQN, SAC or TD3 on vectors")
    arguments = settings.get("policy_kwargs") or {}
    if settings.get("use_sde") or arguments.get("use_sde"):
        raise InvalidCheckpoint("its networks are made for state-dependent exploration (use_sde), which no agent has")
    if extra := arguments.keys() - HARMLESS:
        raise InvalidCheckpoint(f"its networks are changed by {sorted(extra)}, which no agent here has")
    activation = str(arguments.get("activation_fn", source.activation))
    if re.findall(r"\w+", activation)[-1:] != [source.activation]:
        raise InvalidCheckpoint(f"its layers have {activation}, those of {source.agent} have {source.activation}")
    return source


def _network(tensors: dict[str, Tensor], places: tuple[str, ...]) -> Layers:
    """The layers at those places, taken out of `tensors`."""
    if places[0].endswith("*"):
        members = (f"{places[0][:-1]}{i}" for i in itertools.count())
        found = itertools.takewhile(lambda member: f"{member}.0.weight" in tensors, members)
        return _joined([_network(tensors, (member,)) for member in found], torch.stack)
    layers: Layers = []
    for place in places:
        beside = [_layers(tensors, name) for name in place.split("+")]
        layers += _joined(beside, lambda parts: torch.cat(parts, -1))
    if any(before.shape[1] != after.shape[0] for (before, _), (after, _) in itertools.pairwise(layers)):
        raise InvalidCheckpoint(f"the layers of {places[0]} do not fit each other")
    return layers


def _joined(parts: list[Layers], join: Callable[[tuple[Tensor, ...]], Tensor]) -> Layers:
    """One network from several, layer by layer."""
    layers = (zip(*layer, strict=True) for layer in zip(*parts, strict=True))
    return [(join(weights), join(biases)) for weights, biases in layers]


def _layers(tensors: dict[str, Tensor], place: str) -> Layers:
    """The linear layer `place`, or the layers `place.0`, `place.2`, ... with an activation after each."""
    counted = (f"{place}.{i}" for i in itertools.count(0, 2))
    names = [place, *itertools.takewhile(lambda name: f"{name}.weight" in tensors, counted)]
    found = [name for name in names if f"{name}.weight" in tensors]
    if not found:
        raise InvalidCheckpoint(f"it lacks '{place}'")
    return [(tensors.pop(f"{name}.weight").t(), tensors.pop(f"{name}.bias")) for name in found]


def _spec(settings: dict[str, Any], inputs: int, outputs: int) -> Spec:
    """The spaces, from their readable fields, checked against the sizes of the networks."""
    from gymnasium.spaces import Box, Discrete

    spaces: list[Any] = []
    low: Any
    high: Any
    for what, size in (("observation", inputs), ("action", outputs)):
        space = settings[f"{what}_space"]
        kind, shape = re.findall(r"\w+", space[":type:"])[-1], tuple(space.get("_shape", space.get("shape")) or ())
        sound = len(shape) <= 32 and all(type(axis) is int and 0 < axis <= size for axis in shape)
        if not sound:  # the product of numbers and a text is endless
            raise InvalidCheckpoint(f"its {what} space has a shape that does not go with networks of {size} values")
        values = {"Discrete": int(space.get("n", 0)), "Box": math.prod(shape)}.get(kind, 0)
        image = len(shape) == 3 and space["dtype"] == "uint8"
        if values != size or image or int(space.get("start", 0)):
            raise InvalidCheckpoint(f"its {what} space {kind}{list(shape)} does not go with networks of {size} values")
        low, high = -np.inf, np.inf
        if what == "action" and kind == "Box":
            texts = (re.sub(r"[\[\]]", " ", space[name]).split() for name in ("low", "high"))
            low, high = (np.array(text, np.float32).reshape(shape) for text in texts)
        spaces.append(Discrete(values) if kind == "Discrete" else Box(low, high, shape))
    return Spec.from_spaces(*spaces)


@torch.no_grad()
def _fill(parameter: Tensor, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise InvalidCheckpoint(f"a layer has the shape {list(value.shape)}, where {list(parameter.shape)} is needed")
    parameter.copy_(value)
