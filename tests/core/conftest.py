"""What the tests of the core share: a scripted environment that knows its own transitions, and small agents."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.config import RolloutConfig
from bellmark.agents.core.errors import UnsupportedSpace
from bellmark.agents.core.loop import run
from bellmark.agents.core.registry import agent_class
from bellmark.agents.core.spec import Spec

CONTINUOUS = Spec((3,), 2, False, action_shape=(2,), action_low=(-1.0, -1.0), action_high=(1.0, 1.0))
DISCRETE = Spec((3,), 4, True)


class Scripted:
    """Environments whose observations are (column, episode, step) and whose future ignores the actions.

    What happens is the same in both autoreset styles. `transitions[column]` lists what a buffer should hold, `rows`
    how it should lie there: a transition, or None for a row that is none. Rewards of reset rows are NaN.
    """

    def __init__(self, columns=1, style="next_step", spec=CONTINUOUS, seed=0, longest=5):
        self.num_envs, self.style, self.spec, self.longest = columns, style, spec, longest
        self.script = np.random.default_rng(seed).integers(2**20, size=(columns, 5000))
        self.settings = {"env_id": "scripted", "style": style}
        self.obs = None
        self.seeds, self.begun, self.actions = [], [], []

    def reset(self, seed):
        self.seeds.append(seed)
        self.place = np.array([[column, 0, 0] for column in range(self.num_envs)])
        self.over = np.zeros(self.num_envs, bool)
        self.transitions = [[] for _ in range(self.num_envs)]
        self.rows = [[None] for _ in range(self.num_envs)]
        self.row_obs = [[tuple(map(float, place))] for place in self.place]
        self.obs = self.place.astype(np.float32)
        return self.obs

    @property
    def episode_start(self):
        return self.place[:, 2] == 0

    def step(self, action):
        self.actions.append(action)
        columns, before = range(self.num_envs), self.place.copy()
        reward = np.zeros(self.num_envs, np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        valid = ~self.over
        for i in columns:
            if self.over[i]:
                self.place[i] += [0, 1, 0]
                self.place[i, 2], reward[i] = 0, np.nan
                continue
            _, episode, time = before[i]
            secret = self.script[i, episode]
            self.place[i, 2] += 1
            reward[i] = 100 * i + 10 * (episode % 7) + time + 1
            if time + 1 >= 1 + secret % self.longest:
                kind = secret // self.longest % 3
                terminated[i], truncated[i] = kind != 1, kind != 0  # kind 2 sets both: termination wins
        over = terminated | truncated
        next_obs = self.place.astype(np.float32)
        for i in np.flatnonzero(valid):
            self.transitions[i].append(
                {
                    "obs": tuple(map(float, before[i])),
                    "action": np.asarray(action[i]).tolist(),
                    "reward": float(reward[i]),
                    "terminated": bool(terminated[i]),
                    "over": bool(over[i]),
                    "next_obs": tuple(map(float, next_obs[i])),
                }
            )
        for i in columns:
            self.rows[i][-1] = len(self.transitions[i]) - 1 if valid[i] else None
            self.rows[i].append(None)
            self.row_obs[i].append(tuple(map(float, next_obs[i])))
        if self.style == "next_step":
            self.over, self.obs = over, next_obs
            return Step(next_obs, reward, terminated, truncated, valid, next_obs)
        self.obs = next_obs.copy()
        for i in np.flatnonzero(over):
            self.place[i] += [0, 1, 0]
            self.place[i, 2] = 0
            self.obs[i] = self.place[i]
            self.rows[i].append(None)
            self.row_obs[i].append(tuple(map(float, self.obs[i])))
        return Step(next_obs, reward, terminated, truncated, valid, self.obs, over if over.any() else None)

    def pop_episodes(self):
        return []

    def state(self):
        return None

    def obstacle(self):
        return "it is scripted"

    def expected(self, gamma, n_step=1, rows=None):
        """The transitions of the last `rows` rows of each column, by observation: (action, reward, discount, next)."""
        found = {}
        for column, transitions in zip(self.rows, self.transitions, strict=True):
            for start in column if rows is None else column[-rows:]:
                if start is None:
                    continue
                window = [transitions[start]]
                while len(window) < n_step and not window[-1]["over"] and start + len(window) < len(transitions):
                    window.append(transitions[start + len(window)])
                reward = sum(gamma**i * item["reward"] for i, item in enumerate(window))
                discount = 0.0 if window[-1]["terminated"] else gamma ** len(window)
                found[window[0]["obs"]] = (window[0]["action"], reward, discount, window[-1]["next_obs"])
        return found


def random_actions(spec, columns, rng):
    if spec.discrete:
        return rng.integers(spec.actions, size=columns)
    return rng.uniform(-1, 1, (columns, spec.actions)).astype(np.float32)


def drive(env, buffer, steps, seed=0):
    """Random actions into the buffer; begins if the environment has not yet been reset."""
    rng = np.random.default_rng(seed)
    if env.obs is None:
        buffer.begin(env.reset(0))
    for _ in range(steps):
        action = random_actions(env.spec, env.num_envs, rng)
        buffer.add(action, env.step(action))


def small_agent(name, seed=0, **settings):
    """An agent with small networks, for the first spec that it can handle."""
    kind = agent_class(name)
    small = {"hidden": [16, 16], "batch_size": 8, "learning_rate": 1e-2}
    if isinstance(kind.config, RolloutConfig):
        small |= {"rollout_length": 16, "epochs": 2}
    else:
        small |= {"start": 10, "buffer_size": 200, "update_ratio": min(kind.config.update_ratio, 2.0)}
    if hasattr(kind.config, "critic_hidden"):
        small |= {"critic_hidden": []}
    config = kind.config.override(small | settings)
    torch.manual_seed(seed)
    try:
        return kind(CONTINUOUS, config, seed=seed)
    except UnsupportedSpace:
        return kind(DISCRETE, config, seed=seed)


def trained(agent, steps=60, columns=2, **options):
    """The agent after so many steps in a scripted environment; its buffer and environment stay with it."""
    if agent.env is None:
        agent.env = Scripted(columns, spec=agent.spec, **options)
        agent.buffer = agent.make_buffer(columns)
    run(agent, agent.buffer, agent.env, until=agent.steps + steps)
    return agent


@pytest.fixture(autouse=True)
def _one_thread_one_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(name="scripted")
def scripted_class():
    return Scripted


@pytest.fixture(name="drive")
def drive_function():
    return drive


@pytest.fixture(name="small_agent")
def small_agent_function():
    return small_agent


@pytest.fixture(name="trained")
def trained_function():
    return trained


@pytest.fixture
def continuous():
    return CONTINUOUS


@pytest.fixture
def discrete():
    return DISCRETE
