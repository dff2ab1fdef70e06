"""Our settings in stable-baselines3's words, and what it has no words for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

RENAMED = {
    **{name: name for name in ("gamma", "batch_size", "buffer_size", "max_grad_norm", "tau", "gae_lambda")},
    **{name: name for name in ("normalize_advantage", "exploration_fraction")},
    "start": "learning_starts",
    "n_step": "n_steps",
    "rollout_length": "n_steps",
    "epochs": "n_epochs",
    "actor_delay": "policy_delay",
    "target_noise": "target_policy_noise",
    "target_noise_clip": "target_noise_clip",
    "target_every": "target_update_interval",
    "exploration_start": "exploration_initial_eps",
    "exploration_end": "exploration_final_eps",
    "value_coef": "vf_coef",
    "entropy_coef": "ent_coef",
}
"""The same quantity in the same unit."""
NEUTRAL: dict[str, Any] = {
    "max_grad_norm": 0.0,
    "clip_reward": False,
    "overlap": False,
    "replay": "uniform",
    "critic_head": "scalar",
    "layer_norm": False,
    "dropout": 0.0,
    "double": False,
    "dueling": False,
    "noisy": False,
    "actor_delay": 1,
    "epochs": 1,
    "target_noise": 0.0,
    "value_clip": 0.0,
}
"""With these values a setting does nothing, so that nothing needs to be said."""
SILENT = {"non_finite", "goals_per_transition", "priority_exponent", "priority_weight"}
SILENT |= {"noise", "atoms", "value_low", "value_high", "target_noise_clip"}
"""Settings without effect, unless another one has a value that cannot be translated."""


class Translation(NamedTuple):
    """How stable-baselines3 is told to do the same."""

    settings: dict[str, Any]
    """Arguments of its algorithm."""
    normalize: dict[str, Any]
    """Arguments of its VecNormalize; empty for none."""
    untranslated: list[str]
    """What differs all the same, in words."""
    clip_reward: bool = False
    """Whether its environments give the signs of rewards."""


def translate(
    agent: str, config: Mapping[str, Any], known: set[str], spec: Any, num_envs: int, adapted: bool = False
) -> Translation:
    """The settings of our `agent` for the algorithm of that name. `known` are the arguments that it has.

    `adapted` environments are ours, in our units, and can clip rewards.
    """
    rest, theirs, policy, different = dict(config), dict[str, Any](), dict[str, Any](), list[str]()

    def take(*names: str) -> bool:
        """Whether the agent has these settings; they are dealt with then."""
        if not config.keys() >= set(names):
            return False
        for name in names:
            rest.pop(name, None)
        return True

    rate, schedule = rest.pop("learning_rate"), rest.pop("schedule")
    theirs["learning_rate"] = course(rate, schedule)
    hidden, critic_hidden = list(rest.pop("hidden")), list(rest.pop("critic_hidden", ()))
    off_policy = agent in ("ddpg", "sac", "td3")
    policy["net_arch"] = {"pi": hidden, "qf": critic_hidden or hidden} if off_policy else hidden
    if take("critics"):
        policy["n_critics"] = config["critics"]
    if take("train_every", "update_ratio"):
        updates = config["train_every"] * config["update_ratio"]
        theirs |= {"train_freq": max(config["train_every"] // num_envs, 1), "gradient_steps": max(round(updates), 1)}
        if config["train_every"] % num_envs or updates != theirs["gradient_steps"]:
            different.append(f"train_every = {config['train_every']}, update_ratio = {config['update_ratio']:g}")
    if take("exploration_noise"):
        theirs["action_noise"] = config["exploration_noise"]
    if take("temperature", "learn_temperature", "target_entropy"):
        theirs["target_entropy"] = config["target_entropy"] * spec.actions
        fixed = config["temperature"]
        theirs["ent_coef"] = f"auto_{fixed}" if config["learn_temperature"] else fixed
    if take("clip", "clip_schedule"):
        theirs["clip_range"] = course(config["clip"], config["clip_schedule"])
    if take("target_kl"):
        theirs["target_kl"] = config["target_kl"] or None
    if take("activation", "orthogonal"):
        policy |= {"activation_fn": config["activation"], "ortho_init": config["orthogonal"]}
    if take("log_std") and not spec.discrete:
        ranges = [] if adapted else zip(spec.action_low, spec.action_high, strict=True)
        halves = {(high - low) / 2 for low, high in ranges} or {1.0}
        policy["log_std_init"] = config["log_std"] + math.log(max(halves))  # theirs is in the environment's units
        if len(halves) > 1:
            different.append(f"log_std = {config['log_std']:g} in [-1, 1]: its action ranges differ")
    if take("rms_decay", "rms_epsilon"):
        policy["optimizer_kwargs"] = {"alpha": config["rms_decay"], "eps": config["rms_epsilon"]}
    normalize = {}
    take("normalize_obs")
    take("normalize_reward")
    if config["normalize_obs"] or config.get("normalize_reward"):
        normalize = {"norm_obs": config["normalize_obs"], "norm_reward": config.get("normalize_reward", False)}
        normalize["gamma"] = config["gamma"]
    if agent == "a2c" and config["batch_size"] >= config["rollout_length"] * num_envs:
        rest.pop("batch_size")
    if adapted:
        take("clip_reward")
    for name, value in rest.items():
        if NEUTRAL.get(name, ...) == value and RENAMED.get(name) not in known:
            continue
        if RENAMED.get(name) in known:
            theirs[RENAMED[name]] = value
        elif name not in SILENT:
            different.append(f"{name} = {value}")
    return Translation(theirs | {"policy_kwargs": policy}, normalize, different, adapted and config["clip_reward"])


def course(value: float, schedule: str) -> float | Callable[[float], float]:
    """A number, or what it is when a share of the training remains."""
    if schedule == "linear":
        return lambda remaining: value * remaining
    if schedule == "cosine":
        return lambda remaining: value * 0.5 * (1.0 + math.cos(math.pi * (1.0 - remaining)))
    return value


DIFFERENT = {
    "sac": "its temperature is updated before critic and actor, ours after them",
    "ppo": "a rest of a rollout is a smaller batch, ours are nearly equal",
}
"""What no setting changes."""
