"""`bellmark collect RECIPE AGENT ...`: records agents in an environment, as D4RL's files and as Minari sets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tyro.conf import Positional

from ..agents.core.errors import InvalidSetting
from .checkpoints import Found, environment, paths, read, require_fit

Recipe = Literal["random", "mix", "expert", "medium", "medium-expert", "medium-replay"]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Records whole episodes, in parts: the same command goes on with a collection that was killed.

    random: uniformly random actions. mix, expert: the agents named, each with its share. medium: that one of the
    agents (of a run folder every checkpoint, see --keep-checkpoints of `train`) whose mean return is nearest to a third
    of the way from random to --expert. medium-expert: half of each. medium-replay: what the replay buffer of the medium
    checkpoint holds, without acting; with one agent and no --expert, that agent's.
    """

    recipe: Positional[Recipe]
    """What to record, after D4RL's data sets."""
    agents: Positional[tuple[str, ...]] = ()
    """Run folders, checkpoints, or zip files of stable-baselines3."""
    out: str = ""
    """File to write, of D4RL's schema; by default <environment>-<recipe>.hdf5."""
    minari: str = ""
    """Also write the local Minari set of this id, such as hopper/medium-v0."""
    env: str = ""
    """Environment; by default the first agent's own."""
    env_kwargs: str = ""
    """Keywords of that environment as TOML."""
    expert: str = ""
    """Run folder, checkpoint or zip of the expert, for the medium recipes."""
    shares: tuple[float, ...] = ()
    """Share of each agent in a mix; by default all the same."""
    steps: int = 1_000_000
    """Transitions, at least: the last episodes are played to their end."""
    deterministic: bool = False
    """Act without exploration; then there are no log-probabilities."""
    num_envs: int = 8
    """Environments that run side by side."""
    part: int = 100_000
    """Transitions of a part; what is recorded depends on it."""
    episodes: int = 20
    """Episodes by which the medium agent is chosen."""
    seed: int = 0
    """Seed of environments and actions."""
    allow_unnormalized: bool = False
    """Take zips of stable-baselines3 that were trained with VecNormalize, whose statistics they lack."""
    device: str = "cpu"
    """Where the networks live."""

    def __post_init__(self) -> None:
        for name in ("steps", "num_envs", "part", "episodes"):
            if getattr(self, name) < 1:
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be at least 1")
        if self.seed < 0:
            raise InvalidSetting(f"the option seed = {self.seed} must be at least 0")
        if bool(self.agents) == (self.recipe == "random"):
            wrong = (
                "takes no agents: leave them out" if self.agents else "needs agents: name run folders or checkpoints"
            )
            raise InvalidSetting(f"the recipe {self.recipe} {wrong}")
        if self.recipe in ("medium", "medium-expert") and not self.expert:
            raise InvalidSetting(f"the recipe {self.recipe} needs to know the expert: name it with --expert")
        if self.shares and (len(self.shares) != len(self.agents) or min(self.shares) < 0 or sum(self.shares) <= 0):
            raise InvalidSetting(f"--shares {self.shares} must be one non-negative number for each of the agents")


def main(argv: list[str]) -> int:
    import tyro

    arguments = tyro.cli(Arguments, args=argv[1:], prog="bellmark collect")
    collect(arguments)
    return 0


def collect(a: Arguments) -> Path:
    """Records, writes and gives the file."""
    import torch

    from ..offline.collect import Collection, remembered
    from ..offline.writing import write_d4rl

    torch.set_num_threads(1)
    every = a.recipe.startswith("medium")
    allowed = a.allow_unnormalized
    found = [read(path, a.device, allowed) for word in a.agents for path in paths(word, every)]
    expert = read(paths(a.expert, False)[0], a.device, allowed) if a.expert else None
    with environment(a.env, a.env_kwargs, found[0].env if found else {}, a.num_envs) as env:
        for one in [*found, *([expert] if expert else [])]:
            require_fit(one, env.spec, env.env_id)
        out = Path(a.out or f"{env.env_id.replace('/', '-')}-{a.recipe}.hdf5")
        if out.exists():
            raise InvalidSetting(f"{out} exists: name another file with --out, or remove it")
        if every and (expert or len(found) > 1):
            found = [medium(a, found, expert, env)]
        facts = facts_of(a, found, expert, env)
        if a.recipe == "medium-replay":
            agent = with_buffer(found[0])
            write_d4rl(out, remembered(agent), facts)
        else:
            sources = sources_of(a, found, expert, env.spec)
            collection = Collection(out, sources, a.seed, a.part, facts)
            collection.run(env, a.deterministic, lambda done, of: print(f"part {done} of {of}", flush=True))
            collection.finish(facts)
    finish(a, out, facts)
    return out


