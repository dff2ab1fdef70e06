"""The buffer truth test: whatever was added, in whatever style, is read back as a plain list would give it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.errors import InvalidCheckpoint, InvalidData, InvalidSetting

GAMMA = 0.9
STYLES = ("next_step", "same_step")


def content(buffer, n_step=1, gamma=GAMMA):
    """All valid rows by observation, as `Scripted.expected` gives them."""
    batch = buffer.gather(buffer.valid_index(), gamma, n_step)
    assert batch.weight.tolist() == [1.0] * len(batch.row)
    values = (batch.obs, batch.action, batch.reward, batch.discount, batch.next_obs)
    rows = list(zip(*(value.tolist() for value in values), strict=True))
    found = {tuple(obs): (action, reward, discount, tuple(after)) for obs, action, reward, discount, after in rows}
    assert len(found) == len(rows) == buffer.transitions, "no transition twice, and the count is right"
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for obs, (action, reward, discount, next_obs) in expected.items():
        assert found[obs][0] == action
        assert found[obs][1:3] == pytest.approx((reward, discount), rel=1e-6, abs=0)
        assert found[obs][3] == next_obs


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("columns", [1, 2, 4])
@pytest.mark.parametrize("kind", ["continuous", "discrete"])
def test_every_valid_row_is_what_happened_and_all_that_fit_are_there(style, columns, kind, scripted, drive, request):
    spec = request.getfixturevalue(kind)
    env, buffer = scripted(columns, style, spec, seed=columns), Buffer(spec, 23, columns)
    for stretch in range(40):  # the ring is passed several times, and looked at in many places
        drive(env, buffer, 3, seed=stretch)
        for n_step in (1, 2, 3, 5):
            assert_same(content(buffer, n_step), env.expected(GAMMA, n_step, rows=23))
    assert min(len(rows) for rows in env.rows) > 4 * 23


def test_both_styles_give_the_same_transitions(scripted, drive, continuous):
    seen = []
    for style in STYLES:
        env, buffer = scripted(3, style), Buffer(continuous, 500, 3)
        drive(env, buffer, 200)
        seen.append({obs: values[1:] for obs, values in content(buffer, 3).items()})
    common = seen[0].keys() & seen[1].keys()
    assert len(common) > 400
    last = {max(obs for obs in found if obs[0] == column)[:2] for found in seen for column in range(3)}
    for obs in common:
        if obs[:2] not in last:  # the episodes that were going on at the end differ: one style had more steps
            assert seen[0][obs] == seen[1][obs]


def test_a_window_at_the_head_keeps_its_own_power_of_gamma(scripted, drive, continuous):
    env, buffer = scripted(longest=1000, seed=3), Buffer(continuous, 10)
    drive(env, buffer, 4)
    batch = buffer.gather(torch.arange(4), 0.5, 3)
    assert batch.reward.tolist() == [1 + 2 / 2 + 3 / 4, 2 + 3 / 2 + 4 / 4, 3 + 4 / 2, 4]
    assert batch.discount.tolist() == [0.125, 0.125, 0.25, 0.5]
    assert batch.next_obs[:, 2].tolist() == [3, 4, 4, 4]


@pytest.mark.parametrize(("terminated", "target"), [(False, 12.52), (True, 2.8)])
def test_three_step_target_of_the_card(terminated, target, continuous):
    buffer = Buffer.from_transitions(
        continuous,
        obs=np.zeros((3, 3)),
        action=np.zeros((3, 2)),
        reward=np.array([1.0, 2.0, 3.0]),
        terminated=np.array([False, terminated, False]),
        truncated=np.zeros(3, bool),
        next_obs=np.zeros((3, 3)),
    )
    batch = buffer.gather(torch.tensor([0]), 0.9, 3)
    assert float(batch.reward + batch.discount * 10) == pytest.approx(target, rel=1e-6)


@pytest.mark.parametrize("style", STYLES)
def test_draw_is_uniform_over_valid_rows(style, scripted, drive, continuous):
    env, buffer = scripted(3, style, longest=2, seed=1), Buffer(continuous, 30, 3)
    drive(env, buffer, 100)
    valid = buffer.valid_index()
    assert len(valid) < 0.7 * 90, "about a third of the rows are reset rows"
    counts = torch.bincount(buffer.draw(100_000), minlength=90)
    assert counts.sum() == counts[valid].sum() == 100_000
    expected = 100_000 / len(valid)
    chi_square = ((counts[valid] - expected) ** 2 / expected).sum()
    freedom = len(valid) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_draw_finds_the_only_transition(scripted, drive, continuous):
    buffer = Buffer(continuous, 1000, 4)
    drive(scripted(4, longest=1), buffer, 1)
    buffer.valid[0, [0, 1, 3]] = False
    buffer.transitions = 1
    assert buffer.draw(10_000).unique().tolist() == [2]


@pytest.mark.parametrize("style", STYLES)
def test_sequences_stay_in_their_episode(style, scripted, drive, continuous):
    env, buffer = scripted(2, style, seed=5), Buffer(continuous, 31, 2)
    drive(env, buffer, 100)
    one_step, length = env.expected(GAMMA, rows=31), 4
    sequence = buffer.sequences(500, length, GAMMA)
    assert sequence.obs.shape == (length + 1, 500, 3)
    assert sequence.action.shape == (length, 500, 2)
    lengths = sequence.mask.sum(0).int().tolist()
    assert set(lengths) == {1, 2, 3, 4}
    for b, real in enumerate(lengths):
        assert sequence.mask[:, b].tolist() == [1.0] * real + [0.0] * (length - real)
        for t in range(real):
            action, reward, discount, next_obs = one_step[tuple(sequence.obs[t, b].tolist())]
            assert sequence.action[t, b].tolist() == action
            assert sequence.reward[t, b] == reward
            assert float(sequence.discount[t, b]) == pytest.approx(discount)
            assert tuple(sequence.obs[t + 1, b].tolist()) == next_obs
        if real < length:
            last = tuple(sequence.obs[real - 1, b].tolist())
            column = env.transitions[int(last[0])]
            assert last == column[-1]["obs"] or next(x for x in column if x["obs"] == last)["over"]
        for values in (sequence.obs[real + 1 :], sequence.action[real:], sequence.reward[real:]):
            assert not values[:, b].any()
        assert not sequence.discount[real:, b].any()


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_an_end_cuts_even_where_a_transition_follows_at_once(kind, continuous):
    buffer, zeros, yes = Buffer(continuous, 5), np.zeros(1, bool), np.ones(1, bool)
    buffer.begin(np.zeros((1, 3), np.float32))
    for row in range(3):
        end = {kind: yes} if row == 1 else {}
        flags = {"terminated": zeros, "truncated": zeros, "valid": yes} | end
        obs = np.full((1, 3), row + 1, np.float32)
        buffer.add(np.zeros((1, 2)), Step(next_obs=obs, reward=np.ones(1, np.float32), obs=obs, **flags))
    batch = buffer.gather(torch.arange(3), 0.5, 3)
    assert batch.reward.tolist() == [1.5, 1, 1]
    assert batch.discount.tolist() == ([0, 0, 0.5] if kind == "terminated" else [0.25, 0.5, 0.5])
    assert batch.next_obs[:, 0].tolist() == [2, 2, 3]
    assert buffer.rollout(0.5).trace.flatten().tolist() == [1, 0, 0]
    sequence = buffer.sequences(200, 3, 0.5)
    lengths = {int(start): int(mask.sum()) for start, mask in zip(sequence.obs[0, :, 0], sequence.mask.T, strict=True)}
    assert lengths == {0: 2, 1: 1, 2: 1}


@pytest.mark.parametrize("style", STYLES)
def test_rollout_is_time_as_it_was(style, scripted, drive, continuous):
    env, buffer, columns = scripted(3, style, seed=2), Buffer(continuous, 42, 3), 3
    first = [0] * columns
    for stretch in range(3):
        drive(env, buffer, 20, seed=stretch)
        rollout = buffer.rollout(GAMMA)
        assert len(rollout.obs) == len(rollout.reward) + 1 == buffer.written
        assert len(rollout.reward) == max(len(env.rows[i]) - 1 - first[i] for i in range(columns))
        for i in range(columns):
            rows, seen = env.rows[i][first[i] :], env.row_obs[i][first[i] :]
            for t in range(len(rollout.reward)):
                row = rows[t] if t < len(rows) else None
                assert bool(rollout.valid[t, i]) == (row is not None)
                if t < len(rows):
                    assert tuple(rollout.obs[t, i].tolist()) == seen[t]
                if row is None:
                    assert (rollout.reward[t, i], rollout.discount[t, i], rollout.trace[t, i]) == (0, 0, 0)
                    continue
                item = env.transitions[i][row]
                assert rollout.reward[t, i] == item["reward"]
                assert rollout.action[t, i].tolist() == item["action"]
                assert float(rollout.discount[t, i]) == pytest.approx(GAMMA * (not item["terminated"]))
                goes_on = not item["over"] and rows[t + 1] is not None
                assert rollout.trace[t, i] == float(goes_on)
                assert tuple(rollout.obs[t + 1, i].tolist()) == item["next_obs"]
            first[i] = len(env.rows[i]) - 1
        buffer.restart()
        assert (buffer.transitions, buffer.written) == (0, 1)
        np.testing.assert_array_equal(buffer.current_obs(), env.obs)
        np.testing.assert_array_equal(buffer.obs[0], env.obs)


def test_a_rollout_that_wrapped_is_refused(scripted, drive, continuous):
    buffer = Buffer(continuous, 5)
    drive(scripted(), buffer, 7)
    with pytest.raises(InvalidData, match="wrapped"):
        buffer.rollout(GAMMA)


@pytest.mark.parametrize("style", STYLES)
def test_begin_leaves_what_was_there_with_its_successor(style, scripted, drive, continuous):
    buffer, expected = Buffer(continuous, 100, 3), {}
    for episode in range(4):  # a new environment each time, in the middle of the old one's episodes
        env = scripted(3, style, seed=episode)
        drive(env, buffer, 5 + episode, seed=episode)
        expected |= {(episode, *obs): values[1:] for obs, values in env.expected(GAMMA, 3).items()}
    batch = buffer.gather(buffer.valid_index(), GAMMA, 3)
    found = sorted(
        zip(batch.reward.tolist(), batch.discount.tolist(), map(tuple, batch.next_obs.tolist()), strict=True)
    )
    assert len(found) == len(expected) == buffer.transitions
    wanted = sorted(expected.values())
    np.testing.assert_allclose([x[:2] for x in found], [x[:2] for x in wanted], rtol=1e-5)
    assert sorted(x[2] for x in found) == sorted(x[2] for x in wanted)


def recorded(count, seed):
    """Random transitions with unique observations; ends of both kinds, and a tail that is no end."""
    rng = np.random.default_rng(seed)
    ends = rng.random(count)
    terminated, truncated = ends < 0.15, (ends > 0.1) & (ends < 0.3)  # some set both
    terminated[-1] = truncated[-1] = False
    obs = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    follows = np.roll(obs, -1, axis=0)
    ended = (terminated | truncated | (np.arange(count) == count - 1))[:, None]
    return {
        "obs": obs,
        "action": rng.uniform(-1, 1, (count, 2)).astype(np.float32),
        "reward": rng.integers(1, 100, count).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "next_obs": np.where(ended, -obs - 1, follows),
    }


def oracle(data, kept, n_step):
    """Windows over the kept transitions, by first observation. `ended` beats `kept`: windows never pass an end."""
    count, found = len(kept), {}
    for start in np.flatnonzero(kept):
        stop = start
        while stop - start + 1 < n_step and not (data["terminated"] | data["truncated"])[stop]:
            if stop + 1 == count or not kept[stop + 1]:
                break
            stop += 1
        reward = sum(GAMMA**i * r for i, r in enumerate(data["reward"][start : stop + 1]))
        discount = 0.0 if data["terminated"][stop] else GAMMA ** (stop - start + 1)
        found[tuple(data["obs"][start])] = (reward, discount, tuple(data["next_obs"][stop]))
    return found


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("n_step", [1, 3])
def test_recorded_transitions_are_kept_as_far_as_their_successor_is_known(known, n_step, continuous):
    for seed in range(5):
        data = recorded(60, seed)
        kept = np.ones(60, bool)
        if not known:
            kept = data["terminated"] | ~data["truncated"]
            kept[-1] = False
        given = data if known else {name: value for name, value in data.items() if name != "next_obs"}
        buffer = Buffer.from_transitions(continuous, **given)
        found, wanted = content(buffer, n_step), oracle(data, kept, n_step)
        assert found.keys() == wanted.keys()
        for obs, (reward, discount, next_obs) in wanted.items():
            assert found[obs][1:3] == pytest.approx((reward, discount), rel=1e-5)
            if known or discount:
                assert found[obs][3] == next_obs
        index = np.flatnonzero(kept)
        assert [list(found[tuple(data["obs"][i])][0]) for i in index] == data["action"][index].tolist()
        going_on = buffer.valid & ~buffer.terminated & ~buffer.truncated
        going_on[int(buffer.valid.flatten().nonzero()[-1])] = False
        assert buffer.valid.roll(-1, 0)[going_on].all(), "what does not end is followed by a transition, but the last"
        ended = buffer.gather(buffer.valid_index(), GAMMA).discount == 0
        assert int(ended.sum()) == int(data["terminated"].sum())


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("end", ["terminated", "truncated", "both", "none"])
def test_only_an_end_that_is_stated_ends_the_last_episode(known, end, continuous):
    for seed in range(5):
        data = recorded(60, seed)
        data["terminated"][-1], data["truncated"][-1] = end in ("terminated", "both"), end in ("truncated", "both")
        data["truncated"][-3:-1] = data["terminated"][-3:-1] = False
        given = data if known else {name: value for name, value in data.items() if name != "next_obs"}
        buffer = Buffer.from_transitions(continuous, **given)
        last = buffer.valid_index()[-1]
        terminated, truncated = (bool(flags.flatten()[last]) for flags in (buffer.terminated, buffer.truncated))
        assert (terminated, truncated) == (end in ("terminated", "both"), end == "truncated")
        stated = data["truncated"] & ~data["terminated"]
        assert int(buffer.truncated.sum()) == (stated.sum() if known else (stated[1:] & ~ends_at(data)[:-1]).sum())
        alone = buffer.gather(last.view(1), GAMMA, 3)
        assert alone.reward.item() == buffer.reward.flatten()[last] and buffer.next_action(last.view(1))[1].item() == 0
        stretches = buffer.sequences(200, 4, GAMMA)
        assert stretches.mask.sum() == (stretches.reward > 0).sum(), "no stretch goes on beyond the last transition"


def ends_at(data):
    return data["terminated"] | data["truncated"]


def test_recorded_arrays_must_have_one_length(continuous):
    data = recorded(10, 0)
    with pytest.raises(InvalidData, match=r"\[9, 10\]"):
        Buffer.from_transitions(continuous, **(data | {"reward": data["reward"][:9]}))
    with pytest.raises(InvalidData, match="above 0"):
        Buffer.from_transitions(continuous, **{name: values[:0] for name, values in data.items()})


@pytest.mark.parametrize("columns", [1, 2, 3, 5])
@pytest.mark.parametrize("source", ["data", *STYLES])
def test_spread_keeps_every_transition_and_goes_on(columns, source, scripted, drive, continuous):
    if source == "data":
        buffer = Buffer.from_transitions(continuous, **recorded(61, 1))
    else:
        buffer = Buffer(continuous, 40, 2)
        drive(scripted(2, source, seed=7), buffer, 90)
    before, longer = content(buffer), content(buffer, 4)
    wide = buffer.spread(400, columns)
    assert content(wide) == before
    for obs, values in content(wide, 4).items():  # a cut may shorten a window, never change what it sums
        assert values == longer[obs] or values[2] >= longer[obs][2] > 0 or longer[obs][2] == 0
    env = scripted(columns, seed=8)
    wide.begin(env.reset(0) + np.float32(1000))
    new = []
    for _ in range(20):
        action = np.zeros((columns, 2), np.float32)
        step = env.step(action)
        new.append(int(step.valid.sum()))
        wide.add(action, step._replace(next_obs=step.next_obs + np.float32(1000)))
    after = content(wide)
    assert len(after) == len(before) + sum(new)
    assert {obs: values for obs, values in after.items() if obs in before} == before
    shifted = {
        tuple(x + 1000 for x in obs): (reward, discount, tuple(x + 1000 for x in next_obs))
        for obs, (_, reward, discount, next_obs) in env.expected(GAMMA).items()
    }
    assert {obs for obs in after if obs not in before} == shifted.keys()
    for obs, values in shifted.items():
        assert after[obs][1:3] == pytest.approx(values[:2], rel=1e-6)
        assert after[obs][3] == values[2]


@pytest.mark.parametrize("style", STYLES)
def test_a_spread_buffer_is_a_ring_like_any_other(style, scripted, drive, continuous):
    data = recorded(61, 1)
    buffer = Buffer.from_transitions(continuous, **(data | {"obs": data["obs"] + 1e4}))
    wide, env = buffer.spread(10, 2), scripted(2, style)
    drive(env, wide, 200)
    for n_step in (1, 3):
        assert_same(content(wide, n_step), env.expected(GAMMA, n_step, rows=wide.rows))


@pytest.mark.parametrize("style", STYLES)
def test_state_goes_on_exactly(style, scripted, drive, continuous):
    env, buffer = scripted(3, style, seed=4), Buffer(continuous, 17, 3)
    for stretch in range(12):
        drive(env, buffer, 4, seed=stretch)
        tensors, values = buffer.state()
        other, twin = Buffer(continuous, 17 + stretch % 3, 3), copy.deepcopy(env)  # the saved size is taken over
        drive(scripted(3), other, 5)  # whatever was there before is forgotten
        other.load_state({name: value.clone() for name, value in tensors.items()}, copy.deepcopy(values))
        assert content(other, 3) == content(buffer, 3)
        np.testing.assert_array_equal(other.current_obs(), buffer.current_obs())
        drive(twin, other, 25, seed=99)
        assert_same(content(other, 2), twin.expected(GAMMA, 2, rows=17))
        torch.manual_seed(1)
        assert len(other.draw(64).unique()) > 20


def test_state_draws_the_same_afterwards(scripted, drive, continuous):
    buffer, other = Buffer(continuous, 17, 3), Buffer(continuous, 17, 3)
    drive(scripted(3), buffer, 40)
    other.load_state(*buffer.state())
    torch.manual_seed(5)
    first = buffer.sample(100, GAMMA, 2)
    torch.manual_seed(5)
    for mine, theirs in zip(first, other.sample(100, GAMMA, 2), strict=True):
        assert torch.equal(mine, theirs)


def test_split_gives_equal_parts_in_order(scripted, drive, continuous):
    buffer = Buffer(continuous, 50, 2)
    drive(scripted(2), buffer, 40)
    batch = buffer.sample(24, GAMMA)
    parts = batch.split(3)
    assert [len(part.obs) for part in parts] == [8, 8, 8]
    for name in batch._fields:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))


def test_bad_sizes_are_refused_with_a_remedy(scripted, drive, continuous):
    for rows, columns in ((1, 1), (5, 0)):
        with pytest.raises(InvalidSetting, match="holds no transition"):
            Buffer(continuous, rows, columns)
    with pytest.raises(InvalidData, match="no transition to sample from"):
        Buffer(continuous, 5).sample(3, GAMMA)
    buffer = Buffer(continuous, 9, 2)
    drive(scripted(2), buffer, 4)
    with pytest.raises(InvalidCheckpoint, match="has 2 columns, this one 3: keep num_envs"):
        Buffer(continuous, 9, 3).load_state(*buffer.state())
    buffer.clear()
    with pytest.raises(InvalidData, match="no transition"):
        buffer.draw(1)


@pytest.mark.parametrize("style", STYLES)
def test_a_used_rollout_leaves_nothing_behind(style, scripted, drive, continuous):
    """Otherwise a resumed run, whose buffer is new, would save other bytes than one that was never stopped."""
    env, buffer = scripted(2, style), Buffer(continuous, 60, 2)
    drive(env, buffer, 25)
    buffer.restart()
    fresh = Buffer(continuous, 60, 2)
    fresh.begin(buffer.current_obs())
    ahead = copy.deepcopy(env)
    drive(env, buffer, 7, seed=1)
    drive(ahead, fresh, 7, seed=1)
    (used, place), (new, other_place) = buffer.state(), fresh.state()
    assert place == other_place
    torch.testing.assert_close(used, new, rtol=0, atol=0, equal_nan=True)
