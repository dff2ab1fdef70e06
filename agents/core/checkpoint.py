"""Checkpoints: one safetensors file whose header carries a JSON manifest. Nothing in it can run code.

Everything that training changes is in it, so nothing is rebuilt on load. It is written under a temporary name,
flushed and renamed, so that a crash or a full disk leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from . import container
from .agent import Agent
from .errors import InvalidCheckpoint, NotFinite
from .memory import require
from .registry import agent_class
from .seeding import forked
from .spec import Spec
from .tensors import check_tensors, flatten, unflatten

FORMAT = 1
MANIFEST: dict[str, set[type]] = {"agent": {str}, "settings": {dict}, "spec": {dict}, "seed": {int}, "counters": {dict}}
MANIFEST |= {name: {dict, NoneType} for name in ("env", "env_state", "buffer")}
MANIFEST["data"] = {list, NoneType}
DATA: dict[str, type] = {"id": str, "sha256": str, "options": dict}
PACKAGES = ("bellmark", "torch", "numpy", "gymnasium", "mujoco", "ale-py", "minatar", "box2d", "envpool", "dm-control")


@functools.cache
def versions() -> dict[str, str]:
    """Versions of everything that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def save(
    path: str | Path,
    agent: Agent,
    *,
    buffer: bool = False,
    env: bool = False,
    sampler: bool = False,
    extra: Any = None,
) -> None:
    """Writes `agent`; with `buffer` and `env` also what it learns from and in, enough to go on exactly.

    With `sampler` it keeps how transitions are drawn, even from data that are kept elsewhere (not `buffer`).
    `extra` is any JSON-able value for the manifest. Raises NotFinite rather than save broken parameters, and OSError
    where the disk refuses; `path` is then unchanged.
    """
    tensors = agent.state()
    for name, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise NotFinite(f"{name} holds NaN or infinity after update {agent.updates}: {path} was not written")
    tensors |= {"random.torch": torch.get_rng_state()}
    if agent.device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(agent.device)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "agent": agent.name,
        "settings": agent.config.to_dict(),
        "spec": agent.spec.to_dict(),
        "seed": agent.seed,
        "counters": agent.counters(),
        "env": agent.env.settings if agent.env is not None else None,
        "data": [*agent.learnt_from],
        "versions": versions(),
        "extra": extra,
    }
    if buffer and agent.buffer is not None:
        rows, manifest["buffer"] = agent.buffer.state()
        tensors |= {f"buffer.{name}": value for name, value in rows.items()}
    elif sampler and agent.buffer is not None:
        tensors |= {f"buffer.{name}": value for name, value in agent.buffer.sampler.state(agent.buffer).items()}
    if env:
        manifest["resume"] = "exact"
    if env and agent.env is not None:
        manifest["env_state"] = flatten(agent.env.state(), "env", tensors)
        if manifest["env_state"] is None:
            manifest["resume"] = f"new episodes: {agent.env.obstacle()}"
    container.write(path, manifest, tensors)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors, which stay in the file until somebody looks at their values.

    Raises InvalidCheckpoint for a file that is truncated, foreign, absurd or newer.
    """
    manifest, tensors = container.read(Path(path))
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int or manifest["format"] < 1:
        raise InvalidCheckpoint(f"{path} holds tensors but was not written by Bellmark")
    if manifest["format"] > FORMAT:
        raise InvalidCheckpoint(
            f"{path} has format {manifest['format']}, this version reads up to {FORMAT}: pip install -U bellmark"
        )
    manifest = {"env": None, "extra": None} | manifest
    _check_manifest(manifest)
    return manifest, tensors


def _check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raises InvalidCheckpoint unless every value has its JSON type."""
    for name, kinds in MANIFEST.items():
        if type(manifest.get(name)) not in kinds:
            raise InvalidCheckpoint(f"the checkpoint does not fit this version's agents: its {name} is damaged")
    for data in manifest.get("data") or ():
        if not isinstance(data, dict) or {name: type(value) for name, value in data.items()} != DATA:
            raise InvalidCheckpoint("the checkpoint does not fit this version's agents: its data is damaged")
    if abs(manifest["seed"]) >= 2**63:
        raise InvalidCheckpoint(f"the checkpoint does not fit this version's agents: its seed is {manifest['seed']}")


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Agent:
    """The agent of a checkpoint, without its environment: ready to predict, evaluate or train on."""
    manifest, tensors = read(path)
    return restore(manifest, tensors, device=device)


