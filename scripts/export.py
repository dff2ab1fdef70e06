"""`bellmark export RUN`: a trained agent for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from .outcome import UsageError


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Writes the deterministic policy of a run for other programs."""

    run: Positional[str]
    """A run folder, or a checkpoint."""
    onnx: str = ""
    """ONNX file: observations in, actions in the environment's units out; normaliser and bounds are inside."""
    sb3: str = ""
    """Zip file of stable-baselines3 or sb3-contrib, which `PPO.load` and so on read."""
    which: Literal["last", "best"] = "last"
    """Which checkpoint of a run folder."""


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark export")
    if not (arguments.onnx or arguments.sb3):
        raise UsageError("say what to write: --onnx FILE or --sb3 FILE.zip")
    export(arguments)
    return 0


def export(arguments: Arguments) -> None:
    """Raises InvalidSetting for an agent that cannot be expressed in that form, MissingExtra without the packages."""
    from .. import load, to_stable_baselines3
    from .evaluate import locate

    path, _ = locate(arguments)  # type: ignore[arg-type]
    agent = load(path)
    if arguments.onnx:
        from . import onnx_policy

        onnx_policy.export(agent, arguments.onnx)
        print(f"{arguments.onnx}: acts as {path} does, compared in onnxruntime")
    if arguments.sb3:
        model = to_stable_baselines3(agent)
        model.save(Path(arguments.sb3))
        print(f"{arguments.sb3}: {type(model).__module__.partition('.')[0]}.{type(model).__name__}.load reads it")
