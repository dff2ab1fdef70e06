"""`bellmark train AGENT --env ENV`: online training."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from ..agents.core.errors import BellmarkError, InvalidSetting
from . import arguments
from . import training as shared

if TYPE_CHECKING:
    from ..agents.core.config import Config


@dataclass(frozen=True, kw_only=True)
class Task:
    """What `bellmark train` is about; the help lists it first."""

    env: str
    """Environment to train in: an id that gymnasium knows (or envpool, with that backend)."""
    steps: int = 100_000
    """Environment steps in all, those of every environment together."""
    backend: Literal["sync", "async", "envpool", "ale"] = "sync"
    """How environments run: in one process, in one process each, or in the threads of envpool or (Atari) of ale_py."""
    env_kwargs: str = ""
    """Keywords of the environment as TOML, such as "sticky_actions = 0.0, life_loss = true" (see envs/atari.py)."""


@dataclass(frozen=True, kw_only=True)
class Options(shared.Options, Task):
    """Options of `bellmark train`."""


def main(argv: list[str]) -> int:
    import tyro

    from ..agents.core.registry import agent_class

    agent, words = arguments.split_agent("train", argv)
    options, config = arguments.with_settings(agent, "env", Options(env=tyro.MISSING), agent_class(agent).config, words)
    options, config = arguments.parse(f"bellmark train {agent}", words, options, config)
    return train(agent, options, config, argv)


def train(
    name: str, options: Options, config: Config, argv: list[str], *, stop: int | None = None, env_settings: Any = None
) -> int:
    """Starts a run, up to the clock `stop` if that is given. `env_settings`, from a manifest, go before the options.

    Raises RunExists before anything is made, and leaves no folder if something cannot be made.
    """
    import torch

    from .. import make
    from ..envs import make as make_env
    from ..envs import remake
    from .manifest import describe
    from .run_folder import RunFolder

    torch.set_num_threads(options.threads)
    options = dataclasses.replace(options, run=options.run or shared.default_folder(options.env, name, options.seed))
    folder = RunFolder(options.run)
    folder.refuse_existing()
    if env_settings:
        env = remake(env_settings)
    else:
        kwargs = arguments.keywords(options.env_kwargs)
        try:
            env = make_env(options.env, options.num_envs, backend=options.backend, **kwargs)
        except TypeError as error:
            if not kwargs or isinstance(error, BellmarkError):
                raise
            raise InvalidSetting(f"'{options.env}' cannot be made with {kwargs}: {error}") from error
    agent = make(name, env, seed=options.seed, device=options.device, **config.to_dict())
    agent.require("online")
    with folder.create(describe("train", agent, options, argv)):
        return run(shared.Training(folder, agent, options, stop=stop), options)


def run(training: shared.Training, options: Any) -> int:
    """From where the agent is to the planned end."""
    from . import report

    title = f"{training.agent.name} on {options.env}"
    try:
        finished = training.learn(options.steps)
        return training.end(finished, title, "steps", partial(report.show, training, title, "steps"))
    finally:
        training.close()
