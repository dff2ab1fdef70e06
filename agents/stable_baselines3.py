"""Reads the zip files of stable-baselines3 without unpickling what they carry.

A zip holds `data`, JSON with readable settings beside pickled blobs, which are never decoded, and `policy.pth`, the
tensors. Those are read by `torch.load(weights_only=True)`, after a look at what it would have to build.

    PPO -> ppo    A2C -> a2c    DQN -> dqn    QR-DQN -> qr_dqn    SAC -> sac    TQC -> tqc    TD3 -> td3    DDPG -> ddpg

Kept are networks, targets, spaces (bounds to the eight digits that are readable), gamma, the last share of random
actions of DQN and QR-DQN, and what shapes the networks; other settings are Bellmark's defaults, optimisers and SAC's
temperature start anew. Of sb3-contrib's others, TRPO has PPO's policy: its zip becomes a `ppo` agent that acts as it
did. Statistics of VecNormalize are in a pickle beside the zip, which is not read: scale observations before.
"""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .core import state_dict
from .core.agent import Agent
from .core.container import parse
from .core.errors import InvalidCheckpoint
from .core.nets import Linear
from .core.registry import agent_class
from .core.seeding import forked
from .core.spec import Spec

Places = Mapping[str, tuple[str, ...]]
"""Our networks and their layers in the zip, in order: `a+b` side by side, `*` an ensemble's members. The first acts."""

PPO = {
    "actor_critic.actor": ("mlp_extractor.policy_net", "action_net"),
    "actor_critic.critic": ("mlp_extractor.value_net", "value_net"),
}
CRITICS = {"critic": ("critic.qf*",), "critic_target": ("critic_target.qf*",)}
SAC = {"actor": ("actor.latent_pi", "actor.mu+actor.log_std"), **CRITICS}
TD3 = {"actor": ("actor.mu",), "actor_target": ("actor_target.mu",), **CRITICS}
DQN = {"q": ("q_net.q_net",), "q_target": ("q_net_target.q_net",)}
QR_DQN = {"q": ("quantile_net.quantile_net",), "q_target": ("quantile_net_target.quantile_net",)}
NETWORKS: dict[str, Places] = dict.fromkeys(("ppo", "a2c"), PPO) | {"dqn": DQN, "qr_dqn": QR_DQN}
NETWORKS |= dict.fromkeys(("sac", "tqc"), SAC) | dict.fromkeys(("td3", "ddpg"), TD3)
POLICIES = {
    "stable_baselines3.common.policies.ActorCriticPolicy": "ppo",
    "stable_baselines3.dqn.policies.DQNPolicy": "dqn",
    "stable_baselines3.sac.policies.SACPolicy": "sac",
    "stable_baselines3.td3.policies.TD3Policy": "td3",
    "sb3_contrib.qrdqn.policies.QRDQNPolicy": "qr_dqn",
    "sb3_contrib.tqc.policies.TQCPolicy": "tqc",
}
"""Agents by the class of their policy, which A2C shares with PPO, and DDPG with TD3."""
ACTIVATIONS = {"ReLU": "relu", "Tanh": "tanh", "ELU": "elu", "GELU": "gelu", "SiLU": "silu"}
HARMLESS = {":type:", ":serialized:", "net_arch", "activation_fn", "n_critics", "use_sde", "log_std_init", "ortho_init"}
HARMLESS |= {"n_quantiles", "optimizer_class", "optimizer_kwargs", "normalize_images"}
HARMLESS |= {"share_features_extractor", "device"}
"""Arguments of a policy that change nothing in it but what its tensors show or what is checked."""
Layers = list[tuple[Tensor, Tensor]]
"""Weights `[inputs, outputs]` and biases `[outputs]`; an ensemble's with an axis before."""


class Unnormalized(UserWarning):
    """A zip lacks the statistics by which VecNormalize changed observations."""


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
    if agent.name in ("ppo", "a2c") and settings.get("_last_original_obs") is not None:
        text = f"{path} was trained on what VecNormalize made of observations: scale them alike"
        warnings.warn(text, Unnormalized, stacklevel=3)
    return agent


