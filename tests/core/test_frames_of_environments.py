"""Frames that are kept once, against the stacks that environments give, whatever they pad with."""

from __future__ import annotations

import numpy as np
import pytest
from bellmark.agents.core.batch import Step
from bellmark.agents.core.buffer import Buffer
from bellmark.agents.core.frames import FrameBuffer
from bellmark.agents.core.spec import Spec

GAMMA = 0.9


@pytest.mark.parametrize("padding", ["reset", "zero"])
def test_stacks_of_gymnasium_come_back(padding):
    """Its FrameStackObservation, which pads with the first frame or with zeros."""
    gymnasium = pytest.importorskip("gymnasium")

    class Numbers(gymnasium.Env):
        """Each frame is a number of its own; episodes have two to six steps."""

        observation_space = gymnasium.spaces.Box(0, 255, (2, 2), np.uint8)
        action_space = gymnasium.spaces.Discrete(3)
        number = 0

        def frame(self):
            Numbers.number += 1
            return np.array([[Numbers.number % 251, Numbers.number // 251], [0, 1]], np.uint8)

        def reset(self, **options):
            super().reset(**options)
            self.left = 2 + Numbers.number % 5
            return self.frame(), {}

        def step(self, action):
            self.left -= 1
            return self.frame(), float(Numbers.number), not self.left, False, {}

    def make():
        return gymnasium.wrappers.FrameStackObservation(Numbers(), 4, padding_type=padding)

    spec = Spec((4, 2, 2), 3, True, obs_dtype="uint8", frame_stack=4)
    follow(gymnasium.vector.SyncVectorEnv([make] * 2), spec, steps=300)


def test_stacks_of_ale_come_back():
    """Its vector environment pads with zeros."""
    ale_py = pytest.importorskip("ale_py")
    env = ale_py.AtariVectorEnv("breakout", num_envs=2, img_height=20, img_width=20, noop_max=3)
    follow(env, Spec((4, 20, 20), 4, True, obs_dtype="uint8", frame_stack=4), steps=400)


def follow(env, spec, steps):
    """Compares both buffers after random actions in a vector environment with next-step autoreset."""
    frames, stacks = FrameBuffer(spec, 120, 2), Buffer(spec, steps + 1, 2)
    rng, over, first = np.random.default_rng(0), np.zeros(2, bool), np.array(env.reset(seed=0)[0])
    for buffer in (frames, stacks):
        buffer.begin(first)
    ends = 0
    for _ in range(steps):
        action = rng.integers(spec.actions, size=2)
        obs, reward, terminated, truncated, _ = env.step(action)
        obs, valid = np.array(obs), ~over
        step = Step(obs, np.array(reward, np.float32), np.array(terminated), np.array(truncated), valid, obs)
        over = step.terminated | step.truncated
        ends += int(over.sum())
        for buffer in (frames, stacks):
            buffer.add(action, step)
        np.testing.assert_array_equal(frames.current_obs(), obs)
    env.close()
    assert ends > 2
    for n_step in (1, 3):
        kept, whole = frames.valid_index(), stacks.valid_index()
        for column in range(2):
            mine, all_of_them = kept[kept % 2 == column], whole[whole % 2 == column]
            oldest = mine[((mine // 2 - int(frames.head[column]) - 1) % frames.rows).argsort()]
            found, given = (
                frames.gather(oldest, GAMMA, n_step),
                stacks.gather(all_of_them[-len(oldest) :], GAMMA, n_step),
            )
            assert len(oldest) > 40
            for name in ("obs", "action", "reward", "discount", "next_obs"):
                assert getattr(found, name).equal(getattr(given, name)), name
