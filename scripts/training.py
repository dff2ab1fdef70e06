"""What `train`, `fit` and `resume` share: options, hooks, the course of a run and its last words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..agents.core import loop
from ..agents.core.errors import InvalidSetting, NotFinite, OutOfMemory
from ..envs import for_evaluation, remake
from . import weights_and_biases
from .disk import Disk
from .hooks import EarlyEvaluation, Evaluate, Interrupt, Save, Scores, Stop
from .log import Events, Log
from .manifest import EVALUATION_ENVS
from .memory import Memory, announced, is_out_of_memory
from .outcome import INTERRUPTED, SaveFailed
from .progress import PlainLines, ProgressBar
from .run_folder import RunFolder

if TYPE_CHECKING:
    from ..agents.core.agent import Agent
    from ..agents.core.buffer import Buffer


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that do not depend on the agent."""

    seed: int = 0
    """Seed of networks, environments and everything else that is random."""
    num_envs: int = 1
    """Environments that run side by side online."""
    run: str = ""
    """Folder for everything that the run leaves behind; by default runs/<task>-<agent>-seed<seed>."""
    tuned: bool = False
    """Start from the settings that Bellmark ships for this task (scripts/settings) instead of the agent's defaults."""
    settings: str = ""
    """TOML file of settings to start from, of the same form as the shipped ones."""
    eval_every: int = 0
    """Clock ticks (steps online, updates offline) between two evaluations; 0 = a tenth of the run."""
    eval_episodes: int = 10
    """Whole episodes per evaluation, on environments and a random stream of their own; 0 = no evaluation."""
    checkpoint_every: int = 0
    """Clock ticks between two checkpoints; 0 = a tenth of the run."""
    keep_checkpoints: bool = False
    """Keep every checkpoint as step-<clock>.bell, with its replay buffer if online, for `collect` and `ope`."""
    log_every: int = 0
    """Clock ticks between two rows of progress.csv and TensorBoard; 0 = a hundredth of the run."""
    device: str = "cpu"
    """Where networks and data live: cpu, cuda, cuda:1, ..."""
    threads: int = 1
    """Threads of torch; 1 is the fastest for small networks, and reproducible."""
    compile: bool = False
    """Run updates as one compiled graph: the same mathematics, several times faster for small networks, but the first
    update takes many seconds. Needs a C++ compiler."""
    progress: bool = True
    """Show a progress bar in a terminal, and lines elsewhere."""
    wandb: str = ""
    """Project of Weights & Biases to which all numbers go as well."""

    def __post_init__(self) -> None:
        bounds = {"num_envs": (1, 2**16), "threads": (1, 2**10), "seed": (0, 2**63 - 1)}
        bounds |= dict.fromkeys(("eval_every", "eval_episodes", "checkpoint_every", "log_every"), (0, 2**63))
        for name, (low, high) in bounds.items():
            if getattr(self, name) < low:
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be at least {low}")
            if getattr(self, name) > high:
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be at most {high}")
        require_device(self.device)
        if self.wandb:
            weights_and_biases.require()


def require_device(device: str) -> None:
    """Raises InvalidSetting if torch cannot compute there."""
    try:
        torch.zeros(1, device=device).item()
    except Exception as error:
        raise InvalidSetting(f"the device '{device}' cannot be used ({str(error).partition(chr(10))[0]})") from error


def default_folder(task: str, agent: str, seed: int) -> str:
    """`runs/<task>-<agent>-seed<seed>`, the task as one word."""
    word = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in task)
    return str(Path("runs") / f"{word}-{agent}-seed{seed}")


