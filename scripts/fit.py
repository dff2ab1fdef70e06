"""`bellmark fit AGENT --data DATA`: offline training, and on from there online."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..agents.core.errors import InvalidData
from . import arguments
from . import training as shared

if TYPE_CHECKING:
    from ..agents.core.config import Config
    from ..offline import Dataset


@dataclass(frozen=True, kw_only=True)
class Task:
    """What `bellmark fit` is about; the help lists it first."""

    data: str
    """Data set: a D4RL id (from the cache, or downloaded), a local Minari id, or the path of an HDF5 or npz file."""
    updates: int = 1_000_000
    """Updates on the data."""
    learn_steps: int = 0
    """Environment steps after that, online with the same agent, whose replay buffer starts with the data. There is one
    evaluation more, a tenth of an interval after the switch."""


@dataclass(frozen=True, kw_only=True)
class Options(shared.Options, Task):
    """Options of `bellmark fit`."""


def main(argv: list[str]) -> int:
    import tyro

    from ..agents.core.registry import agent_class
    from ..offline import Options as DataOptions

    agent, words = arguments.split_agent("fit", argv)
    options, config = arguments.with_settings(
        agent, "data", Options(data=tyro.MISSING), agent_class(agent).config, words
    )
    data = arguments.with_data_settings(agent, DataOptions(), words)
    options, data, config = arguments.parse(f"bellmark fit {agent}", words, options, data, config)
    return fit(agent, options, data, config, argv)


def fit(
    name: str,
    options: Options,
    data_options: Any,
    config: Config,
    argv: list[str],
    *,
    stop: int | None = None,
    sha256: str = "",
) -> int:
    """Starts a run, up to the clock `stop` if that is given.

    Raises RunExists before anything is made, and leaves no folder if something cannot be made. Raises InvalidData if
    the data file has another hash than `sha256`, if that is given.
    """
    import torch

    from .. import make
    from .manifest import describe
    from .run_folder import RunFolder

    torch.set_num_threads(options.threads)
    task = options.data.replace("\\", "/").rpartition("/")[2].removesuffix(".hdf5")
    options = dataclasses.replace(options, run=options.run or shared.default_folder(task, name, options.seed))
    folder = RunFolder(options.run)
    folder.refuse_existing()
    data = load(options, dataclasses.asdict(data_options), sha256)
    agent = make(name, data, seed=options.seed, num_envs=options.num_envs, device=options.device, **config.to_dict())
    agent.require("from data")  # refuses an agent that cannot learn from data, before there is a folder
    if options.learn_steps:
        agent.require("online")
    with folder.create(describe("fit", agent, options, argv, data)):
        return run(shared.Training(folder, agent, options, scores=scores(data), stop=stop), options, data)


def load(options: Options, data_options: dict[str, Any], sha256: str = "") -> Dataset:
    """The data. Raises InvalidData if `sha256` is given and is not that of the file."""
    from .. import dataset

    data = dataset(options.data, device=options.device, **data_options)
    if sha256 not in ("", data.sha256):
        raise InvalidData(
            f"{data.path} is not the file that the run began with (sha256 {data.sha256[:12]}, then {sha256[:12]}): "
            "put the old one back, or start a new run"
        )
    return data


def scores(data: Dataset) -> Any:
    """What turns returns into D4RL scores, if reference returns are known."""
    return data.normalized if data.reference is not None else None


def run(training: shared.Training, options: Any, data: Dataset) -> int:
    """From where the agent is to the planned end: first the updates, then the steps."""
    from . import report

    agent = training.agent
    title = f"{agent.name} on {data.id}"
    try:
        if agent.steps == 0 and not training.fit(data, options.updates):
            return training.end(False, title, "updates", lambda: None)
        unit = "updates, then environment steps" if options.learn_steps else "updates"
        finished = not options.learn_steps or training.learn(options.learn_steps, options.updates)
        show = partial(report.show, training, title, "updates", data.protocol)
        return training.end(finished, title, unit, show)
    finally:
        training.close()
