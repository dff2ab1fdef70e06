"""Views of a data set by hand: what is set aside, what is kept, how often it is drawn, what learners make of it."""

from __future__ import annotations

import copy
import hashlib

import bellmark
import h5py
import numpy as np
import pytest
import torch
from bellmark.agents.core import checkpoint
from bellmark.agents.core.errors import InvalidData, InvalidSetting
from bellmark.offline.dataset import Options, dataset
from bellmark.offline.returns import ReturnsToGo
from bellmark.offline.trajectories import best_episodes, select, trajectories
from bellmark.offline.weighting import Weighted, episode_weights

LENGTHS, RETURNS = (4, 2, 3, 5, 1, 2), (1.0, 6.0, 3.0, 2.0, 5.0, 4.0)


@pytest.fixture
def path(tmp_path):
    """Six episodes, rewarded in the last step, begun at 2 x their return; episodes 1 and 4 terminate."""
    count = sum(LENGTHS)
    last = np.cumsum(LENGTHS) - 1
    reward, obs = np.zeros(count, np.float32), np.zeros((count, 2), np.float32)
    reward[last] = RETURNS
    obs[:, 1] = np.arange(count)
    obs[last - np.array(LENGTHS) + 1, 0] = 2 * np.array(RETURNS)
    with h5py.File(tmp_path / "mine.hdf5", "w") as file:
        file["observations"], file["rewards"] = obs, reward
        file["next_observations"] = np.concatenate([obs[1:], obs[:1]])
        file["actions"] = np.linspace(-1, 1, count, dtype=np.float32)[:, None]
        file["terminals"] = np.isin(np.arange(count), last[[1, 4]])
        file["timeouts"] = np.isin(np.arange(count), last[[0, 2, 3, 5]])
    return tmp_path / "mine.hdf5"


def rows_of(buffer):
    """The numbers in the file of all transitions of a view."""
    return buffer.observations(buffer.valid_index())[:, 1].int().tolist()


def rows_of_episodes(numbers):
    first = np.cumsum(LENGTHS) - LENGTHS
    return [first[i] + t for i in numbers for t in range(LENGTHS[i])]


@pytest.mark.parametrize(("share", "aside"), [(0.5, 3), (0.2, 1), (0.01, 1)])
def test_split_is_disjoint_and_complete_by_episode(path, share, aside):
    whole, data = dataset(path), dataset(path, validation=share, split_seed=3)
    one, other = rows_of(data.buffer), rows_of(data.validation)
    assert sorted(one + other) == rows_of(whole.buffer) == list(range(sum(LENGTHS)))
    chosen = [i for i in range(6) if rows_of_episodes([i])[0] in other]
    assert len(chosen) == aside and other == rows_of_episodes(chosen)
    assert data.split["validation_episodes"] == aside and data.split["validation_transitions"] == len(other)
    assert (data.describe()["split"], data.describe()["options"]["split_seed"]) == (data.split, 3)
    assert data.buffer.obs.data_ptr() == data.validation.obs.data_ptr(), "views of one array"
    for buffer in (data.buffer, data.validation):
        drawn = buffer.sample(300, 0.9).obs[:, 1].int().tolist()
        assert set(drawn) == set(rows_of(buffer))


def test_split_depends_on_its_seed_only(path):
    found = {seed: rows_of(dataset(path, validation=0.5, split_seed=seed).validation) for seed in range(6)}
    assert found[2] == rows_of(dataset(path, validation=0.5, split_seed=2, reward_shift=-1.0).validation)
    assert len({tuple(rows) for rows in found.values()}) > 1
    with pytest.raises(InvalidData, match="all 6 episodes would be set aside"):
        dataset(path, validation=0.99)


