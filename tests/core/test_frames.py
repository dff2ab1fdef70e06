"""Frames that are kept once: what is read back is, to the bit, what the environment gave as full stacks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from bellmark.agents.core import memory
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.config import ReplayConfig
from bellmark.agents.core.errors import InvalidData, InvalidSetting
from bellmark.agents.core.frames import FrameBuffer
from bellmark.agents.core.prioritized import Prioritized
from bellmark.agents.core.replay import ReplayAgent
from bellmark.agents.core.spec import Spec

GAMMA = 0.9


def spec_of(stack=4, channels=1, size=2):
    return Spec((stack * channels, size, size), 3, True, obs_dtype="uint8", frame_stack=stack)


class Stacking:
    """Environments that stack random frames and pad an episode's first stacks in one of three ways."""

    def __init__(self, spec, columns, padding, style, seed=0):
        self.spec, self.num_envs, self.padding, self.style = spec, columns, padding, style
        self.rng = np.random.default_rng(seed)
        self.channels = spec.obs_shape[0] // spec.frame_stack
        self.over = np.zeros(columns, bool)

    def frame(self):
        return self.rng.integers(1, 256, (self.channels, *self.spec.obs_shape[1:]), dtype=np.uint8)

    def first(self):
        newest, k = self.frame(), self.spec.frame_stack
        older = {"reset": newest, "zero": np.zeros_like(newest)}
        return np.concatenate([older.get(self.padding, self.frame()) for _ in range(k - 1)] + [newest])

    def reset(self):
        self.obs = np.stack([self.first() for _ in range(self.num_envs)])
        return self.obs

    def step(self):
        valid = ~self.over
        terminated, truncated = (valid & (self.rng.random(self.num_envs) < 0.1) for _ in range(2))
        over, obs = terminated | truncated, []
        for i in range(self.num_envs):
            obs.append(np.concatenate([self.obs[i, self.channels :], self.frame()]) if valid[i] else self.first())
        next_obs = self.obs = np.stack(obs)
        restarted = None
        if self.style == "next_step":
            self.over = over
        elif over.any():
            self.obs, restarted = next_obs.copy(), over
            self.obs[over] = np.stack([self.first() for _ in range(int(over.sum()))])
        reward = self.rng.integers(1, 100, self.num_envs).astype(np.float32)
        return Step(next_obs, reward, terminated, truncated & ~terminated, valid, self.obs, restarted)


def drive(env, buffers, steps):
    for _ in range(steps):
        action, step = env.rng.integers(env.spec.actions, size=env.num_envs), env.step()
        for buffer in buffers:
            buffer.add(action, step)


def content(buffer, n_step=1):
    """All transitions by their observation."""
    batch = buffer.gather(buffer.valid_index(), GAMMA, n_step)
    found = {
        obs.numpy().tobytes(): (int(action), float(reward), float(discount), after.numpy().tobytes())
        for obs, action, reward, discount, after in zip(
            batch.obs, batch.action, batch.reward, batch.discount, batch.next_obs, strict=True
        )
    }
    assert len(found) == buffer.transitions
    return found


def pair(env, rows):
    """A buffer that keeps frames, and one that keeps whole stacks, which is large enough for ever."""
    frames, stacks = FrameBuffer(env.spec, rows, env.num_envs), Buffer(env.spec, 2000, env.num_envs)
    first = env.reset()
    frames.begin(first)
    stacks.begin(first)
    return frames, stacks


EVERY = [
    pytest.mark.parametrize("style", ["next_step", "same_step"]),
    pytest.mark.parametrize("padding", ["reset", "zero", "any"]),
    pytest.mark.parametrize("columns", [1, 3]),
]


def every(test):
    for mark in EVERY:
        test = mark(test)
    return test


@every
@pytest.mark.parametrize(("stack", "channels"), [(4, 1), (2, 3)])
def test_what_is_read_is_what_was_given_across_the_ring(style, padding, columns, stack, channels):
    env = Stacking(spec_of(stack, channels), columns, padding, style)
    frames, stacks = pair(env, 30)
    for stretch in range(40):
        drive(env, (frames, stacks), 3)
        np.testing.assert_array_equal(frames.current_obs(), stacks.current_obs())
        for n_step in (1, 3):
            found, whole = content(frames, n_step), content(stacks, n_step)
            assert found.items() <= whole.items()
            if stretch < 3:
                assert found.keys() == whole.keys(), "all that fit are there"
    assert frames.transitions >= 30 * columns * 0.4, "rows for padding and lost rows are few"
    assert frames.written == 30


