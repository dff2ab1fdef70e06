"""Records whole episodes of agents in environments, in parts that do not depend on each other.

Each part is reset with a seed of its own and written to a file of its own, so a collection that was killed goes on with
the parts that are missing, and ends with the same transitions as one that was not.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ..agents.core.errors import InvalidData, InvalidSetting
from ..agents.core.files import write_atomically
from ..agents.core.seeding import derive
from ..agents.core.spec import Spec
from .behaviour import log_probs

if TYPE_CHECKING:
    from ..envs.evaluation import Actor
    from ..envs.vector import VectorEnv

LONGEST = 1_000_000
"""Transitions of an episode after which it is taken for one that never ends."""
Columns = dict[str, np.ndarray]
"""Arrays `[M, ...]` by the names of D4RL's schema, transitions in time order, episode after episode."""


class Source(NamedTuple):
    """Somebody who acts, and how many of the transitions are to be theirs, at least."""

    name: str
    actor: Actor
    transitions: int


def record(
    actor: Actor,
    env: VectorEnv,
    seed: int,
    *,
    transitions: int = 0,
    episodes: int = 0,
    deterministic: bool = False,
) -> Columns:
    """Whole episodes of `actor` on `env`, in the units of the environment, those of the first environment first.

    Each environment runs until it has its share of `transitions` or of `episodes`, and then to the end of its episode:
    a quota that is fixed beforehand does not favour short episodes. Actions are drawn as in training unless
    `deterministic`. Torch's random state is the same afterwards. Raises InvalidSetting if an episode never ends.
    """
    with torch.random.fork_rng(devices=[*range(torch.cuda.device_count())] if torch.cuda.is_initialized() else []):
        torch.manual_seed(seed)
        rows, kept = _run(actor, env, seed, (transitions, episodes), deterministic)
    found = {name: np.stack([row[name] for row in rows]).swapaxes(0, 1)[kept.T] for name in rows[0]}
    obs, action = found["observations"], found["actions"]
    chances = None if deterministic else log_probs(actor, obs, action)
    found |= {name: raw_obs(env.spec, found[name]) for name in ("observations", "next_observations")}
    found["actions"] = env.spec.decode_action(action)
    return found if chances is None else found | {"infos/action_log_probs": chances}