def test_windows_of_a_view_do_not_leave_it(path):
    """Batches of three steps in the episodes kept are the same as in the whole data."""
    whole, data = dataset(path).buffer, dataset(path, top_episodes=0.5).buffer
    index = data.valid_index()
    for one, other in zip(data.gather(index, 0.9, 3), whole.gather(index, 0.9, 3), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(("share", "kept"), [(0.01, [1]), (0.34, [1, 4]), (0.5, [1, 4, 5]), (0.99, [1, 2, 3, 4, 5])])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_top_episodes_by_enumeration(path, share, kept, shift):
    """A shift of rewards, which makes long episodes worse, does not change which episodes are best."""
    data = dataset(path, top_episodes=share, reward_shift=shift)
    assert rows_of(data.buffer) == rows_of_episodes(kept)
    assert data.split["left_out_episodes"] == 6 - len(kept)
    assert data.describe()["transitions"] == len(rows_of_episodes(kept))
    assert data.describe()["terminated"] == len({1, 4} & set(kept))


def test_weights_of_returns_by_enumeration(path):
    """P(row of e) = exp(g_e / alpha) / sum_f T_f exp(g_f / alpha), g = (G - 1) / 5 for returns from 1 to 6."""
    data = dataset(path, weighting="return", weighting_temperature=0.5)
    weight = np.exp((np.array(RETURNS) - 1) / 5 / 0.5)
    expected = np.repeat(weight / (weight * LENGTHS).sum(), LENGTHS)
    sampler = data.buffer.sampler
    assert isinstance(sampler, Weighted) and rows_of(data.buffer) == list(range(17))
    probability = np.diff(sampler.cumulative.numpy(), prepend=0.0)
    np.testing.assert_allclose(probability, expected, rtol=1e-12)
    torch.manual_seed(0)
    drawn = np.bincount(data.buffer.sample(200_000, 0.9).obs[:, 1].int().numpy(), minlength=17) / 200_000
    np.testing.assert_allclose(drawn, expected, atol=5 * np.sqrt(expected.max() / 200_000))


def test_weights_of_advantages():
    """On first observations (0, 1, 2, 3) the line through returns (1, 2, 2, 5) is 0.7 + 1.2 s: residuals by hand."""
    obs = np.arange(4.0)[:, None]
    advantage = np.array([0.3, 0.1, -1.1, 0.7])
    expected = np.exp((advantage - 0.7) / 1.8 / 0.1)
    found = episode_weights(np.array([1.0, 2.0, 2.0, 5.0]), obs, "advantage", 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert episode_weights(np.array([1.0, 2.2, 3.4, 4.6]), obs, "advantage", 0.1).tolist() == [1, 1, 1, 1]
    assert episode_weights(np.full(4, 7.0), obs, "return", 0.1).tolist() == [1, 1, 1, 1]
    small = episode_weights(np.array([0.0, 1.0]), obs[:2], "return", 1e-4)
    assert small.tolist() == [0.0, 1.0], "no overflow"


def test_rows_of_weight_0_are_never_drawn():
    sampler = Weighted(torch.arange(5), torch.tensor([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert set(sampler.draw(None, 10_000).tolist()) == {1, 3}


def test_returns_to_go_and_next_actions_by_hand(path):
    data = dataset(path)
    index = data.buffer.valid_index()
    expected = [
        0.5 ** (length - 1 - t) * value for length, value in zip(LENGTHS, RETURNS, strict=True) for t in range(length)
    ]
    np.testing.assert_allclose(data.returns_to_go(0.5)[index], expected, rtol=1e-6)
    np.testing.assert_allclose(data.returns_to_go()[index], np.repeat(RETURNS, LENGTHS), rtol=1e-6)
    action, known = data.buffer.next_action(index)
    last = np.cumsum(LENGTHS) - 1
    assert known.tolist() == [float(row not in last) for row in range(17)]
    inside = torch.as_tensor(~np.isin(np.arange(17), last))
    assert torch.equal(action[inside], data.buffer.action.flatten(0, 1)[index][1:][inside[:-1]])


def test_antmaze_shift(path):
    data = dataset(path, reward_shift=-1.0)
    rewards = dataset(path).buffer.reward[data.buffer.valid] - 1
    assert torch.equal(data.buffer.reward[data.buffer.valid], rewards)
    assert data.episode_returns.tolist() == list(RETURNS) and data.describe()["options"]["reward_shift"] == -1.0


def test_a_view_learns_on_and_goes_online_with_what_it_shows(path):
    """After `fit` the replay buffer starts with the kept episodes only, drawn uniformly."""
    data = dataset(path, top_episodes=0.5, weighting="return")
    agent = bellmark.make("td3_bc", data, seed=0, hidden=(4,), batch_size=8)
    agent.fit(data, updates=2)
    online = agent.buffer.spread(10, 1)
    assert sorted(online.observations(online.valid_index())[:, 1].int().tolist()) == rows_of_episodes([1, 4, 5])
    assert type(online.sampler).__name__ == "Sampler"
    with pytest.raises(InvalidSetting, match="replay='prioritized' does not know the data's weighting"):
        bellmark.make("td3_bc", data, hidden=(4,), replay="prioritized").fit(data, updates=1)


@pytest.mark.parametrize("replay", ["uniform", "reshuffled"])
def test_another_view_of_the_same_data_is_another_data_set(path, replay):
    data = dataset(path, validation=0.5)
    agent = bellmark.make("td3_bc", data, seed=0, hidden=(4,), batch_size=8, replay=replay)
    agent.fit(data, updates=1)
    first = agent.buffer
    agent.fit(data, updates=1)
    assert agent.buffer is first, "it goes on with what it knows of the rows"
    for view in (data.validation, best_episodes(data.buffer, 0.4), data.buffer):
        agent.fit(view, updates=1)
        assert rows_of(agent.buffer) == rows_of(view)
        (batch,) = agent.sample(agent.buffer)
        assert set(batch.row.tolist()) <= set(view.valid_index().tolist())


def test_a_checkpoint_names_the_data(path, tmp_path):
    data = dataset(path, reward_scale=0.5)
    agent = bellmark.make("td3_bc", data, seed=0, hidden=(4,), batch_size=8)
    agent.fit(data.buffer, updates=1)
    assert agent.learnt_from == (), "a buffer has no name"
    agent.fit(data, updates=1)
    agent.save(tmp_path / "a.bell")
    other = bellmark.load(tmp_path / "a.bell")
    (known,) = other.learnt_from
    assert (known["id"], known["sha256"]) == ("mine", hashlib.sha256(path.read_bytes()).hexdigest())
    assert Options(**known["options"]) == data.options
    other.fit(data, updates=1)
    assert other.learnt_from == copy.deepcopy(agent).learnt_from == (known,), "the same data are named once"
    other.fit(dataset(path), updates=1)
    other.save(tmp_path / "b.bell")
    scales = [known["options"]["reward_scale"] for known in checkpoint.read(tmp_path / "b.bell")[0]["data"]]
    assert scales == [0.5, 1.0]


def test_returns_to_go_of_another_view_are_its_own(path):
    data, returns = dataset(path, validation=0.5), ReturnsToGo(0.5)
    for view in (data.buffer, data.validation, data.buffer):
        returns.agree(view)
        fresh = ReturnsToGo(0.5)
        fresh.agree(view)
        assert torch.equal(returns.column, fresh.column)


def test_select_is_a_data_set_of_its_own(path):
    whole = dataset(path).buffer
    found = trajectories(whole)
    view = select(whole, found.transitions(np.array([0, 3])))
    kept = trajectories(view)
    assert (kept.lengths.tolist(), kept.returns.tolist(), view.transitions) == ([4, 5], [1, 2], 9)
    assert whole.transitions == 17 and whole.valid.sum() == 17, "the whole is as it was"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("validation", 1.0),
        ("top_episodes", 0.0),
        ("weighting", "best"),
        ("weighting_temperature", 0.0),
        ("split_seed", -1),
    ],
)
def test_options_out_of_range(path, option, value):
    with pytest.raises(InvalidSetting, match=f"the option {option} = "):
        dataset(path, **{option: value})
