"""Learning that goes on online: rewards of the environment are changed as those of the data were."""

from __future__ import annotations

import bellmark
import h5py
import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.errors import InvalidCheckpoint, InvalidSetting
from bellmark.offline.dataset import dataset
from checks import make, random_data
from helpers import filled_buffer, spec_of

OPTIONS = {"reward_scale": 2.0, "reward_shift": -1, "scale_returns": True}
FACTOR = 2.0 * 1000.0 / 4.0


@pytest.fixture
def path(tmp_path):
    """Two episodes of three steps with the returns 1 and 5."""
    with h5py.File(tmp_path / "mine.hdf5", "w") as file:
        file["observations"] = np.arange(6, dtype=np.float32)[:, None]
        file["actions"] = np.zeros((6, 1), np.float32)
        file["rewards"] = np.array([0, 0, 1, 0, 0, 5], np.float32)
        file["terminals"] = np.array([0, 0, 1, 0, 0, 1], bool)
    return tmp_path / "mine.hdf5"


def added(buffer, reward):
    """What the buffer holds of one more transition, with that reward from the environment."""
    obs, flag = np.zeros((buffer.columns, 1), np.float32), np.zeros(buffer.columns, bool)
    buffer.begin(obs)
    head = buffer.head
    rewards = np.full(buffer.columns, reward, np.float32)
    buffer.add(np.zeros((buffer.columns, 1), np.float32), Step(obs, rewards, flag, flag, ~flag, obs))
    return buffer.reward[torch.as_tensor(head), torch.arange(buffer.columns)].tolist()


@pytest.mark.parametrize("more", [{}, {"memory_map": True}, {"top_episodes": 0.5}, {"weighting": "return"}])
def test_new_rewards_are_changed_as_those_of_the_data(path, more):
    buffer = dataset(path, **OPTIONS, **more).buffer
    assert buffer.reward[buffer.valid].max() == 5 * FACTOR - 1
    online = buffer.spread(10, 2)
    assert added(online, 3.0) == [3 * FACTOR - 1] * 2
    assert added(online.spread(10, 1), 3.0) == [3 * FACTOR - 1], "with another number of environments as well"
    assert added(dataset(path).buffer.spread(10, 2), 3.0) == [3.0] * 2


def test_the_change_is_saved(path):
    online, other = dataset(path, **OPTIONS).buffer.spread(10, 2), dataset(path).buffer.spread(10, 2)
    tensors, values = online.state()
    other.load_state(tensors, values)
    assert added(other, 3.0) == [3 * FACTOR - 1] * 2
    for bad in ([1.0], [1.0, float("nan")], [1, 0], "ab", {"a": 1.0, "b": 0.0}):
        with pytest.raises(InvalidCheckpoint, match="contradicts itself"):
            other.load_state(tensors, values | {"reward_change": bad})
    del values["reward_change"]  # as in a checkpoint of an older version
    other.load_state(tensors, values)
    assert added(other, 3.0) == [3.0] * 2


def test_from_data_to_an_environment():
    """Two agents that act alike have rewards 2 r - 1 and r of the same steps."""
    found = []
    for change in ((2.0, -1.0), (1.0, 0.0)):
        env = make("bellmark/ChooseSign-v0", 2, continuous=True)
        data = random_data(env, 20)
        data.reward.fill_(50.0)
        data.reward_change = change
        agent = bellmark.make("td3_bc", env, seed=0, hidden=(4,), start=1000)
        agent.fit(data, updates=0)
        agent.learn(40)
        reward = agent.buffer.reward[agent.buffer.valid]
        found.append(reward[reward != 50.0])
    assert len(found[0]) > 10 and len(found[1].unique()) > 1
    torch.testing.assert_close(found[0], 2 * found[1] - 1)


def test_agents_that_are_told_rewards_refuse_changed_ones(path):
    agent = bellmark.make("decision_transformer", dataset(path), hidden=(4,), batch_size=2)
    with pytest.raises(InvalidSetting, match="leave those of the data unchanged"):
        agent.fit(dataset(path, reward_shift=-1.0), updates=1)
    agent.fit(dataset(path), updates=1)


def test_weighted_draws_are_kept_or_refused():
    """The Decision Transformer's windows begin where the data's weights say; top_bc chooses for itself."""
    from bellmark.offline.weighting import Weighted
    from helpers import build

    whole = filled_buffer(spec_of(True))
    index = whole.valid_index()
    data = whole.view(Weighted(index, (torch.arange(len(index)) == 7).float()))
    agent = build("decision_transformer", True, normalize_obs=False, batch_size=8)
    agent.fit(data, updates=1)
    (batch,) = agent.sample(agent.buffer)
    assert torch.equal(batch.obs[:, 0], whole.observations(index[7]).expand(8, -1))
    with pytest.raises(InvalidSetting, match="leave weighting out, or take bc"):
        build("top_bc", True).fit(data, updates=1)
