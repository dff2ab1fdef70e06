"""Conservative Q-learning, CQL(rho)."""

from __future__ import annotations

from torch import Tensor

from ..agents.core.batch import Batch
from .cql import CQL


class CQLRho(CQL, name="cql_rho"):
    """CQL(rho) (Kumar et al. 2020, arXiv 2006.04779) as in the authors' code ("version 2").

        gap_e     = log (exp Q_e(s, a) + sum_i exp Q_e(s, a_i)) - Q_e(s, a)

    The samples, and the recorded action among them, count without their densities, so the penalty is a mean under a
    softmax of values of what the policy and the uniform law propose.

    Departures from the authors' code are those of CQL.
    """

    def pushed_down(self, batch: Batch, value: Tensor, log_density: Tensor) -> Tensor:
        return value.logsumexp(-1)
