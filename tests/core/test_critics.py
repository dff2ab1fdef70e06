"""Critics: shapes, which columns are observation and action, and dueling on outputs."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.critics import DiscreteQ, Q, V, at_action
from bellmark.agents.core.errors import InvalidSetting
from bellmark.agents.core.heads import Categorical
from bellmark.agents.core.nets import orthogonal_init
from bellmark.agents.core.spec import Spec


def test_state_value(continuous):
    critic = V(continuous, (8, 8), init=orthogonal_init(), last_init=orthogonal_init(0.5))
    obs = torch.randn(5, 3)
    assert critic(obs).shape == (5,)
    torch.testing.assert_close(critic(obs), critic.last(critic.body(obs))[:, 0])
    assert critic.last[0].weight.square().sum().item() == pytest.approx(0.25)


def test_action_values_are_one_row_a_member(continuous):
    critic = Q(continuous, (8,), size=3)
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    assert critic(obs, action).shape == (3, 5)
    torch.testing.assert_close(critic(obs, action), critic.net(torch.cat([obs, action], 1))[..., 0])
    assert (critic(obs, action)[0] - critic(obs, action)[1]).abs().min() > 0


def test_a_categorical_critic_gives_means(continuous):
    head = Categorical(-1, 1, 5)
    critic = Q(continuous, (8,), size=2, head=head)
    obs, action = torch.randn(4, 3), torch.randn(4, 2)
    assert critic.output(obs, action).shape == (2, 4, 5)
    torch.testing.assert_close(critic(obs, action), head.mean(critic.output(obs, action)))


def test_dueling_of_the_card(discrete):
    """V 4, A [1, 2, 6] -> Q [2, 3, 7], each from a stream of its own."""
    from dataclasses import replace

    critic = DiscreteQ(replace(discrete, actions=3), (8,), dueling=True)
    with torch.no_grad():
        for stream, value in ((critic.last.state[0], [4.0]), (critic.last.advantage[0], [1.0, 2, 6])):
            assert stream.weight.shape == (8, len(value)), "the last hidden layer is twice as wide"
            stream.weight.zero_()
            stream.bias.copy_(torch.tensor(value))
    assert critic(torch.randn(2, 3)).tolist() == [[2, 3, 7]] * 2
    with pytest.raises(InvalidSetting, match="give hidden at least one layer"):
        DiscreteQ(discrete, (), dueling=True)


@pytest.mark.parametrize("size", [None, 2])
def test_dueling_goes_with_a_distribution(discrete, size):
    critic = DiscreteQ(discrete, (8,), Categorical(-1, 1, 5), dueling=True, size=size)
    obs = torch.randn(6, 3)
    state, advantage = critic.body(obs).split(8, -1)
    raw = critic.last.advantage(advantage).unflatten(-1, (4, 5))
    expected = critic.last.state(state).unsqueeze(-2) + raw - raw.mean(-2, keepdim=True)
    torch.testing.assert_close(critic.output(obs), expected)
    assert critic(obs).shape == ((6, 4) if size is None else (2, 6, 4))


@pytest.mark.parametrize("spec", [Spec((3,), 4, True), Spec((2, 10, 10), 4, True, obs_dtype="uint8")])
def test_an_ensemble_of_action_values_is_separate_networks(spec):
    """Each member's values depend on its own parameters alone."""
    critic = DiscreteQ(spec, (8,), size=3)
    obs = torch.rand(5, 3) if not spec.is_image else torch.randint(256, (5, 2, 10, 10), dtype=torch.uint8)
    values = critic(obs)
    assert values.shape == (3, 5, 4)
    gradients = torch.autograd.grad(values[1].sum(), [*critic.parameters()], allow_unused=True, retain_graph=True)
    touched = sum(g is not None and bool(g.any()) for g in gradients)
    assert touched == (4 if not spec.is_image else 6), "weights and biases of every layer, of one member"
    for parameter, gradient in zip(critic.parameters(), gradients, strict=True):
        if gradient is not None and len(parameter) == 3 and parameter.ndim in (2, 3):
            assert not gradient[0].any()
            assert not gradient[2].any()
    assert (values[0] - values[1]).abs().min() > 0


def test_plain_action_values(discrete):
    critic, obs = DiscreteQ(discrete, (8,)), torch.randn(6, 3)
    torch.testing.assert_close(critic(obs), critic.last(critic.body(obs)))


def test_the_rows_of_the_chosen_actions():
    output = torch.arange(24).view(3, 4, 2)
    assert at_action(output, torch.tensor([0, 3, 1])).tolist() == [[0, 1], [14, 15], [18, 19]]


@pytest.mark.parametrize("head", [None, Categorical(-3, 3, 11)])
def test_the_first_of_an_ensemble_alone_is_the_first_of_all(head):
    critic = Q(Spec((3,), 2, False), (16, 16), size=4, head=head, layer_norm=True)
    obs, action = torch.randn(7, 3), torch.randn(7, 2, requires_grad=True)
    alone, all_of_them = critic.first(obs, action), critic(obs, action)
    torch.testing.assert_close(alone, all_of_them[0])
    (ours,), (theirs,) = (torch.autograd.grad(value.sum(), action) for value in (alone, all_of_them[0]))
    torch.testing.assert_close(ours, theirs)