def medium(a: Arguments, found: list[Found], expert: Found | None, env: Any) -> Found:
    """The agent a third of the way from random to the expert, by episodes in the environment."""
    from ..agents.core.seeding import derive
    from ..envs import evaluate
    from ..offline.behaviour import Uniform
    from ..offline.collect import third

    if expert is None:
        raise InvalidSetting(f"there are {len(found)} agents to choose the medium one from: name the --expert as well")
    actors: list[Any] = [Uniform(env.spec), expert.agent, *(one.agent for one in found)]
    seed = derive(a.seed, "medium")
    random, best, *returns = [
        float(evaluate(actor, env, a.episodes, seed, deterministic=a.deterministic).returns.mean()) for actor in actors
    ]
    if best <= random:
        raise InvalidSetting(f"{expert.path} is no better than random ({best:.1f}, {random:.1f}): name another expert")
    chosen = found[third(returns, best, random)]
    share = (returns[found.index(chosen)] - random) / (best - random)
    print(f"medium: {chosen.path}, {100 * share:.0f}% of the way from random ({random:.1f}) to the expert ({best:.1f})")
    return chosen


def sources_of(a: Arguments, found: list[Found], expert: Found | None, spec: Any) -> list[Any]:
    """Who acts, and for how long."""
    from ..offline.behaviour import Uniform
    from ..offline.collect import Source

    if a.recipe == "random":
        return [Source("random", Uniform(spec), a.steps)]
    if a.recipe == "medium-expert":
        assert expert is not None
        found = [*found, expert]
    shares = np.array(a.shares if a.shares else [1.0] * len(found))
    ends = np.round(a.steps * np.cumsum(shares) / shares.sum()).astype(int)
    counts = np.diff(ends, prepend=0).tolist()
    return [Source(str(one.path), one.agent, count) for one, count in zip(found, counts, strict=True)]


def with_buffer(found: Found) -> Any:
    """The agent with the replay buffer of its checkpoint. Raises InvalidSetting if there is none in it."""
    tensors, agent = found.tensors, found.agent
    if not found.manifest.get("buffer") or not (found.env or {}).get("num_envs"):
        raise InvalidSetting(f"{found.path} holds no replay buffer: take a checkpoint of an online run with replay")
    agent.buffer = agent.make_buffer(found.env["num_envs"])
    rows = {name.removeprefix("buffer."): value for name, value in tensors.items() if name.startswith("buffer.")}
    agent.buffer.load_state(rows, found.manifest["buffer"])
    return agent


def facts_of(a: Arguments, found: list[Found], expert: Found | None, env: Any) -> dict[str, Any]:
    """What the file says about itself, as plain values: all that its transitions depend on."""
    from ..agents.core.checkpoint import versions

    used = [*found, *([expert] if expert and a.recipe == "medium-expert" else [])]
    return {
        "environment": env.env_id,
        "env_settings": json.dumps(env.settings),
        "recipe": a.recipe,
        "agents": ", ".join(one.agent.name for one in used) or "random",
        "agents_sha256": ", ".join(hashlib.sha256(one.path.read_bytes()).hexdigest() for one in used),
        "shares": ", ".join(map(str, a.shares)),
        "deterministic": a.deterministic,
        "seed": a.seed,
        "num_envs": env.num_envs,
        "part": a.part,
        "action_log_probs": "natural logarithm; of actions scaled to [-1, 1], at a bound of a clipped one its mass",
        "versions": json.dumps(versions()),
    }


def finish(a: Arguments, out: Path, facts: dict[str, Any]) -> None:
    """Says what there is, reads it back, and writes the Minari set."""
    from ..offline import d4rl
    from ..offline.recording import episodes

    found = d4rl.read(out)
    played = episodes(found.reward, found.terminated | found.truncated)
    ends = f"{int(found.terminated.sum()):,} terminated, {int(found.truncated.sum()):,} cut off"
    print(f"{out}: {len(found.reward):,} transitions, {len(played.returns):,} episodes ({ends})")
    print(f"  return {played.returns.mean():.2f} ± {played.returns.std():.2f}")
    if a.minari:
        import h5py

        from ..offline.writing import columns_of, write_minari

        with h5py.File(out) as file:
            write_minari(a.minari, [columns_of(file)], facts["environment"], facts)
        print(f"  Minari set {a.minari}")