class Training:
    """A run from its first or its next step to its end, with all hooks."""

    def __init__(
        self,
        folder: RunFolder,
        agent: Agent,
        options: Options,
        *,
        scores: Scores | None = None,
        resumed: Mapping[str, Any] | None = None,
        intact: bool = True,
        stop: int | None = None,
    ):
        """`resumed` is what the checkpoint's `extra` says, if the run goes on from one; `intact` is whether that is
        last.bell. The run stops when its clock is at `stop`."""
        self.folder, self.agent, self.options, self.scores, self.stop = folder, agent, options, scores, stop
        self.resumed = dict(resumed or {})
        if options.compile:
            agent.compile_updates()
        self.saved = self.resumed["clock"] if resumed and intact else None
        """The clock of last.bell, if there is a good one."""
        self.disk, self.interrupt, self.memory = Disk(), Interrupt(), Memory()
        settings = {"agent": agent.name, "seed": agent.seed, "env": getattr(agent.env, "env_id", "")}
        settings |= agent.config.to_dict()
        self.events: Any = Events(folder, self.disk, self.resumed["clock"] + 1 if resumed else None, settings)
        if options.wandb:
            self.events = weights_and_biases.WeightsAndBiases(self.events, options.wandb, folder)
        self.evaluation_env = evaluation_env(agent, options.eval_episodes)
        self.status: loop.Status | None = None
        if resumed:
            folder.go_on(self.resumed["clock"])

    def learn(self, steps: int, offset: int = 0) -> bool:
        """Goes on online to `steps` environment steps in all. Returns False if it was interrupted before."""
        if self.stop is not None and self.stop <= offset + self.agent.steps:
            return False
        begin = partial(loop.learn, self.agent, steps - self.agent.steps)
        return self._phase("learn", steps, offset, begin)

    def fit(self, data: Any, updates: int) -> bool:
        """Goes on offline to `updates` updates in all. Returns False if it was interrupted before."""
        begin = partial(loop.fit, self.agent, data, updates - self.agent.updates)
        return self._phase("fit", updates, 0, begin, data.validation)

    def _phase(
        self, phase: str, end: int, offset: int, begin: Callable[..., loop.Status], validation: Buffer | None = None
    ) -> bool:
        o, folder, disk = self.options, self.folder, self.disk
        log_every = o.log_every or max(end // 100, 1)
        elapsed = self.resumed.get("elapsed", 0.0)
        log = Log(log_every, folder, self.events, disk, offset=offset, elapsed=elapsed, validation=validation)
        save = Save(o.checkpoint_every or max(end // 10, 1), folder, phase, log, disk, self.saved, o.keep_checkpoints)
        self.memory.every = log_every
        hooks: list[loop.Hook] = [log]
        evaluate = None
        if self.evaluation_env is not None:
            every = o.eval_every or max(end // 10, 1)
            evaluate = Evaluate(every, folder, self.evaluation_env, o.eval_episodes, log, disk, self.scores)
            hooks += [evaluate, EarlyEvaluation(evaluate)] if offset else [evaluate]
        hooks += [save, self.memory, self.interrupt]
        if self.stop is not None:
            hooks.append(Stop(self.stop - offset))
        bar = ProgressBar(f"{self.agent.name} {phase}")
        if o.progress:
            hooks.append(bar if sys.stdout.isatty() else PlainLines(log_every))
        try:
            with self.interrupt, announced():
                self.status = status = begin(hooks=hooks, carried=self.resumed.pop("carried", None))
                finished = status.clock >= status.until
                if finished and status.clock > status.first_tick:
                    if log.clock != status.clock:
                        log(status)
                    if evaluate is not None:
                        evaluate.at_end(status)
                save.save(status)
        except NotFinite as error:
            raise NotFinite(f"{error}; {self._kept()}") from error
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(
                f"there is not enough memory ({str(error).partition(chr(10))[0]}); {self._kept()}: end other programs "
                "and resume it, or start anew with a smaller buffer_size, num_envs or batch_size"
            ) from error
        finally:
            bar.close()
            self.saved = save.saved
            self.resumed["elapsed"] = log.elapsed
        return finished

    def _kept(self) -> str:
        last = self.folder.last
        return f"the last good checkpoint is {last}" if last.exists() else "no checkpoint exists yet"

    def close(self) -> None:
        with ExitStack() as stack:
            things: tuple[Any, ...] = (self.agent.env, self.evaluation_env, self.events)
            for thing in things:
                if hasattr(thing, "close"):
                    stack.callback(thing.close)

    def end(self, finished: bool, title: str, unit: str, report: Callable[[], None]) -> int:
        """Draws the curve, says what there is now, and gives the exit status.

        Raises SaveFailed if not all is saved, and OutOfMemory if that is why the run ended early.
        """
        from .plots import learning_curve

        folder, starved = self.folder, not finished and self.memory.full
        as_planned = finished or (self.stop is not None and not self.interrupt.requested)
        progress, evaluations = folder.progress.rows, folder.evaluations.rows
        if not starved:  # libraries that cannot have what they need may end the process
            self.disk.attempt(folder.curve, lambda: learning_curve(folder.curve, title, unit, progress, evaluations))
        if finished:
            report()
        elif not (as_planned or starved):
            print(f"interrupted and saved; go on with: bellmark resume {folder}")
        if self.disk.failed:
            names = ", ".join(str(path) for path in self.disk.failed)
            raise SaveFailed(f"could not write {names}: the last attempt failed ({[*self.disk.failed.values()][-1]})")
        if starved:
            raise OutOfMemory(
                f"{starved}: the run was stopped and saved; go on where there is more, or after ending other programs, "
                f"with: bellmark resume {folder}"
            )
        return 0 if as_planned else INTERRUPTED


def evaluation_env(agent: Agent, episodes: int) -> Any:
    """Environments like the agent's own, for evaluation alone; None if there is nothing to evaluate in."""
    if agent.env is None or not episodes:
        return None
    changes = {"backend": "sync"} if agent.env.backend == "async" else {}
    env = remake(for_evaluation(agent.env.settings), num_envs=min(EVALUATION_ENVS, episodes), **changes)
    env.non_finite = agent.config.non_finite
    return env
