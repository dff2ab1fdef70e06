"""Data files: exact transitions from hand-made files, a slow oracle, and what is done to rewards and actions."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from bellmark.agents.core.errors import InvalidData, InvalidSetting, UnknownName
from bellmark.offline import d4rl
from bellmark.offline.card import card
from bellmark.offline.dataset import Dataset, Options, dataset
from bellmark.offline.sources import env_keywords


def write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file[key] = values
    return path


def recording(terminals: list[int], timeouts: list[int], rows: int, successors: bool = True) -> dict[str, np.ndarray]:
    """Observation 10 k + t in step t of episode k, its final one negative; action 0.01 x row, reward = row + 1."""
    obs, final = np.zeros((rows, 2), np.float32), np.zeros((rows, 2), np.float32)
    episode = step = 0
    for row in range(rows):
        obs[row] = (10 * episode + step, 1)
        ended = row in terminals or row in timeouts
        final[row] = (-10 * episode - step - 1 if ended or row == rows - 1 else 10 * episode + step + 1, 1)
        episode, step = (episode + 1, 0) if ended else (episode, step + 1)
    columns = {
        "observations": obs,
        "actions": (0.01 * np.arange(rows, dtype=np.float32))[:, None],
        "rewards": np.arange(1, rows + 1, dtype=np.float32),
        "terminals": np.isin(np.arange(rows), terminals),
        "timeouts": np.isin(np.arange(rows), timeouts),
    }
    return {**columns, "next_observations": final} if successors else columns


def transitions(data: Dataset) -> list[tuple[float, float, float, float, float]]:
    """(observation, action, reward, discount, next observation) of every valid row in time order, with gamma 0.5."""
    index = data.buffer.valid.flatten().nonzero().flatten()
    batch = data.buffer.gather(index, gamma=0.5)
    columns = (batch.obs[:, 0], batch.action[:, 0], batch.reward, batch.discount, batch.next_obs[:, 0])
    return [tuple(round(v, 5) for v in row) for row in torch.stack(columns, 1).tolist()]


# Row 2 ends by a terminal, row 5 by a timeout, row 6 by both at once, rows 7 and 8 are an unfinished tail.
HAND = {"terminals": [2, 6], "timeouts": [5, 6], "rows": 9}


def test_hand_made_file_with_successors_keeps_every_transition(tmp_path):
    data = dataset(write(tmp_path / "mine.hdf5", recording(**HAND)))
    assert transitions(data) == [
        (0, 0.00, 1, 0.5, 1),
        (1, 0.01, 2, 0.5, 2),
        (2, 0.02, 3, 0.0, -3),
        (10, 0.03, 4, 0.5, 11),
        (11, 0.04, 5, 0.5, 12),
        (12, 0.05, 6, 0.5, -13),
        (20, 0.06, 7, 0.0, -21),
        (30, 0.07, 8, 0.5, 31),
        (31, 0.08, 9, 0.5, -32),
    ]
    assert data.episode_returns.tolist() == [6.0, 15.0, 7.0]
    assert data.episode_lengths.tolist() == [3, 3, 1]
    assert (data.recorded, data.buffer.transitions, data.episodes.unfinished) == (9, 9, 2)
    assert data.boundaries == "terminals and timeouts"


@pytest.mark.parametrize("successors", [True, False])
@pytest.mark.parametrize("options", [{}, {"memory_map": True}])
def test_an_unfinished_tail_is_no_cut_off_episode(tmp_path, successors, options):
    data = dataset(write(tmp_path / "mine.hdf5", recording(**HAND, successors=successors)), **options)
    known = data.returns_to_go()[data.buffer.valid.flatten()].tolist()
    assert known == ([6, 5, 3, 15, 11, 6, 7] if successors else [6, 5, 3, 9, 5, 7]) + [-np.inf] * (1 + successors)
    assert card(data)["ends"] == {"terminated": 2, "truncated": 1, "left_off": 1}
    columns = recording(**HAND, successors=successors) | {"timeouts": np.isin(np.arange(9), [5, 6, 8])}
    ended = dataset(write(tmp_path / "ended.hdf5", columns), **options)
    assert ended.returns_to_go()[ended.buffer.valid.flatten()].isfinite().all()
    assert card(ended)["ends"] == {"terminated": 2, "truncated": 2, "left_off": 0}
    assert transitions(ended) == transitions(data)


def test_hand_made_file_without_successors_drops_the_last_transition_of_cut_off_episodes(tmp_path):
    data = dataset(write(tmp_path / "mine.hdf5", recording(**HAND, successors=False)))
    kept = transitions(data)
    assert [row[:4] for row in kept] == [
        (0, 0.00, 1, 0.5),
        (1, 0.01, 2, 0.5),
        (2, 0.02, 3, 0.0),
        (10, 0.03, 4, 0.5),
        (11, 0.04, 5, 0.5),
        (20, 0.06, 7, 0.0),
        (30, 0.07, 8, 0.5),
    ]
    assert [row[4] for row in kept if row[3]] == [1, 2, 11, 12, 31]
    assert data.episode_returns.tolist() == [6.0, 15.0, 7.0]
    assert (data.recorded, data.buffer.transitions) == (9, 7)


def oracle(columns: dict[str, np.ndarray], horizon: int = 0) -> list[tuple[float, float, float, float, float | None]]:
    """The same by a plain loop over rows, from the words of the schema; None for a successor that has no value."""
    count, since, found = len(columns["rewards"]), 0, []
    for row in range(count):
        obs, action, reward = columns["observations"][row, 0], columns["actions"][row, 0], columns["rewards"][row]
        terminal, since = bool(columns["terminals"][row]), since + 1
        timeout = bool(columns["timeouts"][row]) if "timeouts" in columns else since == horizon
        if "next_observations" in columns:
            after = float(columns["next_observations"][row, 0])
        elif terminal or timeout or row == count - 1:
            after = None
        else:
            after = float(columns["observations"][row + 1, 0])
        if terminal or after is not None:
            value = (float(obs), float(action), float(reward), 0.0 if terminal else 0.5)
            found.append((*(round(v, 5) for v in value), None if terminal else round(after, 5)))
        since = 0 if terminal or timeout else since
    return found


@pytest.mark.parametrize("keys", ["timeouts next_observations", "timeouts", "next_observations", "horizon"])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_slow_loop_on_random_boundaries(tmp_path, keys, seed):
    rng = np.random.default_rng(seed)
    rows = 300
    ends = np.flatnonzero(rng.random(rows) < 0.1)
    kinds = rng.integers(3, size=len(ends))
    columns = recording(ends[kinds != 1].tolist(), ends[kinds != 0].tolist(), rows)
    columns["observations"][:, 0] *= 0.1
    columns["next_observations"][:, 0] *= 0.1
    columns["actions"] = rng.uniform(-1, 1, (rows, 1)).astype(np.float32)
    horizon = 7 if keys == "horizon" else 0
    expected_from = {key: v for key, v in columns.items() if key in keys or key in d4rl.NEEDED}
    data = dataset(write(tmp_path / "mine.hdf5", expected_from), max_episode_steps=horizon)
    if keys == "next_observations":
        expected_from = columns  # the jumps of the observation are where the timeouts were
    found = [row if row[3] else (*row[:4], None) for row in transitions(data)]
    assert [row[0] for row in found] == pytest.approx([row[0] for row in oracle(expected_from, horizon)])
    for mine, theirs in zip(found, oracle(expected_from, horizon), strict=True):
        assert mine[:4] == pytest.approx(theirs[:4], abs=2e-5)
        assert (mine[4] is None) == (theirs[4] is None)
        assert theirs[4] is None or mine[4] == pytest.approx(theirs[4], abs=2e-5)


def test_a_jump_inside_a_declared_episode_ends_it_and_is_reported(tmp_path):
    columns = recording([2], [5], 9)
    columns["observations"][7:, 0] += 500
    columns["next_observations"][7:, 0] += 500
    data = dataset(write(tmp_path / "mine.hdf5", columns))
    assert transitions(data)[6] == (20, 0.06, 7, 0.5, 21)
    assert data.boundaries == "terminals and timeouts, and jumps of the observation (1)"
    assert data.episode_lengths.tolist() == [3, 3, 1]


def test_terminated_wins_where_both_are_set():
    both = np.array([False, True, True])
    truncated, how = d4rl.boundaries(np.array([False, True, False]), both, np.zeros((3, 1)), None)
    assert truncated.tolist() == [False, False, True] and how == "terminals and timeouts"


def test_rounding_is_no_jump(tmp_path):
    columns = recording([], [5], 9)
    columns["next_observations"][1] += 1e-6
    assert dataset(write(tmp_path / "mine.hdf5", columns)).episode_lengths.tolist() == [6]


def test_episodes_of_one_step(tmp_path):
    every = dataset(write(tmp_path / "every.hdf5", recording([0, 1, 3], [2], 4)))
    assert [row[3:] for row in transitions(every)] == [(0, -1), (0, -11), (0.5, -21), (0, -31)]
    without = dataset(write(tmp_path / "without.hdf5", recording([0, 1, 3], [2], 4, successors=False)))
    assert [row[0] for row in transitions(without)] == [0, 10, 30]


def test_reward_options_change_the_buffer_and_not_the_returns(tmp_path):
    path = write(tmp_path / "hopper-mine.hdf5", {**recording([1], [4], 5), "actions": np.zeros((5, 1), np.float32)})
    plain, shifted = dataset(path, env_id=""), dataset(path, env_id="", reward_scale=4.0, reward_shift=-2.0)
    assert [row[2] for row in transitions(shifted)] == [2, 6, 10, 14, 18]
    scaled = dataset(path, env_id="", scale_returns=True)  # returns 3 and 12: 1000 / 9
    assert scaled.reward_factor == pytest.approx(1000 / 9)
    assert [row[2] for row in transitions(scaled)] == pytest.approx([1000 / 9 * r for r in (1, 2, 3, 4, 5)], abs=1e-3)
    for data in (plain, shifted, scaled):
        assert data.episode_returns.tolist() == [3.0, 12.0]
    assert shifted.describe()["options"]["reward_shift"] == -2.0
    single = write(tmp_path / "single.hdf5", recording([4], [], 5))
    with pytest.raises(InvalidSetting, match="all its episodes have the same return"):
        dataset(single, scale_returns=True)


def test_one_dimensional_columns_and_choices(tmp_path):
    columns = recording([2], [5], 9)
    columns["actions"] = np.arange(9) % 3
    columns["rewards"] = columns["rewards"].astype(np.float64)[:, None]
    columns["terminals"] = columns["terminals"].astype(np.float32)[:, None]
    data = dataset(write(tmp_path / "mine.hdf5", columns))
    assert data.spec.discrete and data.spec.actions == 3
    valid = data.buffer.valid
    assert data.buffer.action[valid].tolist() == [0, 1, 2] * 3
    assert data.buffer.action.dtype == torch.int64
    with pytest.raises(InvalidData, match=r"has actions of choices, Pendulum-v1 has 1 dimensions"):
        dataset(write(tmp_path / "mine.hdf5", {**columns, **_pendulum(columns)}), env_id="Pendulum-v1")


def _pendulum(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: np.pad(columns[key], ((0, 0), (0, 1))) for key in ("observations", "next_observations")}


def test_actions_are_put_in_the_units_of_the_agent(tmp_path):
    columns = recording([2], [5], 9)
    columns = {**columns, **_pendulum(columns), "actions": np.linspace(-2, 2, 9, dtype=np.float32)[:, None]}
    path = write(tmp_path / "mine.hdf5", columns)
    data = dataset(path, env_id="Pendulum-v1")  # torques in [-2, 2]
    assert [row[1] for row in transitions(data)] == pytest.approx(np.linspace(-1, 1, 9), abs=1e-5)
    with pytest.raises(InvalidData, match=r"outside the bounds \[-1, 1\] of the data, worst in row 0 \(-2\).*clip_act"):
        dataset(path)
    assert dataset(path, clip_actions=True).buffer.action.abs().max() == 1
    columns["actions"] = np.linspace(-1.0005, 1.0005, 9, dtype=np.float32)[:, None]
    assert dataset(write(tmp_path / "mine.hdf5", columns)).buffer.action.abs().max() == 1  # rounding is clipped


def test_a_file_is_scored_by_the_environment_that_it_names(tmp_path):
    columns = {**recording([2], [5], 9), "metadata/environment": "Pendulum-v1, gymnasium 1.4.0", "metadata/seed": 3}
    columns.update(_pendulum(columns))
    data = dataset(write(tmp_path / "halfcheetah-mine.hdf5", columns))
    assert data.env_id == "Pendulum-v1" and data.env_kwargs == {}
    assert "not D4RL's environment (counterpart: HalfCheetah-v4)" in data.protocol
    assert data.metadata == {"environment": "Pendulum-v1, gymnasium 1.4.0", "seed": 3}


SETTINGS = {  # what a file says of its environment: the horizon that is taken over, and the keywords that are not
    "horizon": ('{"env_id": "Pendulum-v1", "kwargs": {"max_episode_steps": 50}}', 50, []),
    "other keywords": ('{"env_id": "Pendulum-v1", "kwargs": {"max_episode_steps": 50, "g": 1}}', 50, ["g"]),
    "no keywords": ('{"env_id": "Pendulum-v1", "kwargs": {}}', 0, []),
    "another environment": ('{"env_id": "Pendulum-v0", "kwargs": {"max_episode_steps": 50, "g": 1}}', 0, []),
    "0": ('{"env_id": "Pendulum-v1", "kwargs": {"max_episode_steps": 0}}', 0, ["max_episode_steps"]),
    "bool": ('{"env_id": "Pendulum-v1", "kwargs": {"max_episode_steps": true}}', 0, ["max_episode_steps"]),
    "text": ('{"env_id": "Pendulum-v1", "kwargs": {"max_episode_steps": "50"}}', 0, ["max_episode_steps"]),
    "no name": ('{"env_id": "Pendulum-v1", "kwargs": {"\\u001b[31m": 1}}', 0, []),
    "no table": ('{"env_id": "Pendulum-v1", "kwargs": [50]}', 0, []),
    "no settings": ("[1]", 0, []),
    "no JSON": ("{", 0, []),
    "number": (3, 0, []),
}


@pytest.mark.parametrize("case", SETTINGS)
def test_of_the_environment_of_a_collection_only_the_horizon_is_taken_over(tmp_path, case):
    stated, horizon, missing = SETTINGS[case]
    columns = recording([2], [5], 9)
    columns |= {**_pendulum(columns), "metadata/environment": "Pendulum-v1", "metadata/env_settings": stated}
    path = write(tmp_path / "mine.hdf5", columns)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        data = dataset(path)
    assert data.env_kwargs == ({"max_episode_steps": horizon} if horizon else {})
    assert data.missing_keywords == missing
    assert [f"with {', '.join(missing)}, which" in str(w.message) for w in warned] == [True] * bool(missing)
    assert dataset(path, env_id="").env_kwargs == {}


def test_a_horizon_of_the_data_goes_before_that_of_d4rl(tmp_path):
    columns = {"observations": np.zeros((9, 11), np.float32), "actions": np.zeros((9, 3), np.float32)}
    columns = recording([2], [5], 9, successors=False) | columns
    settings = '{"env_id": "Hopper-v4", "kwargs": {"max_episode_steps": 50}}'
    columns |= {"metadata/environment": "Hopper-v4", "metadata/env_settings": settings}
    data = dataset(write(tmp_path / "hopper-mine.hdf5", columns))
    assert data.env_kwargs == {"max_episode_steps": 50}
    assert "evaluation environment Hopper-v4, a horizon of 50, not D4RL's 1000, data" in data.protocol


def test_what_every_game_is_made_with_is_not_missing():
    game = {"env_id": "ALE/Pong-v5", "kwargs": {"sticky_actions": 0.25, "life_loss": True, "noops": 30}}
    assert env_keywords({"env_settings": json.dumps(game)}, "ALE/Pong-v5") == (0, ["noops"])
    game = {"env_id": "MinAtar/Breakout-v1", "kwargs": {"sticky_actions": 0.0, "difficulty_ramping": True}}
    assert env_keywords({"env_settings": json.dumps(game)}, "MinAtar/Breakout-v1") == (0, ["sticky_actions"])


def test_a_file_of_no_known_task_has_no_score_unless_one_is_stated(tmp_path):
    path = write(tmp_path / "mine.hdf5", recording([2], [5], 9))
    assert dataset(path).protocol.startswith("undiscounted return, not normalised, evaluation environment none, data")
    with pytest.raises(UnknownName, match=r"state one with task="):
        dataset(path).normalized([1.0])
    stated = dataset(path, task="hopper", env_id="")
    assert stated.normalized([-20.272305, 3234.3]) == pytest.approx([0, 100])
    assert stated.protocol.endswith("not D4RL's own data, reference returns stated by the user")


def test_an_environment_that_is_not_installed_is_done_without(tmp_path):
    path = write(tmp_path / "mine.hdf5", {**recording([2], [5], 9), "metadata/environment": "NoSuchTask-v1"})
    with pytest.warns(UserWarning, match="no evaluation on these data: NoSuchTask-v1 cannot be made"):
        data = dataset(path)
    assert data.env_id == "" and data.buffer.transitions == 9


def test_description_is_plain_json_and_complete(tmp_path):
    described = dataset(write(tmp_path / "mine.hdf5", recording(**HAND))).describe()
    assert json.loads(json.dumps(described)) == described
    assert described["transitions"] == 9 and described["terminated"] == 2 and described["mean_return"] == 28 / 3
    assert set(described["options"]) == {field.name for field in dataclasses.fields(Options)}
