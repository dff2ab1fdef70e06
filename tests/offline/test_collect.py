"""Collections: the transitions of an environment whose every step is known, resumed, read back, put back."""

from __future__ import annotations

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.loop import online_buffer
from bellmark.envs import make
from bellmark.offline import collect, d4rl
from bellmark.offline.behaviour import Uniform
from bellmark.offline.collect import Collection, Source, record, remembered, third
from bellmark.offline.dataset import dataset
from bellmark.offline.writing import columns_of, write_d4rl
from helpers import build

COLUMNS = ["observations", "actions", "rewards", "terminals", "timeouts", "next_observations"]


class Counting(gymnasium.Env):
    """Counts its steps, beside a random number of the episode; odd numbers end at 5, all are cut off at 7."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2.0, 4.0, (1,), np.float32)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.time = int(self.np_random.integers(1000)), 0
        return np.array([self.number, 0], np.float32), {}

    def step(self, action):
        self.time += 1
        reward = float(action[0]) + self.time
        terminated = self.number % 2 == 1 and self.time == 5
        return np.array([self.number, self.time], np.float32), reward, terminated, self.time == 7, {}


def counting(num_envs=3, autoreset=None):
    return make(Counting, num_envs, autoreset=autoreset)


def check(columns):
    """Every row is what that environment does, and episodes are whole."""
    obs, action, reward, terminal, timeout, next_obs = (columns[name] for name in COLUMNS)
    assert (next_obs[:, 0] == obs[:, 0]).all() and (next_obs[:, 1] == obs[:, 1] + 1).all()
    np.testing.assert_allclose(reward, action[:, 0] + next_obs[:, 1], atol=1e-5)
    assert (terminal == ((obs[:, 0] % 2 == 1) & (next_obs[:, 1] == 5))).all()
    assert (timeout == (next_obs[:, 1] == 7)).all()
    ended = terminal | timeout
    assert ended[-1] and obs[0, 1] == 0
    assert (obs[1:, 1] == np.where(ended[:-1], 0, next_obs[:-1, 1])).all()
    assert terminal.any() and timeout.any()
    assert np.abs(action - 1.0).max() <= 3.0 and action.std() > 1.0


@pytest.mark.parametrize("autoreset", ["next_step", "same_step", "disabled"])
def test_whole_episodes_without_reset_rows_in_every_autoreset_mode(autoreset):
    with counting(autoreset=autoreset) as env:
        columns = record(Uniform(env.spec), env, 1, transitions=100)
        check(columns)
        assert 100 <= len(columns["rewards"]) < 100 + 3 * 8
        episodes = record(Uniform(env.spec), env, 1, episodes=9)
        assert (episodes["terminals"] | episodes["timeouts"]).sum() == 9
        np.testing.assert_allclose(columns["infos/action_log_probs"], -np.log(2.0))


def test_a_lost_episode_is_left_out():
    class Losing(Counting):
        def step(self, action):
            obs, *rest = super().step(action)
            return (obs * np.nan if self.number % 3 == 0 and self.time == 4 else obs, *rest)

    with make(Losing, 2) as env:
        env.non_finite = "skip"
        columns = record(Uniform(env.spec), env, 0, transitions=150)
    check(columns)
    assert (columns["observations"][:, 0] % 3 != 0).all() and len(columns["rewards"]) >= 150


def test_the_random_state_is_left_alone_and_the_seed_decides():
    with counting() as env:
        before = torch.get_rng_state()
        one, same, other = (record(Uniform(env.spec), env, seed, transitions=30) for seed in (1, 1, 2))
        assert torch.equal(before, torch.get_rng_state())
    assert all((one[name] == same[name]).all() for name in one)
    assert one["actions"][:10].tolist() != other["actions"][:10].tolist()


def collection(path, spec, **changes):
    sources = [Source("a", Uniform(spec), 50), Source("b", Uniform(spec), 70)]
    return Collection(path, sources, **({"seed": 3, "part": 25, "facts": {"env": "Counting"}} | changes))


def read(path):
    with h5py.File(path) as file:
        return columns_of(file)


def test_a_killed_collection_goes_on_to_the_same_file(tmp_path, monkeypatch):
    with counting() as env:
        whole = collection(tmp_path / "whole.hdf5", env.spec)
        whole.run(env, False)
        whole.finish({"environment": "Counting"})

        def stop(done, of):
            if done == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            collection(tmp_path / "killed.hdf5", env.spec).run(env, False, stop)
        assert not (tmp_path / "killed.hdf5").exists()
        calls = []
        monkeypatch.setattr(collect, "record", lambda *a, **k: calls.append(1) or record(*a, **k))
        again = collection(tmp_path / "killed.hdf5", env.spec)
        again.run(env, False)
        assert len(calls) == 5 - 3
        again.finish({"environment": "Counting"})
        one, other = read(tmp_path / "whole.hdf5"), read(tmp_path / "killed.hdf5")
        assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
        assert not again.folder.exists()
        check(one)
        assert len(one["rewards"]) >= 120 and len(np.unique(one["observations"][:, 0])) > 15
        with pytest.raises(InvalidSetting, match="exists"):
            collection(tmp_path / "whole.hdf5", env.spec)


def test_parts_of_another_collection_are_refused(tmp_path):
    with counting() as env:
        collection(tmp_path / "x.hdf5", env.spec)
        collection(tmp_path / "x.hdf5", env.spec)
        for changes in ({"seed": 4}, {"part": 26}, {"facts": {"env": "Other"}}):
            with pytest.raises(InvalidSetting, match="another collection"):
                collection(tmp_path / "x.hdf5", env.spec, **changes)


def test_what_was_written_is_read_back_as_the_same_transitions(tmp_path):
    gymnasium.register("Counting-v0", Counting)
    with counting() as env:
        columns = record(Uniform(env.spec), env, 5, transitions=60)
    write_d4rl(tmp_path / "c.hdf5", [columns], {"environment": "Counting-v0", "seed": 5})
    data = dataset(tmp_path / "c.hdf5")
    count = len(columns["rewards"])
    assert (data.recorded, data.buffer.transitions, data.metadata["seed"]) == (count, count, 5)
    batch = data.buffer.gather(data.buffer.valid_index(), 1.0)
    for found, name in ((batch.obs, COLUMNS[0]), (batch.reward, COLUMNS[2]), (batch.next_obs, COLUMNS[5])):
        np.testing.assert_array_equal(found.numpy(), columns[name])
    np.testing.assert_allclose(batch.action, (columns["actions"] - 1.0) / 3.0, atol=1e-6)
    np.testing.assert_array_equal(batch.discount == 0, columns["terminals"])
    recording = d4rl.read(tmp_path / "c.hdf5")
    np.testing.assert_array_equal(recording.action, columns["actions"])
    np.testing.assert_array_equal(recording.truncated, columns["timeouts"])
    assert len(data.episode_returns) == (columns["terminals"] | columns["timeouts"]).sum()


def test_a_simulation_put_back_to_qpos_and_qvel_steps_to_the_recorded_successor():
    with make("Hopper-v4", 2) as env:
        columns = record(Uniform(env.spec), env, 0, transitions=40)
    single = gymnasium.make("Hopper-v4").unwrapped
    single.reset(seed=0)
    for row in (0, 7, len(columns["rewards"]) - 1):
        single.set_state(columns["infos/qpos"][row], columns["infos/qvel"][row])
        obs, reward, terminated, _, _ = single.step(columns["actions"][row])
        np.testing.assert_allclose(obs, columns["next_observations"][row], atol=1e-5)
        assert (reward, terminated) == (pytest.approx(columns["rewards"][row], abs=1e-4), columns["terminals"][row])


def test_a_replay_buffer_is_written_in_time_order_with_its_gaps_as_timeouts():
    with counting(2) as env:
        agent = build("td3", False, spec=env.spec, buffer_size=64, start=1000)
        agent.env = env
        agent.learn(400)
        assert online_buffer(agent, 2).rows < 40
        parts = [*remembered(agent)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    obs, next_obs = columns["observations"], columns["next_observations"]
    assert (next_obs[:, 1] == obs[:, 1] + 1).all() and len(obs) == agent.buffer.transitions
    np.testing.assert_allclose(columns["rewards"], columns["actions"][:, 0] + next_obs[:, 1], atol=1e-5)
    ended = columns["terminals"] | columns["timeouts"]
    assert ended[-1] and (obs[1:][~ended[:-1]] == next_obs[:-1][~ended[:-1]]).all()


def test_a_replay_buffer_gives_back_the_rewards_of_the_environment():
    """Those of an agent that went on online with the changed rewards of its data are changed back."""
    with counting(2) as env:
        agent = build("td3", False, spec=env.spec, buffer_size=64, start=1000)
        agent.env, agent.buffer = env, online_buffer(agent, 2)
        agent.buffer.reward_change = (0.1, -1.0)
        agent.learn(60)
        (part,) = remembered(agent)
        assert agent.buffer.reward[agent.buffer.valid].max() < 1.0
        agent.buffer.reward_change = (0.0, -1.0)
        with pytest.raises(InvalidSetting, match="rewards times 0"):
            next(remembered(agent))
    np.testing.assert_allclose(part["rewards"], part["actions"][:, 0] + part["next_observations"][:, 1], atol=1e-4)
    assert part["rewards"].dtype == np.float32


def test_medium_is_nearest_to_a_third_of_the_way_from_random_to_the_expert():
    assert third([0.0, 900.0, 1100.0, 3000.0], expert=3000.0, random=0.0) == 1
    assert third([-1200.0, -900.0, -200.0], expert=-150.0, random=-1250.0) == 1
