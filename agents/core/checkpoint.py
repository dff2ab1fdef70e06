"""Checkpoints: one safetensors file whose header carries a JSON manifest. Nothing in it can run code.

Everything that training changes is in it, so nothing is rebuilt on load. It is written under a temporary name,
flushed and renamed, so that a crash or a full disk leaves the old file as it was.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .agent import Agent
from .errors import InvalidCheckpoint, NotFinite
from .registry import agent_class
from .spec import Spec

FORMAT = 1
PACKAGES = ("bellmark", "torch", "numpy", "gymnasium", "mujoco")


def versions() -> dict[str, str]:
    """Versions of everything that a result may depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def save(path: str | Path, agent: Agent, *, buffer: bool = False, env: bool = False, extra: Any = None) -> None:
    """Writes `agent`; with `buffer` and `env` also what it learns from and in, enough to go on exactly.

    `extra` is any JSON-able value for the manifest. Raises NotFinite rather than save broken parameters, and OSError
    where the disk refuses; `path` is then unchanged.
    """
    from safetensors.torch import save as serialise

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
        "versions": versions(),
        "extra": extra,
    }
    if buffer and agent.buffer is not None:
        rows, manifest["buffer"] = agent.buffer.state()
        tensors |= {f"buffer.{name}": value for name, value in rows.items()}
    if env and agent.env is not None:
        manifest["env_state"] = flatten(agent.env.state(), "env", tensors)
    packed = {name: value.detach().to("cpu").contiguous() for name, value in tensors.items()}
    write_atomically(path, serialise(packed, {"bellmark": json.dumps(manifest)}))


def write_atomically(path: str | Path, content: bytes) -> None:
    """Replaces `path` by `content`, or leaves it as it was."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Manifest and tensors. Raises InvalidCheckpoint for a file that is truncated, foreign or newer."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InvalidCheckpoint(f"there is no checkpoint {path}")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get("bellmark")
            manifest = json.loads(header) if header else None
            tensors = {name: file.get_tensor(name) for name in file.keys()} if manifest else {}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InvalidCheckpoint(f"{path} is damaged or no checkpoint ({error}): take an older one") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("format"), int):
        raise InvalidCheckpoint(f"{path} holds tensors but was not written by Bellmark")
    if manifest["format"] > FORMAT:
        raise InvalidCheckpoint(
            f"{path} has format {manifest['format']}, this version reads up to {FORMAT}: pip install -U bellmark"
        )
    return manifest, tensors


def load(path: str | Path, *, device: str | torch.device = "cpu") -> Agent:
    """The agent of a checkpoint, without its environment: ready to predict, evaluate or train on."""
    manifest, tensors = read(path)
    return restore(manifest, tensors, device=device)


def restore(manifest: Mapping[str, Any], tensors: Mapping[str, Tensor], *, device: str | torch.device = "cpu") -> Agent:
    """The agent that `read` found."""
    try:
        kind = agent_class(manifest["agent"])
        config = type(kind.config).from_dict(manifest["settings"])
        with torch.random.fork_rng(devices=[]):  # the initial weights are overwritten: draw them from no stream
            agent = kind(Spec.from_dict(manifest["spec"]), config, device=device, seed=int(manifest["seed"]))
        agent.load_state(tensors, manifest["counters"])
    except InvalidCheckpoint:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InvalidCheckpoint(f"the checkpoint does not fit this version's agents: {error}") from error
    return agent


def resume(agent: Agent, manifest: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Puts buffer, environment and random streams back as they were; the agent has its environment and buffer.

    Returns whether the environment goes on in the middle of its episode; if not, it starts new ones.
    """
    if "buffer" in manifest and agent.buffer is not None:
        rows = {k.removeprefix("buffer."): v for k, v in tensors.items() if k.startswith("buffer.")}
        agent.buffer.load_state(rows, manifest["buffer"])
    state = unflatten(manifest.get("env_state"), tensors)
    if agent.env is not None and state is not None:
        agent.env.load_state(state)
    torch.set_rng_state(tensors["random.torch"])
    if "random.cuda" in tensors and agent.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random.cuda"], agent.device)
    return state is not None


def check_tensors(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """Raises InvalidCheckpoint unless names and shapes agree; an empty tensor takes whatever was saved."""
    if own.keys() != saved.keys():
        raise InvalidCheckpoint(f"the checkpoint differs from this agent in {sorted(own.keys() ^ saved.keys())[:5]}")
    for name, value in own.items():
        if value.numel() and value.shape != saved[name].shape:
            raise InvalidCheckpoint(
                f"the checkpoint's {name} has shape {list(saved[name].shape)}, this agent's {list(value.shape)}"
            )


def flatten(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Moves the arrays out of a nested value into `tensors`; what remains is JSON with their names."""
    if isinstance(value, np.ndarray):
        tensors[name] = torch.as_tensor(value)
        return {"tensor": name}
    if isinstance(value, Mapping):
        return {key: flatten(item, f"{name}.{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [flatten(item, f"{name}.{i}", tensors) for i, item in enumerate(value)]
    return value.item() if isinstance(value, np.generic) else value


def unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of `flatten`."""
    if isinstance(value, Mapping):
        if value.keys() == {"tensor"}:
            return tensors[value["tensor"]].numpy()
        return {key: unflatten(item, tensors) for key, item in value.items()}
    return [unflatten(item, tensors) for item in value] if isinstance(value, list) else value