def _run(
    actor: Any, env: VectorEnv, seed: int, quotas: tuple[int, int], deterministic: bool
) -> tuple[list[Columns], np.ndarray]:
    """The rows of every step, `[N, ...]` each, and which of them count, `[T, N]` bool."""
    wanted = np.array([-(-quota // env.num_envs) for quota in quotas])
    done, began = np.zeros((2, env.num_envs), np.int64), np.zeros(env.num_envs, np.int64)
    counted = np.ones(env.num_envs, bool)
    rows: list[Columns] = []
    kept: list[np.ndarray] = []
    remember, credit, state = getattr(actor, "act_from", None), getattr(actor, "credit", None), None
    obs = env.reset(seed)
    while counted.any():
        if remember is None:
            action = actor.act_on(obs, explore=not deterministic)
        else:
            action, state = remember(obs, state, env.episode_start, explore=not deterministic)
        simulation = simulated(env)
        step = env.step(action)
        state = state if credit is None else credit(state, step.reward)
        if not env.spec.discrete:
            action = np.clip(action, -1.0, 1.0)
        row = {"observations": obs, "actions": action, "rewards": step.reward, "terminals": step.terminated}
        rows.append(row | {"timeouts": step.truncated, "next_observations": step.next_obs} | simulation)
        kept.append(step.valid & counted)
        obs, ended = step.obs, step.terminated | step.truncated
        done += np.stack([step.valid, ended])
        for column in np.flatnonzero(~step.valid):  # nothing after an end; else its episode was lost
            for row_kept in kept[began[column] : -1]:
                row_kept[column] = False
                done[0, column] -= 1
        began[ended | ~step.valid] = len(rows)
        counted &= ~(ended & (done >= wanted[:, None]).all(0))
        if (len(rows) - began[counted] > LONGEST).any():
            raise InvalidSetting(
                f"an episode of '{env.env_id}' has no end after {LONGEST:,} transitions: record in an environment "
                "with a horizon (max_episode_steps)"
            )
    env.pop_episodes()
    return rows, np.stack(kept)


def simulated(env: VectorEnv) -> Columns:
    """Positions and velocities `[N, ...]` of MuJoCo's simulations, as they are; empty where there is none here."""
    datas = [getattr(one.unwrapped, "data", None) for one in getattr(env.env, "envs", ())]
    if not datas or not all(hasattr(data, "qpos") for data in datas):
        return {}
    return {f"infos/{name}": np.stack([getattr(data, name) for data in datas]) for name in ("qpos", "qvel")}


def raw_obs(spec: Spec, obs: np.ndarray) -> np.ndarray:
    """Observations of an agent `[M, ...]` as the environment gave them; dictionaries stay the flat vectors."""
    if spec.obs_choices:
        return obs.argmax(1) + spec.obs_start
    return np.moveaxis(obs, 1, -1) if spec.channels_last else obs


class Collection:
    """A collection on its way to the file `path`: its parts are in the folder `path`.parts until `finish`."""

    def __init__(self, path: str | Path, sources: Sequence[Source], seed: int, part: int, facts: Mapping[str, Any]):
        """Parts have about `part` transitions. `facts` is all else that the transitions depend on, as plain values.

        Raises InvalidSetting if `path` is there, or holds the parts of another collection.
        """
        self.path, self.folder = Path(path), Path(f"{path}.parts")
        if self.path.exists():
            raise InvalidSetting(f"{path} exists: name another file with --out, or remove it")
        self.sources, self.seed, self.part = sources, seed, part
        plan = {"seed": seed, "part": part, "sources": [[s.name, s.transitions] for s in sources], **facts}
        self.plan = json.loads(json.dumps(plan))
        plan_file = self.folder / "plan.json"
        if plan_file.exists() and json.loads(plan_file.read_text(encoding="utf-8")) != self.plan:
            raise InvalidSetting(f"{self.folder} holds parts of another collection: remove it, or name another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(plan_file, json.dumps(self.plan, indent=2).encode())

    @property
    def parts(self) -> list[tuple[Path, int, int]]:
        """For each part its file, the number of its source, and how many transitions it has at least."""
        found = []
        for number, source in enumerate(self.sources):
            count = max(math.ceil(source.transitions / self.part), 1) if source.transitions else 0
            shares = [source.transitions * (i + 1) // count - source.transitions * i // count for i in range(count)]
            found += [(self.folder / f"{number}-{i:06d}.npz", number, share) for i, share in enumerate(shares)]
        return found

    def run(self, env: VectorEnv, deterministic: bool, report: Callable[[int, int], None] | None = None) -> None:
        """Records the parts that are missing; calls `report` with the number of parts that there are, and of all."""
        for done, (path, number, share) in enumerate(self.parts):
            if not path.exists():
                seed = derive(self.seed, "collection", path.stem)
                found = record(self.sources[number].actor, env, seed, transitions=share, deterministic=deterministic)
                named: Any = {name.replace("/", "|"): column for name, column in found.items()}
                packed = io.BytesIO()
                np.savez(packed, **named)
                write_atomically(path, packed.getvalue())
            if report is not None:
                report(done + 1, len(self.parts))

    def columns(self) -> Iterator[Columns]:
        """Part after part. Raises InvalidData for one that is damaged."""
        for path, _, _ in self.parts:
            try:
                with np.load(path, allow_pickle=False) as file:
                    yield {name.replace("|", "/"): file[name] for name in file.files}
            except (OSError, ValueError, EOFError) as error:
                raise InvalidData(f"{path} is damaged ({error}): remove it and collect again") from error

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Writes the file and removes the parts."""
        from .writing import write_d4rl

        write_d4rl(self.path, self.columns(), metadata)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.folder)


def remembered(agent: Any) -> Iterator[Columns]:
    """What the replay buffer of `agent` holds, in time order, with the environment's own rewards: medium-replay.

    Where the buffer goes on with another episode, or ends, within one, that row is a timeout. Raises InvalidData for
    an empty buffer, InvalidSetting for one from whose rewards those of the environment do not follow.
    """
    from .trajectories import trajectories

    if getattr(agent.config, "clip_reward", False):
        raise InvalidSetting("its replay buffer holds the signs of rewards (clip_reward), not rewards: train without")
    buffer, spec = agent.buffer, agent.spec
    factor, shift = buffer.reward_change
    if factor == 0.0:
        raise InvalidSetting("its replay buffer holds rewards times 0 (reward_scale), not rewards: train with another")
    found = trajectories(buffer)
    last = np.zeros(len(found.rows), bool)
    last[found.first + found.lengths - 1] = True
    for start in range(0, len(last), 100_000):
        rows = torch.as_tensor(found.rows[start : start + 100_000], device=buffer.device)
        batch = buffer.gather(rows, 1.0)
        terminated = buffer.terminated.view(-1)[rows].cpu().numpy()
        yield {
            "observations": raw_obs(spec, batch.obs.cpu().numpy()),
            "actions": spec.decode_action(batch.action.cpu().numpy()),
            "rewards": ((batch.reward.double() - shift) / factor).float().cpu().numpy(),
            "terminals": terminated,
            "timeouts": last[start : start + 100_000] & ~terminated,
            "next_observations": raw_obs(spec, batch.next_obs.cpu().numpy()),
        }


def third(returns: Sequence[float], expert: float, random: float) -> int:
    """Which of the policies with these mean returns is "medium": the nearest to a third of the way to the expert."""
    return int(np.abs(np.asarray(returns) - (random + (expert - random) / 3.0)).argmin())