def restore(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], *, device: str | torch.device = "cpu") -> Agent:
    """The agent that `read` found. Raises InvalidCheckpoint.

    It is first made without memory, on torch's meta device, to compare every name, type and shape: so it never takes
    more than its file holds.
    """
    _check_manifest(manifest)
    with forked(torch.device(device)):  # the initial weights are overwritten: draw them from no stream
        make, planned = plan(manifest, device)
        check(planned, tensors, manifest["counters"])
        agent = make(device=device)
    agent.load_state(tensors, manifest["counters"])
    agent.learnt_from = tuple(manifest.get("data") or ())
    return agent


def plan(manifest: Mapping[str, Any], device: str | torch.device) -> tuple[Callable[..., Agent], Agent]:
    """What makes the agent of a manifest, and that agent on the meta device.

    Raises InvalidCheckpoint for settings that make no sense, or that need more memory than `device` has.
    """
    try:
        kind = agent_class(manifest["agent"])
        config = type(kind.config).from_dict(manifest["settings"])
        make = partial(kind, Spec.from_dict(manifest["spec"]), config, seed=manifest["seed"])
        planned = make(device="meta")
    except Exception as error:  # no agent is asked to foresee every absurd setting
        raise InvalidCheckpoint(f"the checkpoint does not fit this version's agents: {error}") from error
    size = 4 * sum(value.nbytes for value in planned.state_dict().values())
    require(size, "parameters, gradients and moments", "take a larger machine", device, InvalidCheckpoint)
    return make, planned


def check(agent: Agent, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
    """Raises InvalidCheckpoint unless they could be of this `agent`, which may be on the meta device.

    All tensors count but those of random streams, buffer and environment. A network's optimiser has either no state,
    before its first step, or all of it.
    """
    expected = {f"net.{name}": value for name, value in agent.state_dict(keep_vars=True).items()}
    for name, flat in agent._flat.items():
        prefix = f"optimizer.{name}."
        if flat.trainable and any(key.startswith(prefix) for key in tensors):
            expected |= {prefix + key: value for key, value in _optimizer_layout(agent, name).items()}
    check_tensors(expected, {k: v for k, v in tensors.items() if not k.startswith(("random.", "buffer.", "env."))})
    own = agent.counters()
    for name in own.keys() | counters.keys():
        value: Any = counters.get(name)
        fits = type(value) is int or (type(value) is float and type(own.get(name)) is float)
        if name not in own or not fits or not 0 <= value < 2**63:
            raise InvalidCheckpoint(f"the checkpoint does not fit this version's agents: its counter {name} is {value}")


def _optimizer_layout(agent: Agent, name: str) -> dict[str, Tensor]:
    """What the optimiser of that network holds after a step, on the meta device: found by stepping two numbers."""
    flat = agent._flat[name].flat
    pair = torch.nn.Parameter(torch.zeros(2, dtype=flat.dtype))
    pair.grad = torch.zeros_like(pair)
    optimizer = agent.optimizer(name, pair)
    optimizer.step()
    return {
        key: torch.empty(flat.shape if value.shape == pair.shape else value.shape, dtype=value.dtype, device="meta")
        for key, value in optimizer.state[pair].items()
    }


def resume(agent: Agent, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Puts buffer, environment and random streams back as they were; the agent has its environment and buffer.

    Returns whether the environment goes on in the middle of its episode; if not, it starts new ones.
    Raises InvalidCheckpoint.
    """
    rows = {k.removeprefix("buffer."): v for k, v in tensors.items() if k.startswith("buffer.")}
    if agent.buffer is not None and manifest.get("buffer") is not None:
        agent.buffer.load_state(rows, manifest["buffer"])
    elif agent.buffer is not None and agent.buffer.recorded:
        agent.buffer.load_sampler(rows)
    state = unflatten(manifest.get("env_state"), tensors)
    if agent.env is not None and state is not None:
        agent.env.load_state(state)
    _put_back_stream("random.torch", tensors, torch.get_rng_state(), torch.set_rng_state)
    if "random.cuda" in tensors and agent.device.type == "cuda":
        put_back = partial(torch.cuda.set_rng_state, device=agent.device)
        _put_back_stream("random.cuda", tensors, torch.cuda.get_rng_state(agent.device), put_back)
    return state is not None


def _put_back_stream(name: str, tensors: Mapping[str, Tensor], own: Tensor, put_back: Callable[[Tensor], None]) -> None:
    check_tensors({name: own}, {key: value for key, value in tensors.items() if key == name})
    try:
        put_back(tensors[name].clone())
    except RuntimeError as error:
        raise InvalidCheckpoint(f"the checkpoint's {name} is no state of that generator: {error}") from error
