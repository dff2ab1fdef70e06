"""Critics: shapes, which columns are observation and action, and dueling on outputs."""

from __future__ import annotations

import pytest
import torch
from bellmark.agents.core.critics import DiscreteQ, Q, V, at_action
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
    """V 4, A [1, 2, 6] -> Q [2, 3, 7], on every output of the head."""
    from dataclasses import replace

    critic = DiscreteQ(replace(discrete, actions=3), (), dueling=True)
    with torch.no_grad():
        critic.last[0].weight.zero_()
        critic.last[0].bias.copy_(torch.tensor([4.0, 1, 2, 6]))
    assert critic(torch.randn(2, 3)).tolist() == [[2, 3, 7]] * 2


def test_dueling_goes_with_a_distribution(discrete):
    critic = DiscreteQ(discrete, (8,), Categorical(-1, 1, 5), dueling=True)
    obs = torch.randn(6, 3)
    raw = critic.last(critic.body(obs)).view(6, 5, 5)
    expected = raw[:, :1] + raw[:, 1:] - raw[:, 1:].mean(1, keepdim=True)
    torch.testing.assert_close(critic.output(obs), expected)
    assert critic(obs).shape == (6, 4)


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
