"""`bellmark resume RUN`: goes on with a run from its last checkpoint, as if it had never stopped."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ..agents.core.errors import InvalidCheckpoint, InvalidData, InvalidSetting
from . import fit, train, training
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.agent import Agent


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Goes on with a run from its last checkpoint."""

    run: Positional[str]
    """The run folder."""
    steps: int = 0
    """New number of environment steps in all, to extend the run; 0 = as planned."""
    device: str = ""
    """Where networks and data live from now on; by default where they did."""
    progress: bool = True
    """Show a progress bar in a terminal, and lines elsewhere."""


def main(argv: list[str]) -> int:
    import tyro

    return resume(tyro.cli(Arguments, args=argv[1:], prog="bellmark resume"))


def resume(arguments: Arguments) -> int:
    """Raises InvalidCheckpoint without a whole checkpoint, InvalidData if the data has changed since."""
    import torch

    from ..agents.core import checkpoint

    folder = RunFolder(arguments.run)
    manifest = folder.manifest()
    if not folder.last.exists():
        raise InvalidCheckpoint(
            f"{folder} has no checkpoint yet: remove it and start again with: {' '.join(manifest['command'])}"
        )
    online = manifest["kind"] == "train"
    saved, tensors = checkpoint.read(folder.last)
    options = planned(train.Options if online else fit.Options, manifest, arguments, saved["counters"]["steps"])
    if is_finished(options, saved["counters"]):
        print(f"{folder} is finished; to extend it: bellmark resume {folder} --steps N. It can be evaluated:")
        print(f"  bellmark evaluate {folder}")
        return 0
    torch.set_num_threads(options.threads)
    agent = checkpoint.restore(saved, tensors, device=options.device)
    data = None if online else load_data(options, manifest)
    put_back(agent, manifest, saved, tensors)
    if arguments.steps:
        folder.write_manifest(manifest | {"options": dataclasses.asdict(options)})
    print(f"going on with {folder} at {agent.steps:,} steps, {agent.updates:,} updates")
    if data is None:
        return train.run(training.Training(folder, agent, options, resumed=saved["extra"]), options)
    return fit.run(
        training.Training(folder, agent, options, scores=fit.scores(data), resumed=saved["extra"]), options, data
    )


def planned(kind: Any, manifest: dict[str, Any], arguments: Arguments, done: int) -> Any:
    """The options of the run as it began, with what may change."""
    options = kind(**manifest["options"])
    changes: dict[str, Any] = {"run": arguments.run, "progress": arguments.progress}
    if arguments.device:
        changes["device"] = arguments.device
    if arguments.steps:
        if arguments.steps < done:
            raise InvalidSetting(f"the run has done {done:,} steps already: --steps must be larger")
        changes["steps" if kind is train.Options else "learn_steps"] = arguments.steps
    return dataclasses.replace(options, **changes)


def is_finished(options: Any, counters: dict[str, Any]) -> bool:
    if isinstance(options, train.Options):
        return counters["steps"] >= options.steps
    return counters["updates"] >= options.updates and counters["steps"] >= options.learn_steps


def load_data(options: fit.Options, manifest: dict[str, Any]) -> Any:
    data = fit.load(options, manifest["data"]["options"])
    if data.sha256 != manifest["data"]["sha256"]:
        raise InvalidData(
            f"{data.path} is not the file that the run began with (sha256 {data.sha256[:12]}, then "
            f"{manifest['data']['sha256'][:12]}): put the old one back, or start a new run"
        )
    return data


def put_back(agent: Agent, manifest: dict[str, Any], saved: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Environment, buffer and random streams as they were, and a word if the environment cannot be."""
    from ..agents.core import checkpoint
    from ..envs import remake

    agent.env = remake(manifest["env"]) if manifest["env"] else None
    online = saved["extra"]["phase"] == "learn"
    if online and agent.env is not None:
        agent.buffer = agent.make_buffer(agent.env.num_envs)
    if not checkpoint.resume(agent, saved, tensors) and online:
        print("note: this environment cannot be put back into the middle of its episodes, so new ones begin")
