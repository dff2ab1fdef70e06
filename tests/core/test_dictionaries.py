"""Dictionary, multi-discrete and multi-binary spaces: their layout, their networks, and agents that learn in them."""

from __future__ import annotations

import json

import gymnasium
import numpy as np
import pytest
import torch
from bellmark import load, make
from bellmark.agents.core.bodies import CNN, body
from bellmark.agents.core.errors import InvalidCheckpoint, InvalidSetting, UnsupportedSpace
from bellmark.agents.core.masks import Parted
from bellmark.agents.core.policies import Categorical, MultiCategorical
from bellmark.agents.core.spec import Spec
from bellmark.envs import evaluate
from bellmark.envs import make as make_env
from gymnasium import spaces

SPACE = spaces.Dict(
    {
        "image": spaces.Box(0, 255, (12, 10, 3), np.uint8),
        "angle": spaces.Box(-1, 1, (2, 2), np.float64),
        "door": spaces.Discrete(3, start=5),
        "levers": spaces.MultiDiscrete([2, 4], start=[0, -1]),
        "lamps": spaces.MultiBinary(3),
    }
)
BOX = spaces.Box(-1, 1, (2,))


def spec_of(space=SPACE, action=BOX) -> Spec:
    return Spec.from_spaces(space, action)


def batch_of(space, count: int, seed: int = 0):
    space.seed(seed)
    samples = [space.sample() for _ in range(count)]
    return {key: np.stack([sample[key] for sample in samples]) for key in space}


def test_each_part_has_its_columns_images_behind_the_rest():
    spec, raw = spec_of(), batch_of(SPACE, 7)
    assert spec.obs_shape == (4 + 3 + 6 + 3 + 360,) == (spec.obs_size,) and spec.parts[-1].name == "image"
    flat, at = spec.encode_obs(raw), spec.columns
    assert flat.dtype == np.float32
    np.testing.assert_array_equal(flat[:, at["angle"]], raw["angle"].reshape(7, 4).astype(np.float32))
    np.testing.assert_array_equal(flat[:, at["door"]], np.eye(3)[raw["door"] - 5])
    np.testing.assert_array_equal(flat[:, at["lamps"]], raw["lamps"])
    levers = np.concatenate([np.eye(2)[raw["levers"][:, 0]], np.eye(4)[raw["levers"][:, 1] + 1]], 1)
    np.testing.assert_array_equal(flat[:, at["levers"]], levers)
    np.testing.assert_array_equal(flat[:, at["image"]].reshape(7, 3, 12, 10), np.moveaxis(raw["image"], -1, 1))


def test_one_dictionary_is_told_from_a_batch_and_what_is_flat_is_copied():
    spec, raw = spec_of(), batch_of(SPACE, 4)
    one = {key: values[2] for key, values in raw.items()}
    assert spec.is_single(one) and not spec.is_single(raw)
    flat = spec.encode_obs(raw)
    np.testing.assert_array_equal(spec.encode_obs(one, batched=False), flat[2:3])
    again = spec.encode_obs(flat)
    assert (again == flat).all() and not np.shares_memory(again, flat)


def test_multi_discrete_and_multi_binary_observations_alone():
    spec = spec_of(spaces.MultiDiscrete([[2, 3]]))
    assert spec.encode_obs(np.array([[[1, 2]], [[0, 0]]])).tolist() == [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]]
    assert spec.is_single(np.array([[1, 2]])) and not spec.is_single(np.array([[[1, 2]]]))
    assert spec_of(spaces.MultiBinary((2, 2))).encode_obs(np.ones((1, 2, 2), np.int8)).tolist() == [[1, 1, 1, 1]]


@pytest.mark.parametrize(
    ("space", "choices", "inside", "outside"),
    [
        (spaces.MultiDiscrete([2, 3], start=[0, 4]), (2, 3), [[1, 2], [0, 0]], [[1, 6], [0, 4]]),
        (spaces.MultiDiscrete([[2], [3]]), (2, 3), [[1, 2]], [[[1], [2]]]),
        (spaces.MultiBinary(3), (2, 2, 2), [[1, 0, 1]], [[1, 0, 1]]),
    ],
)
def test_several_actions_at_once(space, choices, inside, outside):
    spec = spec_of(BOX, space)
    assert (spec.action_choices, spec.actions, spec.action_row) == (choices, sum(choices), (len(choices),))
    assert spec.decode_action(np.array(inside)).tolist() == outside
    assert spec.encode_action(np.array(outside)).tolist() == inside
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_product_of_laws_against_each_law_alone():
    torch.manual_seed(0)
    logits = torch.randn(5, 9)
    law = MultiCategorical.of(Parted((2, 4, 3))(logits))
    alone = [Categorical.of(part) for part in logits.split((2, 4, 3), 1)]
    action = law.sample()
    torch.testing.assert_close(law.log_prob(action), sum(a.log_prob(x) for a, x in zip(alone, action.T, strict=True)))
    torch.testing.assert_close(law.entropy(), sum(a.entropy() for a in alone))
    assert torch.equal(law.mode(), torch.stack([a.mode() for a in alone], 1))
    many = MultiCategorical(law.log_probs[:1].expand(60_000, -1, -1)).sample()
    for part, one in zip(many.T, alone, strict=True):
        share = part.bincount(minlength=one.log_probs.shape[1]) / len(part)
        torch.testing.assert_close(share, one.log_probs[0].exp(), atol=0.011, rtol=0)


