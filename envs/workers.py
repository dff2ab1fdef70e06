"""Environments in processes of their own, each replaced by a fresh one where it crashes or hangs."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.util
import select
import signal
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import CloudpickleWrapper, batch_space

from ..agents.core.errors import EnvironmentFailed, InvalidCheckpoint
from ..agents.core.seeding import derive
from ..agents.core.spec import Spec
from . import snapshot
from .ends import SUCCESS
from .plain import require_form
from .worker import Failure, fields, work

LOST = "bellmark/lost"
"""Key of `info`: [N] bool, where the episode was lost with its worker and a new one has begun; absent if nowhere."""
GRACE = 1.0
"""Seconds that a worker has beyond its time: after a stop (Ctrl-Z), the parent finds first that the time is up."""
CLOSING = 5.0
"""Seconds that a worker has to close its environment."""


class Workers(gymnasium.vector.VectorEnv):
    """One process for each environment, in which a SyncVectorEnv runs it: the transitions are the same as there.

    Observations, actions and rewards are in shared memory; what `step` and `reset` give is written to again. A worker
    fails if its environment raises an exception, if its process ends, or if it gives no answer within `worker_timeout`
    seconds. It is then replaced, with a warning, and its column begins a new episode from a seed that follows from
    that of `reset` and the number of failures so far. After `worker_restarts` of them EnvironmentFailed is raised.
    """

    def __init__(
        self,
        maker: Callable[[], gymnasium.Env],
        num_envs: int,
        mode: AutoresetMode,
        worker_timeout: float,
        worker_restarts: int,
    ):
        env = maker()
        self.single_observation_space, self.single_action_space = env.observation_space, env.action_space
        self.metadata = {**env.metadata, "autoreset_mode": mode}
        env.close()
        Spec.from_spaces(self.single_observation_space, self.single_action_space)  # refuses what has no shape
        self.num_envs, self.autoreset_mode = num_envs, mode
        self.timeout, self.restarts = worker_timeout, worker_restarts
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        obs, action = self.single_observation_space, self.single_action_space
        row = [("obs", obs.dtype, obs.shape), ("action", "f4" if isinstance(action, Box) else "i8", action.shape)]
        said = [("reward", "f8"), ("success", "f8"), ("terminated", "?"), ("truncated", "?")]
        self._layout = np.dtype([*row, *said], align=True)
        self.maker, self._context = CloudpickleWrapper(maker), multiprocessing.get_context()
        self._shared = self._context.RawArray("b", num_envs * self._layout.itemsize)
        self._rows = fields(self._shared, self._layout)
        self._seed = self._failures = self._requests = 0
        self._workers: dict[int, tuple[Any, Any, select.poll]] = {}
        self._stop = multiprocessing.util.Finalize(self, _stop, (self._workers,), exitpriority=0)
        for column in range(num_envs):
            self._start(column)
        for column in range(num_envs):
            try:
                self._answer(column, 0)
            except Failure as failure:
                self.close()
                raise EnvironmentFailed(f"environment {column} could not be made: {failure}") from None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Starts new episodes, with `options["reset_mask"]` [N] bool in those columns only."""
        self._seed = self._seed if seed is None else seed
        columns = range(self.num_envs) if options is None else np.flatnonzero(options["reset_mask"]).tolist()
        self._collect(
            {column: self._send([column], "reset", None if seed is None else seed + column) for column in columns}
        )
        return self._rows["obs"], {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        rows = self._rows
        info: dict[str, Any] = {SUCCESS: rows["success"]}
        rows["action"][...] = actions
        answers = self._collect(dict.fromkeys(range(self.num_envs), self._send(range(self.num_envs), "step")))
        if any(answer is not None for answer in answers):
            lost = np.array([isinstance(answer, Failure) for answer in answers])
            info["final_obs"] = answers
            if lost.any():
                info[LOST] = lost
                for name in ("reward", "terminated", "truncated"):
                    rows[name][lost] = 0
        return rows["obs"], rows["reward"], rows["terminated"], rows["truncated"], info

    def take(self) -> dict[str, Any]:
        """What `snapshot.take` gives of the same environments in one process. Raises snapshot.Obstacle."""
        if self.closed:
            raise snapshot.Obstacle("the environments are closed")
        tag = self._send(range(self.num_envs), "take")
        parts = []
        for column in range(self.num_envs):
            try:
                part = self._answer(column, tag)
            except Failure as failure:  # left as it is: the next step finds it
                raise snapshot.Obstacle(f"environment {column} failed: {failure}") from None
            if isinstance(part, str):
                raise snapshot.Obstacle(part)
            parts.append(part)
        return snapshot.join(parts) | {"restarts": [self._seed, self._failures]}

    def put_back(self, state: dict[str, Any]) -> np.ndarray:
        """Takes over what `take` gave, here or of environments in one process. Raises InvalidCheckpoint."""
        form = {"vector": snapshot.vector_form(self), "columns": ([],) * self.num_envs}
        require_form({"restarts": [0, 0]} | state, form | {"restarts": (0, 0)}, "the state of the environments")
        self._seed, self._failures = map(int, state.get("restarts", (self._seed, self._failures)))
        tags = [self._send([column], "put_back", part) for column, part in enumerate(snapshot.split(state))]
        try:
            answers = [self._answer(column, tag) for column, tag in enumerate(tags)]
        except Failure as failure:
            raise InvalidCheckpoint(f"an environment does not survive its saved state: {failure}") from None
        for answer in answers:
            if isinstance(answer, InvalidCheckpoint):
                raise answer
        return self._rows["obs"]

    def close_extras(self, **kwargs: Any) -> None:
        self._stop()

    def _collect(self, tags: dict[int, int]) -> list[Any]:
        """The answers of columns to the requests of these tags. A failed worker is replaced, its answer the Failure."""
        answers = list[Any]()
        for column, tag in tags.items():
            try:
                answers.append(self._answer(column, tag))
            except Failure as failure:
                self._replace(column, failure)
                answers.append(failure)
        return answers

    def _send(self, columns: Sequence[int], *request: Any) -> int:
        """Sends these columns a request; gives the tag that the answers will carry."""
        if self.closed:
            raise EnvironmentFailed("the environments are closed: make them again.")
        self._requests += 1
        self._deadline = time.monotonic() + self.timeout
        tagged = self._requests, *request
        for column in columns:
            with contextlib.suppress(OSError):  # its process has ended, as is found when it does not answer
                self._workers[column][1].send(tagged)
        return self._requests

    def _answer(self, column: int, tag: int) -> Any:
        """The answer to the request of that tag; an older one, to a step that was interrupted, is passed over."""
        process, pipe, readable = self._workers[column]
        try:
            answered = -1
            while answered != tag:
                remaining = max(self._deadline - time.monotonic(), 0.0)
                if not (readable.poll(1000.0 * remaining) or readable.poll(1000.0 * GRACE)):
                    process.kill()
                    raise Failure(f"it gave no answer within {self.timeout:g} seconds")
                answered, answer = pipe.recv()
        except (EOFError, OSError):
            process.join(CLOSING)
            code = process.exitcode
            if code is None:
                raise Failure("its process answers no longer") from None
            ending = f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
            raise Failure(f"its process ended with {ending}") from None
        if isinstance(answer, Failure):
            raise answer
        return answer

    def _replace(self, column: int, failure: Failure) -> None:
        """Puts a fresh worker with a fresh episode there. Raises EnvironmentFailed when no restart is left."""
        while True:
            process, pipe, _ = self._workers[column]
            process.kill()
            process.join()
            pipe.close()
            self._failures += 1
            if not self.restarts:
                self.close()
                raise EnvironmentFailed(
                    f"environment {column} failed and no restart is left: mend it, or raise worker_restarts; {failure}"
                ) from None
            self.restarts -= 1
            warnings.warn(
                f"environment {column} failed and is replaced, its episode is lost ({self.restarts} restarts left): "
                f"{failure}",
                RuntimeWarning,
                stacklevel=2,
            )
            self._start(column)
            try:
                self._answer(column, 0)
                seed = derive(self._seed, "restart", self._failures)
                self._answer(column, self._send([column], "reset", seed))
                return
            except Failure as another:
                failure = another

    def _start(self, column: int) -> None:
        pipe, theirs = self._context.Pipe()
        arguments = column, self.maker, self.autoreset_mode, self._shared, self._layout, theirs
        process = self._context.Process(target=work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        readable = select.poll()  # several times as fast as pipe.poll
        readable.register(pipe.fileno(), select.POLLIN)
        self._workers[column] = process, pipe, readable
        self._deadline = time.monotonic() + self.timeout


def _stop(workers: dict[int, tuple[Any, Any, select.poll]]) -> None:
    """Lets the workers close their environments, and ends those that take too long."""
    for _, pipe, _ in workers.values():
        with contextlib.suppress(OSError):
            pipe.send((-1, "close"))
    deadline = time.monotonic() + CLOSING
    for process, pipe, _ in workers.values():
        process.join(max(deadline - time.monotonic(), 0.0))
        process.kill()
        process.join()
        pipe.close()
