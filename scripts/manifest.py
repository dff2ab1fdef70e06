"""What a run folder says about its run from the start: enough to repeat it."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import torch

from ..agents.core import checkpoint
from ..agents.core.errors import InvalidCheckpoint

if TYPE_CHECKING:
    from ..agents.core.agent import Agent
    from .training import Options

EVALUATION_ENVS = 5
"""Most environments that an evaluation runs side by side."""

Reference = {"ref_min": float, "ref_max": float}
Data = {"options": dict, "sha256": str, "env_id": str, "protocol": str, "reference": (Reference, None)}
FORM: dict[str, Any] = {
    "format": int,
    "kind": Literal["train", "fit"],
    "agent": str,
    "seed": int,
    "command": [str],
    "options": dict,
    "settings": dict,
    "env": (dict, None),
    "data": (Data, None),
    "versions": dict,
    "spec": (dict, None),
    "machine": (dict, None),
    "changes": ([{"clock": int, "steps": int, "device": str}], None),
}
"""What other commands read of it. A list holds values of one form; a tuple lists what is possible, None for nothing."""


def describe(kind: str, agent: Agent, options: Options, argv: list[str], data: Any = None) -> dict[str, Any]:
    """The manifest of a new run."""
    from ..envs import for_evaluation

    played = {} if agent.env is None else for_evaluation(agent.env.settings)
    online = kind == "train" or bool(getattr(options, "learn_steps", 0))
    return {
        "kind": kind,
        "agent": agent.name,
        "seed": options.seed,
        "command": ["bellmark", *argv],
        "options": asdict(options),
        "settings": agent.config.to_dict(),
        "spec": agent.spec.to_dict(),
        "env": agent.env.settings if agent.env is not None else None,
        "resume": resume_kind(agent if online else None),
        "changes": [],
        "evaluation": {
            "episodes": options.eval_episodes,
            "environments": min(EVALUATION_ENVS, options.eval_episodes),
            "deterministic": True,
            "env": {name: value for name, value in played.items() if name in ("env_id", "kwargs")},
            "seed": 'derive(seed, "evaluation", clock), in evaluations.csv',
            "return": "undiscounted sum of rewards; std over episodes, divisor n",
        },
        "versions": checkpoint.versions(),
        "machine": machine(agent.device),
        "data": data.describe() | {"path": options.data} if data is not None else None,  # type: ignore[attr-defined]
    }


def resume_kind(agent: Agent | None) -> str:
    """How exact a resumed run is: "exact", or "new episodes: ..." with the reason. None is a run on data alone."""
    reason = agent.env.obstacle() if agent is not None and agent.env is not None else ""
    return f"new episodes: {reason}" if reason else "exact"


def machine(device: torch.device) -> dict[str, Any]:
    """What numbers may depend on, beside the versions of packages."""
    build, _, parallel = torch.__config__.parallel_info().rpartition("ATen parallel backend: ")
    found = {
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "cpu": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "parallel": parallel.strip(),
        "torch_build": f"{torch.__version__} {torch.version.git_version}",
        "libraries": [line for line in build.splitlines() if line.startswith(("OpenMP", "Intel"))],
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "device": device.type,
        "code": code(),
    }
    if device.type == "cuda":
        found["device"] = f"{torch.cuda.get_device_name(device)}, CUDA {torch.version.cuda}"
        found["cudnn"] = torch.backends.cudnn.version()
    return found


def processor() -> str:
    """The name of the CPU."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor()


@cache
def code() -> str:
    """A hash of this package's own files, which change between versions."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for part in ("__init__.py", "agents/**/*.py", "envs/**/*.py", "offline/**/*.py", "scripts/*.py"):
        for path in sorted(root.glob(part)):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def now_and_then(manifest: Mapping[str, Any]) -> list[str]:
    """What differs between the versions and the machine of a recording and those of this process, in words."""
    recorded = {**manifest["versions"], **(manifest.get("machine") or {})}
    now = checkpoint.versions() | machine(torch.device("cuda" if "cudnn" in recorded else "cpu"))
    return [
        f"{name}: {recorded.get(name)} then, {now.get(name)} now"
        for name in sorted({*recorded, *now})
        if recorded.get(name) != now.get(name)
    ]


# ---- what is read back ---------------------------------------------------------------------------------------------


def check(value: Any, path: Path) -> None:
    """Raises InvalidCheckpoint where a manifest lacks something or holds the wrong type."""
    if wrong := mismatch(value, FORM, "it"):
        raise InvalidCheckpoint(f"{path} is damaged: {wrong}")


def mismatch(value: Any, form: Any, name: str) -> str:
    """What is wrong with a value, in words; "" if it has the form."""
    if isinstance(form, tuple):
        found = [mismatch(value, one, name) for one in form]
        return "" if "" in found else found[0]
    if isinstance(form, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        parts = [mismatch(value.get(key), form[key], key) for key in form]
        return next(filter(None, parts), "")
    if isinstance(form, list):
        parts = [mismatch(item, form[0], name) for item in value] if isinstance(value, list) else [f"{name} is no list"]
        return next(filter(None, parts), "")
    return "" if fits(value, form) else f"{name} is {value!r:.80}"


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of that type."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if isinstance(hint, UnionType):
        return any(fits(value, part) for part in get_args(hint))
    kinds = (float, int) if hint is float else type(None) if hint is None else hint
    return isinstance(value, kinds) and (hint is bool or not isinstance(value, bool))


def options(kind: Any, values: Mapping[str, Any]) -> Any:
    """Options of a command as they were recorded. Raises InvalidCheckpoint for others than `kind` has."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints or not fits(value, hints[name]):
            raise InvalidCheckpoint(f"manifest.json is damaged: the option {name} is {value!r:.80}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InvalidCheckpoint(f"manifest.json is damaged: {error}") from error
