"""NaN and infinity are found where they enter: stopped with the name of what they are, dropped, or clipped."""

from __future__ import annotations

import bellmark
import gymnasium
import numpy as np
import pytest
from bellmark.agents.core.errors import InvalidSetting, NotFinite
from bellmark.envs import make
from bellmark.scripts.training import evaluation_env
from gymnasium.vector import SyncVectorEnv

MODES = ("next_step", "same_step", "disabled")
NAN, INF = float("nan"), float("inf")


class Broken(gymnasium.Env):
    """Observation [number of the episode's own, step], four steps long; reward 1.

    In the odd one of two copies (by its seed), step `at` of each episode gives `obs` and `reward`, if they are given.
    """

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def __init__(self, obs=None, reward=None, at=3, chance=0.0, both=False):
        self.obs, self.reward, self.at, self.chance, self.both = obs, reward, at, chance, both
        self.odd, self.episode, self.time = both, 0.0, 0
        self.actions: list[float] = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.odd = self.both or bool(seed % 2)
        self.episode, self.time = float(self.np_random.integers(1, 10**6)), 0
        return np.array([self.episode, self.obs if self.at == 0 and self.odd else 0.0]), {}

    def step(self, action):
        self.actions.append(float(action[0]))
        self.time += 1
        broken = self.odd and (self.np_random.random() < self.chance if self.chance else self.time == self.at)
        obs = self.obs if broken and self.obs is not None else self.time
        reward = self.reward if broken and self.reward is not None else 1.0
        return np.array([self.episode, obs]), reward, self.time == 4, False, {}


def zeros(columns=2):
    return np.zeros((columns, 1), np.float32)


def play(env, steps):
    """The column whose environment is the broken one, and that many steps."""
    first = env.reset(0)
    seed = int(np.random.SeedSequence(0).generate_state(1)[0]) >> 2  # of environment 0
    return 1 - seed % 2, first, [env.step(zeros()) for _ in range(steps)]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("what", ["observation", "reward"])
@pytest.mark.parametrize("mode", MODES)
def test_values_that_are_not_finite_are_named(bad, what, mode):
    broken = {"obs": bad} if what == "observation" else {"reward": bad}
    vector = SyncVectorEnv(
        [Broken, lambda: Broken(both=True, **broken)],
        autoreset_mode={m.name.lower(): m for m in gymnasium.vector.AutoresetMode}[mode],
    )
    with make(vector) as env:
        env.reset(0)
        env.step(zeros())
        env.step(zeros())
        with pytest.raises(
            NotFinite,
            match=rf"the {what} of environment 1 of 'SyncVectorEnv' at step 3 is .*{bad}.*mend the environment",
        ):
            env.step(zeros())


def test_the_action_is_found_before_the_environment_sees_it():
    with make(Broken, 2) as env:
        env.reset(0)
        env.step(zeros())
        with pytest.raises(
            NotFinite, match=r"the action of environment 1 of 'Broken' at step 2 is not finite \(\[nan\]\): lower"
        ):
            env.step(np.float32([[0.0], [NAN]]))
        assert env.env.envs[1].actions == [0.0]


