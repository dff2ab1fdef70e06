"""`bellmark resume RUN`: goes on with a run from its last checkpoint, as if it had never stopped."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tyro.conf import Positional

from ..agents.core.errors import InvalidCheckpoint, InvalidSetting
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
    verify: bool = False
    """Only repeat the last part, from previous.bell to last.bell, and compare every bit. Writes nothing."""
    env: str = ""
    """Its environment, where that is one of a module of your own (module:Env-v0), so that it may be imported."""
    device: str = ""
    """Where networks and data live from now on; by default where they did."""
    progress: bool = True
    """Show a progress bar in a terminal, and lines elsewhere."""


class Saved(NamedTuple):
    """A checkpoint of a run folder, with its agent."""

    path: Path
    manifest: dict[str, Any]
    tensors: dict[str, Any]
    agent: Agent

    @property
    def extra(self) -> dict[str, Any]:
        return self.manifest["extra"]


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark resume")
    if arguments.verify:
        from .verify import verify

        return verify(arguments)
    return resume(arguments)


def resume(arguments: Arguments, stop: int | None = None) -> int:
    """Goes on, up to the clock `stop` if that is given.

    Raises InvalidCheckpoint without a whole checkpoint, InvalidData if the data has changed since, RunInUse.
    """
    import torch

    folder = RunFolder(arguments.run)
    manifest = folder.manifest()
    with folder.lock.acquire():
        folder.tidy()
        if not (folder.last.exists() or folder.previous.exists()):
            raise InvalidCheckpoint(
                f"{folder} has no checkpoint yet: remove it and start again with: {' '.join(manifest['command'])}"
            )
        options = planned(manifest, arguments)
        torch.set_num_threads(options.threads)
        saved = newest(folder, options.device)
        done = saved.agent.counters()
        if arguments.steps and arguments.steps < done["steps"]:
            raise InvalidSetting(f"the run has done {done['steps']:,} steps already: --steps must be larger")
        if is_finished(options, done):
            print(f"{folder} is finished; to extend it: bellmark resume {folder} --steps N. It can be evaluated:")
            print(f"  bellmark evaluate {folder}")
            return 0
        return go_on(folder, manifest, arguments, options, saved, stop)


def go_on(
    folder: RunFolder, manifest: dict[str, Any], arguments: Arguments, options: Any, saved: Saved, stop: int | None
) -> int:
    agent, last = saved.agent, saved.path == folder.last
    data = load_data(options, manifest)
    exact = put_back(saved, arguments.env, data)
    remember(folder, manifest, arguments, options, saved.extra["clock"], exact)
    print(f"going on with {folder} at {agent.steps:,} steps, {agent.updates:,} updates")
    if data is None:
        run = training.Training(folder, agent, options, resumed=saved.extra, intact=last, stop=stop)
        return train.run(run, options)
    scores = fit.scores(data)
    run = training.Training(folder, agent, options, scores=scores, resumed=saved.extra, intact=last, stop=stop)
    return fit.run(run, options, data)


def newest(folder: RunFolder, device: str) -> Saved:
    """The last checkpoint, or the one before it, with a word, where the last is missing or damaged."""
    wrong: InvalidCheckpoint | None = None
    for path in (folder.last, folder.previous):
        try:
            saved = read(path, device)
        except InvalidCheckpoint as error:
            wrong = wrong or error
            continue
        if wrong is not None:
            print(f"note: {wrong}; going on from {path}, the checkpoint before it")
        return saved
    assert wrong is not None
    raise wrong


def read(path: Path, device: str) -> Saved:
    """A checkpoint that a run wrote. Raises InvalidCheckpoint for any other."""
    from ..agents.core import checkpoint
    from ..agents.core.status import Status
    from .manifest import mismatch

    manifest, tensors = checkpoint.read(path)
    form: dict[str, Any] = {"phase": Literal["fit", "learn"], "clock": int, "elapsed": float, "carried": dict}
    form |= {"until": (int, None), "machine": (dict, None)}
    if wrong := mismatch(manifest.get("extra"), form, "what a run adds to it"):
        raise InvalidCheckpoint(f"{path} is damaged or no checkpoint of a run: {wrong}")
    agent = checkpoint.restore(manifest, tensors, device=device)
    try:
        Status(agent, None, None, 0).load_state(manifest["extra"]["carried"])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidCheckpoint(f"{path} is damaged: what a run adds to it holds {error!r}") from error
    return Saved(path, manifest, tensors, agent)


def recorded(manifest: Mapping[str, Any]) -> Any:
    """The options of the run as it began."""
    from .manifest import options

    return options(train.Options if manifest["kind"] == "train" else fit.Options, manifest["options"])


def planned(manifest: Mapping[str, Any], arguments: Arguments) -> Any:
    """The options of the run as it began, with all that has been changed since, and that changes now."""
    options = recorded(manifest)
    steps = "steps" if isinstance(options, train.Options) else "learn_steps"
    for change in (*(manifest["changes"] or ()), dataclasses.asdict(arguments)):
        changes = {steps: change["steps"], "device": change["device"]}
        options = dataclasses.replace(options, **{name: value for name, value in changes.items() if value})
    return dataclasses.replace(options, run=arguments.run, progress=arguments.progress)


def remember(
    folder: RunFolder, manifest: dict[str, Any], arguments: Arguments, options: Any, clock: int, exact: bool
) -> None:
    """Notes in the manifest what makes this run differ, from `clock` on, from one that was never stopped."""
    changes = [change for change in manifest["changes"] or () if change["clock"] <= clock]
    if arguments.steps or arguments.device or not exact:
        changes.append({"clock": clock, "steps": arguments.steps, "device": arguments.device})
    if changes != manifest["changes"]:
        folder.write_manifest(manifest | {"changes": changes})


def is_finished(options: Any, counters: dict[str, Any]) -> bool:
    if isinstance(options, train.Options):
        return counters["steps"] >= options.steps
    return counters["updates"] >= options.updates and counters["steps"] >= options.learn_steps


def load_data(options: Any, manifest: dict[str, Any]) -> Any:
    """The data of a run on data, None for one without."""
    if isinstance(options, train.Options):
        return None
    return fit.load(options, dataclasses.asdict(data_options(manifest)), manifest["data"]["sha256"])


def data_options(manifest: Mapping[str, Any]) -> Any:
    """What was done to the data on the way in."""
    from ..offline import Options
    from .manifest import options

    if manifest["data"] is None:
        raise InvalidCheckpoint("manifest.json is damaged: it names no data")
    return options(Options, manifest["data"]["options"])


def put_back(saved: Saved, env: str = "", data: Any = None) -> bool:
    """Environment, buffer and random streams as they were. False, with a word, if the environment cannot be.

    `env` is what the user calls the environment, `data` what a run on data learns from.
    """
    from ..agents.core import checkpoint
    from ..envs import remake

    agent, settings = saved.agent, saved.manifest["env"]
    if settings:
        allow(env, settings)
        agent.env = remake(settings)
    online = saved.extra["phase"] == "learn"
    if online and agent.env is not None:
        agent.buffer = agent.make_buffer(agent.env.num_envs)
    elif data is not None:
        agent.buffer = agent.view(data.buffer)
    exact = checkpoint.resume(agent, saved.manifest, saved.tensors) or not online
    if not exact:
        print("note: this environment cannot be put back into the middle of its episodes, so new ones begin")
    return exact


def allow(env: str, settings: Mapping[str, Any]) -> None:
    """Imports the module of an environment if the user has named the environment as the settings of a file do."""
    import importlib

    if env and env != settings.get("env_id"):
        raise InvalidSetting(f"the run's environment is '{settings.get('env_id')}', not '{env}': leave --env out")
    module, colon, _ = env.rpartition(":")
    try:
        importlib.import_module(module) if colon else None
    except ImportError as error:
        raise InvalidSetting(f"the module of the environment '{env}' cannot be imported ({error})") from error
