"""The interface to an environment: encoding and decoding are inverse, and what cannot be done is named."""

from __future__ import annotations

import numpy as np
import pytest
from bellmark.agents.core.errors import UnsupportedSpace
from bellmark.agents.core.spec import Spec
from gymnasium import spaces

BOX = spaces.Box(np.array([[-2.0, 0.0], [10.0, -1.0]]), np.array([[2.0, 1.0], [30.0, 1.0]]), dtype=np.float64)
OBS = spaces.Box(-np.inf, np.inf, (2, 3))


def test_continuous_spaces():
    spec = Spec.from_spaces(OBS, BOX)
    assert (spec.obs_shape, spec.obs_size, spec.is_image) == ((6,), 6, False)
    assert (spec.actions, spec.discrete, spec.action_shape) == (4, False, (2, 2))
    assert spec.decode_action(np.zeros((1, 4)))[0].tolist() == [[0, 0.5], [20, 0]]
    assert spec.decode_action(np.array([[-1.0, -1, -1, -1]]))[0].tolist() == BOX.low.tolist()
    assert spec.decode_action(np.array([[1.0, 1, 1, 1]]))[0].tolist() == BOX.high.tolist()


def test_actions_come_back_and_are_clipped():
    spec, rng = Spec.from_spaces(OBS, BOX), np.random.default_rng(0)
    action = rng.uniform(-1, 1, (100, 4)).astype(np.float32)
    np.testing.assert_allclose(spec.encode_action(spec.decode_action(action)), action, atol=2e-6)
    wild = 5 * rng.normal(size=(100, 4)).astype(np.float32)
    np.testing.assert_array_equal(spec.decode_action(wild), spec.decode_action(wild.clip(-1, 1)))
    assert all(BOX.contains(one.astype(np.float64)) for one in spec.decode_action(wild))


def test_discrete_spaces():
    spec = Spec.from_spaces(spaces.Discrete(4, start=-1), spaces.Discrete(3, start=5))
    assert (spec.obs_shape, spec.actions, spec.discrete) == ((4,), 3, True)
    assert spec.decode_action(np.array([0, 2])).tolist() == [5, 7]
    assert spec.encode_action(np.array([5, 7])).tolist() == [0, 2]
    code = spec.encode_obs(np.array([-1, 2, 0]))
    assert code.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]] and code.dtype == np.float32
    assert spec.encode_obs(2, batched=False).tolist() == [[0, 0, 0, 1]]


def test_vector_observations_are_new_flat_float32():
    spec, raw = Spec.from_spaces(OBS, BOX), np.arange(12.0).reshape(2, 2, 3)
    encoded = spec.encode_obs(raw)
    assert encoded.dtype == np.float32 and encoded.tolist() == raw.reshape(2, 6).tolist()
    same = encoded.copy()
    again = spec.encode_obs(same.reshape(2, 2, 3))
    same[:] = -1
    assert again.tolist() == encoded.tolist(), "a new array, not a view"
    assert spec.encode_obs(raw[0], batched=False).tolist() == [list(range(6))]


def test_images_stay_bytes():
    spec = Spec.from_spaces(spaces.Box(0, 255, (4, 8, 8), np.uint8), spaces.Discrete(2))
    assert spec.is_image and spec.obs_shape == (4, 8, 8)
    assert spec.encode_obs(np.full((2, 4, 8, 8), 200, np.uint8)).dtype == np.uint8


@pytest.mark.parametrize(
    ("obs", "action", "message"),
    [
        (spaces.Tuple([OBS]), BOX, "(?s)observation space .*FlattenObservation"),
        (OBS, spaces.Tuple([BOX]), "(?s)action space .* Wrap the environment"),
        (OBS, spaces.Box(-np.inf, np.inf, (2,)), "no finite bounds"),
        (OBS, spaces.Box(1.0, 1.0, (2,)), "no finite bounds"),
    ],
)
def test_other_spaces_are_refused_with_a_remedy(obs, action, message):
    with pytest.raises(UnsupportedSpace, match=message):
        Spec.from_spaces(obs, action)


def test_a_spec_survives_its_plain_form():
    import json

    spec = Spec.from_spaces(OBS, BOX)
    assert Spec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


@pytest.mark.parametrize(
    ("space", "one"),
    [
        (spaces.Box(-1, 1, (2, 1)), np.zeros((2, 1))),
        (spaces.Box(-1, 1, (3,)), np.zeros(3)),
        (spaces.Discrete(4), np.array(2)),
        (spaces.Box(0, 255, (84, 90, 3), np.uint8), np.zeros((84, 90, 3), np.uint8)),
    ],
)
def test_one_observation_is_told_from_a_batch(space, one):
    spec = Spec.from_spaces(space, spaces.Discrete(2))
    assert spec.is_single(one)
    assert not spec.is_single(np.stack([one, one]))
    assert spec.encode_obs(one, batched=False).shape == (1, *spec.obs_shape)


def test_images_with_channels_last_are_turned_into_channels_first_without_sharing_memory():
    spec = Spec.from_spaces(spaces.Box(0, 255, (40, 50, 1), np.uint8), spaces.Discrete(2))
    raw = np.arange(2 * 40 * 50, dtype=np.uint8).reshape(2, 40, 50, 1)
    encoded = spec.encode_obs(raw)
    assert spec.obs_shape == (1, 40, 50) and spec.channels_last
    assert (encoded[1, 0] == raw[1, :, :, 0]).all()
    assert not np.shares_memory(encoded, raw)
