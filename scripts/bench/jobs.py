"""What is measured: the same work for every contestant, in each one's own words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

CHEETAH, CARTPOLE, PONG = "HalfCheetah-v5", "CartPole-v1", "ALE/Pong-v5"
WIDE = {"hidden": [256, 256], "batch_size": 256}
EARLY = {"start": 300, "buffer_size": 1_000_000}
TITLES = {"iql": "IQL", "td3_bc": "TD3+BC", "cql": "CQL, 10 actions", "sac": "SAC", "sac_n": "SAC-N", "redq": "REDQ"}
HOST = {"device": "cpu"}
FRAMES = {"batch_size": 32, "start": 200, "buffer_size": 10_000}


@dataclass(frozen=True)
class Job:
    """Blocks of `block` units of work (environment steps, or updates), after `warmup` units.

    The first contestant is the one that is judged: the ratio is its speed over another's. A contestant's name up to
    the first dash is its script in this folder; its words, with `shared`, are what the script is told.
    """

    name: str
    title: str
    unit: str
    warmup: int
    block: int
    shared: dict[str, Any]
    contestants: dict[str, dict[str, Any]]
    targets: dict[str, float]
    """The least ratio that we want against a contestant."""

    def on(self, device: str) -> Job:
        """The job with networks and batches on that device; on a GPU also without CUDA graphs."""
        shared, contestants, targets = self.shared | {"device": device}, self.contestants, self.targets
        if device != "cpu" and "ours-eager" in contestants:
            contestants = contestants | {"ours-unrecorded": {"compile": True, "record": False}}
            targets = targets | ({"ours-eager": 5.0} if shared["agent"] in ("ppo", "sac", "td3") else {})
        return replace(self, shared=shared, contestants=contestants, targets=targets)


def online(agent: str, env: str, num_envs: int, warmup: int, block: int, target: float, **settings: Any) -> Job:
    """Training in an environment, at stable-baselines3's defaults but for `settings`."""
    title = f"{agent.upper()}, {env}, {num_envs} environment{'s' * (num_envs > 1)}"
    shared = {**HOST, "work": "online", "agent": agent, "env": env, "num_envs": num_envs, "settings": settings}
    peers: dict[str, dict[str, Any]] = {peer: {} for peer in ("sb3", *(("sbx",) if agent in ("sac", "td3") else ()))}
    ours: dict[str, dict[str, Any]] = {"ours": {"compile": True}, **peers, "ours-eager": {}}
    name = f"{agent}-{env.rpartition('/')[2].partition('-')[0].lower()}-{num_envs}"
    return Job(
        name, title, "steps", warmup, block, shared, ours, {peer: 1.1 if peer == "sbx" else target for peer in peers}
    )


def offline(agent: str, target: float, block: int = 200) -> Job:
    """Updates on recorded data of HalfCheetah's sizes."""
    shared = {**HOST, "work": "offline", "agent": agent, "sizes": [17, 6], "settings": WIDE}
    contestants: dict[str, dict[str, Any]] = {"ours": {"compile": True}, "d3rlpy": {}, "ours-eager": {}}
    title = f"{TITLES[agent]}, updates of recorded data"
    return Job(f"{agent}-data", title, "updates", 50, block, shared, contestants, {"d3rlpy": target})


def critics(agent: str, block: int, **settings: Any) -> Job:
    """One update with ten critics against one with two."""
    shared = {**HOST, "work": "offline", "agent": agent, "sizes": [17, 6]}
    words = {f"ours-{size}": {"settings": {**WIDE, "critics": size, **settings}} for size in (10, 2)}
    title = f"{TITLES[agent]}, 10 critics"
    return Job(f"{agent}-critics", title, "updates", 20, block, shared, words, {"ours-2": 0.2})


def value_based(*agents: str) -> Job:
    """Frames per second of agents with other heads and networks than DQN, beside the two that stable-baselines3 has."""
    shared = {**HOST, "work": "online", "env": PONG, "num_envs": 1, "settings": FRAMES}
    words: dict[str, dict[str, Any]] = {f"ours-{agent}": {"agent": agent} for agent in agents}
    words |= {"sb3-dqn": {"agent": "dqn"}, "sb3-qrdqn": {"agent": "qrdqn", "library": "sb3_contrib"}}
    return Job("value-pong", f"value-based agents, {PONG}, 1 environment", "steps", 400, 200, shared, words, {})


def imports(*modules: str) -> dict[str, dict[str, Any]]:
    """A fresh process that imports each."""
    return {f"import-{module}": {"module": module} for module in modules}


JOBS = [
    online("ppo", CHEETAH, 1, 2048, 4096, 3.0),
    online("ppo", CHEETAH, 8, 16_384, 16_384, 2.5),
    online("ppo", CARTPOLE, 8, 16_384, 16_384, 3.0),
    online("dqn", CARTPOLE, 1, 12_000, 8000, 3.0),
    online("sac", CHEETAH, 1, 400, 300, 1.8, **WIDE, **EARLY),
    online("td3", CHEETAH, 1, 400, 300, 1.8, **WIDE, **EARLY),
    online("dqn", PONG, 1, 600, 600, 1.5, **FRAMES),
    value_based("dqn", "dueling_dqn", "c51", "hl_gauss_dqn", "qr_dqn", "iqn", "fqf", "rainbow"),
    offline("iql", 2.0),
    offline("td3_bc", 2.0),
    offline("cql", 1.5, 20),
    critics("sac", 40),
    critics("sac_n", 40),
    critics("redq", 40),
    Job("import", "import bellmark", "processes", 1, 3, {}, imports("bellmark", "torch"), {"import-torch": 0.9}),
]