@every
def test_the_lost_rows_are_those_whose_frames_are_gone_and_no_others(style, padding, columns):
    env = Stacking(spec_of(), columns, padding, style, seed=1)
    frames, stacks = pair(env, 40)
    drive(env, (frames, stacks), 150)
    ends = [np.flatnonzero(frames._valid[:, i]) for i in range(columns)]
    for i in range(columns):
        behind = (ends[i] - int(frames.head[i]) - 1) % 40
        assert behind.min() >= 3
        assert behind.max() <= 38
    stored = {obs.numpy().tobytes() for obs in stacks.observations(stacks.valid_index())}
    assert content(frames).keys() <= stored


@every
def test_sequences_and_rollouts_read_stacks(style, padding, columns):
    env = Stacking(spec_of(), columns, padding, style, seed=2)
    frames, stacks = pair(env, 60)
    drive(env, (frames, stacks), 20)
    rollout, one_step = frames.rollout(GAMMA), content(stacks)
    assert rollout.obs.shape[2:] == env.spec.obs_shape
    seen = {obs.numpy().tobytes() for obs in rollout.obs[:-1][rollout.valid]}
    assert seen == one_step.keys()
    sequence = frames.sequences(100, 3, GAMMA)
    for b in range(100):
        for t in range(int(sequence.mask[:, b].sum())):
            after = one_step[sequence.obs[t, b].numpy().tobytes()][3]
            assert sequence.obs[t + 1, b].numpy().tobytes() == after


@every
def test_state_goes_on_exactly(style, padding, columns):
    env = Stacking(spec_of(), columns, padding, style, seed=3)
    frames, other = FrameBuffer(env.spec, 25, columns), FrameBuffer(env.spec, 10, columns)
    frames.begin(env.reset())
    for _ in range(10):
        drive(env, (frames,), 7)
        other.load_state(*frames.state())
        np.testing.assert_array_equal(other.current_obs(), frames.current_obs())
        drive(env, (frames, other), 3)
        assert content(other, 3) == content(frames, 3)


@every
@pytest.mark.parametrize("wide", [1, 2, 4])
def test_spread_keeps_every_transition_and_its_frames(style, padding, columns, wide):
    env = Stacking(spec_of(), columns, padding, style, seed=4)
    frames, _ = pair(env, 50)
    drive(env, (frames,), 120)
    before = content(frames)
    spread, other = frames.spread(100, wide), Stacking(spec_of(), wide, padding, style, seed=5)
    assert content(spread) == before
    spread.begin(other.reset())
    new = 0
    for _ in range(10):
        step = other.step()
        new += int(step.valid.sum())
        spread.add(np.zeros(wide, np.int64), step)
    after = content(spread)
    assert before.items() <= after.items()
    assert len(after) == len(before) + new


def test_priorities_follow_rows_that_are_lost_with_their_frames():
    env = Stacking(spec_of(), 3, "reset", "next_step", seed=6)
    frames = FrameBuffer(env.spec, 20, 3, sampler=Prioritized())
    frames.begin(env.reset())
    for _ in range(60):
        drive(env, (frames,), 2)
        rows = frames.draw(16)
        assert frames.valid.view(-1)[rows].all()
        leaves = frames.sampler.tree.leaves[: 20 * 3]
        assert (leaves > 0).equal(frames.valid.view(-1))
        frames.sampler.report(frames, rows, torch.rand(16))


def test_an_environment_that_does_not_stack_is_refused():
    env = Stacking(spec_of(), 2, "reset", "next_step")
    frames, _ = pair(env, 30)
    step = env.step()
    broken = step._replace(next_obs=step.next_obs[:, ::-1].copy())
    with pytest.raises(InvalidData, match="frame_stack = 4 is wrong"):
        frames.add(np.zeros(2, np.int64), broken)


class Atari(ReplayAgent):
    """An agent that only has a buffer."""

    config = ReplayConfig(replay="prioritized")

    def build(self, spec, c):
        pass


def test_a_million_atari_transitions_fit_in_8_gb(monkeypatch):
    """84 x 84 bytes of frame, 8 of action, 4 of reward, 3 of flags, 10 of priority; nothing is touched here."""
    agent = Atari(spec_of(4, 1, 84))
    monkeypatch.setattr(memory, "available", lambda device: 8_000_000_000)
    buffer = agent.make_buffer(8)
    assert isinstance(buffer, FrameBuffer)
    assert buffer.rows * 8 >= 1_000_000
    monkeypatch.setattr(memory, "available", lambda device: 7_000_000_000)
    arithmetic = "125,004 rows x 8 columns x 7,081 bytes = 7.1 GB, and the machine has 7.0 GB: lower buffer_size"
    with pytest.raises(InvalidSetting, match=arithmetic):
        agent.make_buffer(8)
