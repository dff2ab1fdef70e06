"""A policy as an ONNX file: raw observations in, actions in the environment's units out."""

from __future__ import annotations

import importlib.util
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..agents.core.agent import Agent
from ..agents.core.errors import BellmarkError, InvalidSetting, MissingExtra
from ..agents.core.files import write_atomically

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
TOLERANCE = 1e-4
"""Greatest difference of actions, as a share of their range, between the file and the agent."""
TRIES = 64
"""Observations on which they are compared."""


class Policy(nn.Module):
    """What the agent does in states `[N, *obs_shape]` when deterministic, its normaliser and action bounds inside."""

    low: Tensor
    scale: Tensor

    def __init__(self, agent: Agent):
        super().__init__()
        self.agent = agent
        bounds = torch.tensor([agent.spec.action_low, agent.spec.action_high], device=agent.device)
        self.register_buffer("low", bounds[0])
        self.register_buffer("scale", 0.5 * (bounds[1] - bounds[0]))

    def forward(self, obs: Tensor) -> Tensor:
        agent, spec = self.agent, self.agent.spec
        seen = obs if agent.obs_normalizer is None else agent.obs_normalizer(obs)
        action = agent.act(seen, explore=False)
        if spec.discrete:
            return action + spec.action_start if not spec.action_choices else action
        return (self.low + (action.clamp(-1.0, 1.0) + 1.0) * self.scale).unflatten(1, spec.action_shape)


def export(agent: Agent, path: str | Path) -> None:
    """Writes the file and compares it with the agent in onnxruntime. Inputs `obs`, outputs `action`; any batch size.

    Observations are as the agent sees them: flat float32 vectors, one-hot numbers, images `[C, H, W]` uint8; discrete
    actions are numbers of choices. Raises MissingExtra, and InvalidSetting for an agent that cannot be exported.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "onnx")
    if hasattr(agent, "act_from"):
        raise InvalidSetting(f"'{agent.name}' acts on a memory, which a file for single observations cannot hold")
    obs = examples(agent)
    content = converted(Policy(agent).eval(), torch.from_numpy(obs))
    compare(agent, content, obs)
    write_atomically(Path(path), content)


def examples(agent: Agent) -> np.ndarray:
    """Random observations `[TRIES, *obs_shape]`; where the agent normalises, of the spread that it knows."""
    spec, rng = agent.spec, np.random.default_rng(0)
    if spec.obs_dtype == "uint8":
        return rng.integers(256, size=(TRIES, *spec.obs_shape), dtype=np.uint8)
    obs = rng.standard_normal((TRIES, *spec.obs_shape), np.float32)
    if spec.masked:
        obs[:, -spec.actions :] = 1.0
    if agent.obs_normalizer is not None and not spec.masked:
        known: Any = agent.obs_normalizer
        mean, variance = (part.float().cpu().numpy() for part in (known.mean, known.variance))
        obs = mean + obs * np.sqrt(variance)
    return obs


def converted(policy: Policy, obs: Tensor) -> bytes:
    """The file's content."""
    options: dict[str, Any] = {"input_names": ["obs"], "output_names": ["action"], "dynamo": True, "verbose": False}
    options["dynamic_shapes"] = {"obs": {0: "batch"}}
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(policy, (obs.to(policy.agent.device),), **options)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise InvalidSetting(f"'{policy.agent.name}' cannot be written as ONNX by torch: {reason}") from error
    assert program is not None
    content = io.BytesIO()
    program.save(content)  # type: ignore[arg-type]
    return content.getvalue()


def compare(agent: Agent, content: bytes, obs: np.ndarray) -> None:
    """Raises BellmarkError if the file acts otherwise than the agent, alone or in a batch."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for batch in (obs, obs[:1]):
        (found,) = session.run(["action"], {"obs": batch})
        expected = agent.spec.decode_action(agent.act_on(batch, explore=False))
        width = 1.0 if agent.spec.discrete else max(agent.spec.action_high) - min(agent.spec.action_low)
        if found.shape != expected.shape or np.abs(found - expected).max() > TOLERANCE * width:
            raise BellmarkError("the ONNX file would act otherwise than the agent: keep the checkpoint, report this")