def build(settings: dict[str, Any], tensors: dict[str, Tensor], device: str | torch.device) -> Agent:
    """The agent. Consumes `tensors`. Raises InvalidCheckpoint if they do not fit the settings, or fit no agent."""
    if not isinstance(settings, dict):
        raise InvalidCheckpoint("its settings are no table")
    name = _agent(settings)
    kind, places = agent_class(name), NETWORKS[name]
    networks = {own: _network(tensors, theirs) for own, theirs in places.items()}
    actor = next(iter(networks.values()))
    options: dict[str, Any] = {"gamma": settings["gamma"], **_activation(kind, settings)}
    if "q" in places:
        rate: Any = settings.get("exploration_rate")
        if type(rate) not in (int, float) or not 0 <= rate <= 1:
            raise InvalidCheckpoint(f"its exploration_rate is {rate!r}, which must be a number in [0, 1]")
        options |= dict.fromkeys(("exploration_start", "exploration_end"), float(rate))
    outputs = actor[-1][0].shape[1] // (2 if "+" in next(iter(places.values()))[-1] else 1)
    if name == "qr_dqn":
        options["quantiles"] = settings["n_quantiles"]
        outputs //= options["quantiles"]
        for layers in networks.values():
            layers[-1] = transposed(layers[-1], options["quantiles"])
    spec = _spec(settings, actor[0][0].shape[0], outputs)
    log_std = tensors.pop("log_std") if places is PPO and not spec.discrete else None
    if tensors:
        raise InvalidCheckpoint(f"its networks have parts that no agent here has: {sorted(tensors)[:4]}")
    hidden = {own: tuple(weight.shape[-1] for weight, _ in layers[:-1]) for own, layers in networks.items()}
    options["hidden"] = next(iter(hidden.values()))
    if "critic" in networks:
        last = networks["critic"][-1][0]
        options |= {"critics": len(last), "critic_hidden": hidden["critic"]}
        if name == "tqc":
            options |= {"atoms": last.shape[-1], "drop": settings["top_quantiles_to_drop_per_net"]}
    elif len(set(hidden.values())) > 1:
        raise InvalidCheckpoint(f"its networks differ in their hidden layers {hidden}, ours are alike")
    with forked(torch.device(device)):  # the initial weights are overwritten: draw them from no stream
        agent = kind(spec, kind.config.override(options), device=device)
    if log_std is not None:  # their actions are in the environment's units, ours in [-1, 1]
        middle, half = units(spec)
        actor[-1] = actor[-1][0] / half, (actor[-1][1] - middle) / half
        _fill(agent.get_parameter("actor_critic.actor.log_std"), log_std - half.log())
    for own, layers in networks.items():
        for module, (weight, bias) in zip(linear_layers(agent.get_submodule(own)), layers, strict=True):
            _fill(module.weight, weight)
            _fill(module.bias, bias)
    return agent


def transposed(layer: tuple[Tensor, Tensor], rows: int) -> tuple[Tensor, Tensor]:
    """A last layer whose outputs are `[rows, columns]`, made `[columns, rows]`: quantiles and actions change places."""
    weight, bias = (part.unflatten(-1, (rows, -1)).transpose(-1, -2).flatten(-2) for part in layer)
    return weight, bias


def units(spec: Spec) -> tuple[Tensor, Tensor]:
    """Middle and half the range of the environment's actions."""
    low, high = torch.tensor(spec.action_low), torch.tensor(spec.action_high)
    return (low + high) / 2, (high - low) / 2


def linear_layers(network: nn.Module) -> list[Linear]:
    """The layers of a network, in order."""
    return [module for module in network.modules() if isinstance(module, Linear)]


def _agent(settings: dict[str, Any]) -> str:
    """Which agent it is, by the class of its policy. Raises InvalidCheckpoint for what we cannot express."""
    policy = settings["policy_class"]
    constructor = re.match(r"<function (\w+)\.__init__ at ", policy.get("__init__", ""))
    name = f"{policy['__module__']}.{constructor[1] if constructor else 'Policy'}"
    agent = POLICIES.get(name)
    if agent is None:
        known = "PPO, A2C, DQN, QR-DQN, SAC, TQC, TD3 or DDPG"
        raise InvalidCheckpoint(f"no agent has the policy {name}: it must be of {known} on vectors")
    if agent == "ppo" and not settings.keys() & {"clip_range", "cg_max_steps"}:
        return "a2c"
    return "ddpg" if agent == "td3" and settings.get("target_noise_clip") == 0.0 else agent


def _activation(kind: type[Agent], settings: dict[str, Any]) -> dict[str, Any]:
    """The setting `activation`, for an agent that has it. Raises InvalidCheckpoint for what we cannot express."""
    arguments = settings.get("policy_kwargs") or {}
    if settings.get("use_sde") or arguments.get("use_sde"):
        raise InvalidCheckpoint("its networks are made for state-dependent exploration (use_sde), which no agent has")
    if extra := arguments.keys() - HARMLESS:
        raise InvalidCheckpoint(f"its networks are changed by {sorted(extra)}, which no agent here has")
    chosen = hasattr(kind.config, "activation")
    text = str(arguments.get("activation_fn", "Tanh" if chosen else "ReLU"))
    name = (re.findall(r"\w+", text) or [""])[-1]
    possible = ACTIVATIONS if chosen else {"ReLU": "relu"}
    if name not in possible:
        raise InvalidCheckpoint(f"its layers have {text}, those of {kind.name} can have {', '.join(possible)}")
    return {"activation": possible[name]} if chosen else {}


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
    found = names_at(tensors, place)
    if not found:
        raise InvalidCheckpoint(f"it lacks '{place}'")
    return [(tensors.pop(f"{name}.weight").t(), tensors.pop(f"{name}.bias")) for name in found]


def names_at(tensors: Mapping[str, Tensor], place: str) -> list[str]:
    """The linear layers at `place`: itself, or `place.0`, `place.2`, ..."""
    counted = (f"{place}.{i}" for i in itertools.count(0, 2))
    names = [place, *itertools.takewhile(lambda name: f"{name}.weight" in tensors, counted)]
    return [name for name in names if f"{name}.weight" in tensors]


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