@pytest.mark.parametrize("setting", ["stop", "skip", "clip"])
def test_large_finite_values_pass(setting):
    with make(Broken, 1, obs=3e38, reward=-3e38, both=True) as env, np.errstate(all="raise"):
        env.non_finite = setting
        env.reset(0)
        steps = [env.step(zeros(1)) for _ in range(3)]
        assert steps[-1].next_obs[0, 1] == np.float32(3e38)
        assert (steps[-1].reward[0], steps[-1].valid[0]) == (np.float32(-3e38), True)
        assert env.non_finite_count == 0


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [3, 4])
@pytest.mark.parametrize("broken", [{"obs": NAN}, {"reward": INF}, {"obs": -INF, "reward": NAN}])
def test_skip_drops_the_transition_and_begins_a_new_episode(backend, mode, at, broken):
    """Step 4 is the last of an episode: its observation is the final one."""
    with make(Broken, 2, autoreset=mode) as healthy:
        _, _, untouched = play(healthy, 9)
        lengths = [episode.length for episode in healthy.pop_episodes()]
    with make(Broken, 2, backend=backend, autoreset=mode, at=at, **broken) as env:
        env.non_finite = "skip"
        column, first, steps = play(env, 9)
        good, dropped = 1 - column, steps[at - 1]
        assert [step.valid[column] for step in steps[:at]] == [True] * (at - 1) + [False]
        assert (dropped.reward[column], dropped.terminated[column], dropped.truncated[column]) == (0.0, False, False)
        assert dropped.restarted is None or not dropped.restarted[column]
        assert dropped.obs[column, 1] == 0.0 and dropped.obs[column, 0] != first[column, 0], "a new episode has begun"
        np.testing.assert_array_equal(dropped.next_obs[column], dropped.obs[column])
        assert [step.next_obs[column].tolist() for step in steps[at : 2 * at - 1]] == [
            [dropped.obs[column, 0], float(time)] for time in range(1, at)
        ]
        assert all(step.valid[column] for step in steps[at : 2 * at - 1])
        for step, same in zip(steps, untouched, strict=True):
            for field, other in zip(step[:6], same[:6], strict=True):
                np.testing.assert_array_equal(field[good], other[good])
        assert all(np.isfinite(step.next_obs).all() and np.isfinite(step.reward).all() for step in steps)
        assert [episode.length for episode in env.pop_episodes()] == lengths[: len(lengths) // 2], "the good one's only"
        assert env.non_finite_count == (9 // at) * len(broken)
        assert env.lost_episodes == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [3, 4])
def test_clip_puts_numbers_in_their_place(mode, at):
    for obs, reward, seen, got in ((NAN, INF, 0.0, 1e6), (INF, NAN, 1e6, 0.0), (-INF, -INF, -1e6, -1e6)):
        with make(Broken, 2, autoreset=mode, obs=obs, reward=reward, at=at) as env:
            env.non_finite = "clip"
            column, first, steps = play(env, 4)
            assert steps[at - 1].next_obs[column].tolist() == [first[column, 0], seen]
            assert steps[at - 1].reward[column] == got
            assert all(step.valid.all() for step in steps)
            assert sorted(episode.reward_sum for episode in env.pop_episodes()) == sorted([4.0, 3.0 + got])
            assert env.non_finite_count == 2


def test_actions_are_mended_in_place_before_the_environment_sees_them():
    with make(Broken, 4) as env:
        env.non_finite = "clip"
        env.reset(0)
        action = np.float32([[NAN], [INF], [-INF], [0.25]])
        assert env.step(action).valid.all()
        assert action.tolist() == [[0.0], [1.0], [-1.0], [0.25]]
        assert [one.actions for one in env.env.envs] == [[0.0], [2.0], [-2.0], [0.5]]
        assert env.non_finite_count == 3


@pytest.mark.parametrize("mode", MODES)
def test_skip_drops_a_step_whose_action_was_not_finite(mode):
    with make(Broken, 2, autoreset=mode) as env:
        env.non_finite = "skip"
        first = env.reset(0)
        env.step(zeros())
        action = np.float32([[0.0], [INF]])
        step = env.step(action)
        assert (step.valid.tolist(), np.isfinite(action).all()) == ([True, False], True)
        assert step.obs[1, 1] == 0.0 and step.obs[1, 0] != first[1, 0]
        assert env.step(zeros()).next_obs[:, 1].tolist() == [3.0, 1.0]
        assert env.non_finite_count == 1


def test_skip_in_envpool_resets_one_environment():
    pytest.importorskip("envpool")
    with make("Pendulum-v1", 3, backend="envpool") as env, make("Pendulum-v1", 3, backend="envpool") as healthy:
        env.non_finite = "skip"
        env.reset(0)
        healthy.reset(0)
        for time in range(1, 201):
            action = zeros(3)
            action[1] = NAN if time == 50 else 0.0
            step, same = env.step(action), healthy.step(zeros(3))
            assert step.valid.tolist() == [True, time != 50, True]
            np.testing.assert_array_equal(step.obs[[0, 2]], same.obs[[0, 2]])
            np.testing.assert_allclose((step.obs[:, :2] ** 2).sum(1), 1.0, rtol=1e-5)  # cosine and sine
        assert step.truncated.tolist() == [True, False, True]
        assert [episode.length for episode in env.pop_episodes()] == [200, 200]
        assert env.step(zeros(3)).valid.tolist() == [False, True, False]


def test_skip_is_refused_where_one_environment_cannot_be_reset():
    with make(gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")) as env:
        with pytest.raises(InvalidSetting, match="CartPoleVectorEnv"):
            env.non_finite = "skip"
        agent = bellmark.make("dqn", env, non_finite="skip")
        with pytest.raises(InvalidSetting, match="one by one"):
            agent.learn(10)


@pytest.mark.parametrize("setting", ["stop", "skip", "clip"])
def test_the_first_observation_cannot_be_skipped(setting):
    with make(Broken, 2, obs=NAN, at=0, both=True) as env:
        env.non_finite = setting
        if setting == "clip":
            assert env.reset(0)[:, 1].tolist() == [0.0, 0.0]
        else:
            with pytest.raises(NotFinite, match="observation of environment 0 of 'Broken' at step 0"):
                env.reset(0)


def test_skip_gives_up_where_nothing_can_be_kept():
    with make(Broken, 2, obs=NAN, at=1, both=True) as env:
        env.non_finite = "skip"
        env.reset(0)
        for _ in range(99):
            assert not env.step(zeros()).valid.any()
        with pytest.raises(NotFinite, match="no transition that could be kept for 100 steps, up to step 100"):
            env.step(zeros())
    with make(Broken, 1, obs=NAN, at=2, both=True) as env:
        env.non_finite = "skip"
        env.reset(0)
        assert [bool(env.step(zeros(1)).valid[0]) for _ in range(300)] == [True, False] * 150


def test_the_counts_travel_with_the_state():
    with make(Broken, 2, obs=NAN) as env, make(Broken, 2, obs=NAN) as fresh:
        env.non_finite = "skip"
        play(env, 4)
        fresh.load_state(env.state())
        assert (env.non_finite_count, fresh.non_finite_count) == (1, 1)


@pytest.mark.parametrize("setting", ["skip", "clip"])
def test_training_never_sees_them_and_counts_what_there_was(setting):
    env = make(Broken, 2, obs=NAN, reward=INF, chance=0.1, both=True)
    agent = bellmark.make("td3", env, hidden=(8,), start=50, non_finite=setting)
    with env:
        agent.learn(300)
    assert env.non_finite_count >= 20
    assert 300 <= agent.steps <= 301
    assert agent.buffer.transitions == agent.steps
    for values in (agent.buffer.obs, agent.buffer.action, agent.buffer.reward):
        assert values.isfinite().all()
    if setting == "skip":
        index = agent.buffer.valid_index()
        assert set(agent.buffer.reward.flatten()[index].tolist()) == {1.0}


def test_evaluations_do_as_the_training_does():
    agent = bellmark.make("td3", "Pendulum-v1", hidden=(8,), non_finite="clip")
    assert evaluation_env(agent, 2).non_finite == "clip"


def test_a_saved_observation_is_mended_as_it_was():
    """What is saved is as the environment gave it; in `clip` it may be infinite."""
    with make(Broken, 2, obs=-INF, at=1) as env, make(Broken, 2, obs=-INF, at=1) as other:
        for each in (env, other):
            each.non_finite = "clip"
        env.reset(1)
        env.step(zeros())
        assert np.isfinite(env.obs).all() and (env.obs[:, 1] < -1e5).any()
        np.testing.assert_array_equal(other.load_state(env.state()), env.obs)
