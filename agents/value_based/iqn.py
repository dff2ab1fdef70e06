"""Implicit quantile network, with policies that seek or avoid risk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..core.config import Bounds, Count
from ..core.critics import at_action
from ..core.errors import InvalidSetting
from ..core.implicit import ImplicitQ, Risk
from ..core.spec import Spec
from .dqn import DQN, DQNConfig

LEVELS = {"cvar": Bounds(0.0, 1.0, low_included=False), "cpw": Bounds(0.0, 10.0, low_included=False)}
"""What `risk_level` may be beside 0; any number with `wang`."""


@dataclass(frozen=True)
class IQNConfig(DQNConfig):
    """Defaults: the paper's, otherwise DQN's."""

    quantiles: Count = 64
    """Fractions drawn per row for the loss, and as many for its target."""
    policy_quantiles: Count = 32
    """Fractions drawn per row to choose an action."""
    cosines: Count = 64
    """Cosines that represent a fraction."""
    risk: Risk = "neutral"
    """Which returns the policy looks at: all alike, the worst (cvar), a shift (wang), or as people do (cpw)."""
    risk_level: float = 0.0
    """Share of worst returns (cvar), shift (wang; below 0 = averse), exponent (cpw); 0 = 0.25, -0.75, 0.71."""

    def __post_init__(self) -> None:
        super().__post_init__()
        level, bounds = self.risk_level, LEVELS.get(self.risk)
        if level and self.risk == "neutral":
            raise InvalidSetting(f"risk_level = {level:g} means nothing to a neutral policy: leave risk_level out")
        if level and bounds is not None and not bounds.hold(level):
            raise InvalidSetting(
                f"the setting risk_level = {level:g} must be {bounds} with risk = '{self.risk}', or 0 for the usual one"
            )


class IQN(DQN, name="iqn"):
    """IQN (Dabney, Ostrovski, Silver, Munos 2018, arXiv 1806.06923): DQN with the return's quantile function.

        Z_tau(s, a)   the quantile at the fraction tau:  outputs(relu(mix(psi(s) * phi(tau))))
        phi(tau)      relu(W cos(pi i tau) + b), i = 1..cosines                                        (eq. 4)
        policy        argmax_a mean_k Z_{beta(tau_k)}(s, a),  tau_k ~ U(0, 1)
        loss          mean over rows of sum_i mean_j |tau_i - 1{u < 0}| Huber(u),
                      u = r + discount Zbar_{tau'_j}(s', a*) - Z_{tau_i}(s, a),  a* the policy's at s'  (eq. 3)
        beta(tau)     cvar e tau,   wang Phi(Phi^-1(tau) + e),   cpw tau^e / (tau^e + (1 - tau)^e)^(1/e)

    Departures from the paper: those of DQN; cosines are numbered from 1, as in the authors' code; the embedding is
    multiplied into the last hidden layer, and another of that width follows; deterministic actions use evenly spaced
    fractions instead of random ones.
    """

    config: IQNConfig = IQNConfig()

    def network(self, spec: Spec, c: Any) -> Any:
        noise = c.noise * c.noisy
        policy = (c.policy_quantiles, c.risk, c.risk_level)
        return ImplicitQ(spec, c.hidden, c.quantiles, *policy, c.cosines, c.dueling, noise)

    def next_output(self, obs: Tensor) -> Tensor:
        value = self.q(obs) if self.config.double else self.q_target(obs)
        return at_action(self.q_target.output(obs), value.argmax(1))