def test_the_body_gives_images_to_the_cnn_and_the_rest_to_the_layers():
    torch.manual_seed(0)
    spec = spec_of()
    net, features = body(spec, (8,))
    flat = torch.from_numpy(spec.encode_obs(batch_of(SPACE, 4)))
    vector, cnn = net.bodies
    assert isinstance(cnn, CNN) and features == 8 + 128 == net(flat).shape[1]
    image = flat[:, spec.columns["image"]].reshape(4, 3, 12, 10)
    torch.testing.assert_close(net(flat), torch.cat([vector(flat[:, :16]), cnn(image)], 1))


class Signs(gymnasium.Env):
    """Each of two numbers of the action should be 1 where a number in the dictionary is positive, for 20 steps."""

    observation_space = spaces.Dict({"left": spaces.Box(-1, 1, (1,)), "right": spaces.MultiBinary(1)})
    action_space = spaces.MultiDiscrete([2, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.seen(), {}

    def seen(self):
        self.bits = self.np_random.integers(0, 2, 2)
        return {"left": (2.0 * self.bits[:1] - 1).astype(np.float32), "right": self.bits[1:].astype(np.int8)}

    def step(self, action):
        reward = float((action == self.bits).mean())
        self.t += 1
        return self.seen(), reward, False, self.t == 20, {}


def test_ppo_learns_two_actions_at_once_from_a_dictionary_and_comes_back(tmp_path):
    agent = make("ppo", make_env(Signs, 4), seed=1, rollout_length=64, gamma=0.5, learning_rate=3e-3).learn(6000)
    assert evaluate(agent, make_env(Signs, 4), 8, seed=0).returns.min() > 19
    agent.save(tmp_path / "signs.bell")
    other = load(tmp_path / "signs.bell")
    assert other.spec == agent.spec
    raw = batch_of(Signs.observation_space, 6)
    action, _ = other.predict(raw, deterministic=True)
    assert (action == agent.predict(raw, deterministic=True)[0]).all() and action.shape == (6, 2)
    assert (action[:, 1] == raw["right"][:, 0]).all()
    assert other.predict({key: values[0] for key, values in raw.items()})[0].shape == (2,)


def test_every_mode_of_reset_gives_the_same_transitions_of_dictionaries():
    streams = []
    for options in ({}, {"autoreset": "same_step"}, {"autoreset": "disabled"}, {"backend": "async"}):
        with make_env(Signs, 2, **options) as env:
            obs, stream = env.reset(5), []
            while len(stream) < 60:
                step = env.step(np.zeros((2, 2), np.int64))
                stream += [(obs[0].tolist(), step.next_obs[0].tolist(), step.reward[0])] if step.valid[0] else []
                obs = step.obs
            streams.append(stream[:60])
    assert streams[0] == streams[1] == streams[2] == streams[3]


def test_a_saved_environment_goes_on_bit_for_bit():
    env, other = make_env(Signs, 2), make_env(Signs, 2)
    env.reset(3)
    for _ in range(25):
        env.step(np.ones((2, 2), np.int64))
    assert (other.load_state(env.state()) == env.obs).all()
    for _ in range(25):
        steps = [one.step(np.ones((2, 2), np.int64)) for one in (env, other)]
        assert all(np.array_equal(a, b) for a, b in zip(*steps, strict=True) if a is not None)


def test_a_given_vector_environment_with_dictionaries_is_taken_as_it_is():
    vector = gymnasium.vector.SyncVectorEnv([Signs, Signs])
    env = make_env(vector)
    assert env.reset(0).shape == (2, 2)
    assert make("ppo", env, rollout_length=32).learn(100).updates


def test_what_cannot_be_done_is_named():
    with pytest.raises(UnsupportedSpace, match="dictionaries of these"):
        spec_of(spaces.Dict({"a": spaces.Dict({"b": BOX})}))
    with pytest.raises(UnsupportedSpace, match="'dqn' chooses one action at a time, not 2"):
        make("dqn", make_env(Signs))
    with pytest.raises(InvalidSetting, match="does not go with images"):
        make("ppo", make_env(lambda: Fixed(SPACE, spaces.Discrete(2))), normalize_obs=True)


class Fixed(gymnasium.Env):
    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize(
    "change",
    [
        {"obs_shape": [7]},
        {"parts": [], "masked": True},
        {"parts": [["a", [2, 2], "vector", [], []]]},
        {"parts": [["a", [376], "vector", [1], [0]]]},
        {"parts": [["a", [376], "sound", [], []]]},
        {"parts": [["a", [188], "vector", [], []], ["a", [188], "vector", [], []]]},
        {"parts": [["a", [376], "vector"]]},
        {"action_choices": [2, 0]},
        {"action_choices": [1, 1], "action_starts": [0, 0]},
        {"masked": True},
        {"frame_stack": 0},
    ],
)
def test_no_absurd_parts_are_read_from_a_file(change):
    with pytest.raises((UnsupportedSpace, InvalidSetting, InvalidCheckpoint)):
        Spec.from_dict(json.loads(json.dumps(spec_of().to_dict())) | change)
