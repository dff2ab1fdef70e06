"""Advantages and multi-step targets: pure functions, time first.

All take `reward`, `discount` = gamma (1 - terminated) and `trace` (0 where the episode ends for any reason or the next
row is no transition) of shape `[T, N]`, and values `[T + 1, N]`. What stands in rows after an episode's end, even NaN,
never reaches a result.
"""

from __future__ import annotations

import torch
from torch import Tensor


def backward(delta: Tensor, decay: Tensor) -> Tensor:
    """x_t = delta_t + decay_t x_{t+1}, x_T = 0. Where decay is 0, what follows is cut off, even NaN.

    By doubling: after k rounds each row has summed up 2^k rows, so that T rows take log2 T rounds, not T.
    """
    cut, result, span = decay == 0, delta, 1
    while span < len(delta):
        add = (decay[:-span] * result[span:]).masked_fill_(cut[:-span], 0.0)
        result = torch.cat([result[:-span] + add, result[-span:]])
        product = (decay[:-span] * decay[span:]).masked_fill_(cut[:-span], 0.0)
        decay = torch.cat([product, torch.zeros_like(decay[-span:])])
        cut, span = decay == 0, 2 * span
    return result


def forward(delta: Tensor, decay: Tensor, carried: Tensor) -> Tensor:
    """x_t = delta_t + decay_t x_{t-1}, x_{-1} = `carried` `[N]`."""
    first = delta[:1] + (decay[:1] * carried).masked_fill_(decay[:1] == 0, 0.0)
    return backward(torch.cat([first, delta[1:]]).flip(0), decay.flip(0)).flip(0)


def bootstrapped(reward: Tensor, discount: Tensor, next_value: Tensor) -> Tensor:
    """reward + discount next_value, where a zero discount hides next_value even if it is NaN."""
    return reward + torch.where(discount == 0, 0.0, discount * next_value)


def gae(reward: Tensor, discount: Tensor, trace: Tensor, value: Tensor, lam: float) -> Tensor:
    """Generalised advantage estimate `[T, N]` (Schulman et al. 2016, eq. 16).

    A_t = delta_t + gamma lambda trace_t A_{t+1}, delta_t = r_t + discount_t V_{t+1} - V_t.
    """
    delta = bootstrapped(reward, discount, value[1:]) - value[:-1]
    return backward(delta, lam * discount * trace)


def lambda_returns(reward: Tensor, discount: Tensor, trace: Tensor, value: Tensor, lam: float) -> Tensor:
    """TD(lambda) targets `[T, N]`: G_t = A_t + V_t. lambda 0 gives one-step targets, 1 Monte-Carlo returns."""
    return gae(reward, discount, trace, value, lam) + value[:-1]


def n_step_returns(reward: Tensor, discount: Tensor, trace: Tensor, value: Tensor, n_step: int) -> Tensor:
    """Sum of up to `n_step` discounted rewards of the same episode, then the value where the window ends, `[T, N]`."""
    result = bootstrapped(reward, discount, value[1:])
    for _ in range(1, n_step):  # prolong every window by one row at its front
        longer = torch.cat([result[1:], torch.zeros_like(result[:1])])
        going_on = torch.cat([trace[:-1], torch.zeros_like(trace[:1])])  # the last row has no row to go on with
        result = torch.where(going_on == 0, bootstrapped(reward, discount, value[1:]), reward + discount * longer)
    return result


def v_trace(
    reward: Tensor,
    discount: Tensor,
    trace: Tensor,
    value: Tensor,
    ratio: Tensor,
    lam: float = 1.0,
    clip_rho: float = 1.0,
    clip_c: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace value targets and policy-gradient advantages, `[T, N]` each (Espeholt et al. 2018, eq. 1).

    `ratio` is pi(a|s) / mu(a|s). v_t = V_t + rho_t delta_t + discount_t c_t trace_t (v_{t+1} - V_{t+1}).
    """
    rho, c = ratio.clamp(max=clip_rho), lam * ratio.clamp(max=clip_c)
    delta = rho * (bootstrapped(reward, discount, value[1:]) - value[:-1])
    target = backward(delta, discount * trace * c) + value[:-1]
    next_target = torch.where(trace == 0, value[1:], torch.cat([target[1:], value[-1:]]))
    return target, rho * (bootstrapped(reward, discount, next_target) - value[:-1])


def retrace(
    reward: Tensor, discount: Tensor, trace: Tensor, q: Tensor, next_value: Tensor, ratio: Tensor, lam: float = 1.0
) -> Tensor:
    """Retrace(lambda) targets for Q(s_t, a_t), `[T, N]` (Munos et al. 2016, eq. 3-4).

    q `[T, N]` = Q(s_t, a_t); next_value `[T, N]` = E_pi Q(s_{t+1}, .); ratio `[T, N]` = pi(a_t|s_t) / mu(a_t|s_t).
    The coefficient of the *next* action, c_{t+1} = lambda min(1, ratio_{t+1}), carries the correction back.
    """
    delta = bootstrapped(reward, discount, next_value) - q
    c = torch.cat([lam * ratio[1:].clamp(max=1.0), torch.zeros_like(ratio[:1])])
    return q + backward(delta, torch.where(trace == 0, 0.0, discount * c))
