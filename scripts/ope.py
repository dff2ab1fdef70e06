"""`bellmark ope RUN ... --data DATA`: judges checkpoints by recorded data, and how well that chooses among them."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tyro.conf import Positional

from ..agents.core.errors import InvalidSetting
from .checkpoints import Found, environment, paths, read, require_fit

Row = dict[str, Any]
NAMES = ("fqe", "is", "wis", "pdis", "wpdis", "dr", "wdr")
"""The estimators."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Estimates the discounted return of every checkpoint from data alone, and compares with the environment.

    fqe: fitted Q-evaluation, without a horizon. is, wis, pdis, wpdis: importance sampling, ordinary, weighted, per
    decision, both; dr, wdr: doubly robust with the values of fqe, fitted to the same episodes. These need the data's
    `infos/action_log_probs` or --behaviour, and a policy with a density: --stochastic, or discrete actions.
    """

    runs: Positional[tuple[str, ...]]
    """Run folders, of which every checkpoint is judged (see --keep-checkpoints of `train` and `fit`); checkpoints."""
    data: str
    """Data set: a D4RL id, or the path of a file."""
    out: str = "ope"
    """Folder for estimates.csv, selection.csv, calibration.png and protocol.json."""
    updates: int = 20_000
    """Updates of fitted Q-evaluation for each checkpoint."""
    learning_rate: float = 1e-4
    """Step size of these."""
    hidden: tuple[int, ...] = (256, 256)
    """Widths of its hidden layers."""
    gamma: float = 0.99
    """Discount of the returns that are estimated."""
    stochastic: bool = False
    """Judge the policies with their exploration."""
    behaviour: str = ""
    """Checkpoint whose policy stands for the one that recorded the data, such as one of `fit bc --gaussian`."""
    clip: float = 0.0
    """Bound of the ratio of probabilities in each step, for an estimated behaviour; 0 = none, unbiased."""
    episodes: int = 20
    """Whole episodes in the environment for the true value; 0 = none, only estimates."""
    env: str = ""
    """Environment of these; by default the one of the data."""
    env_kwargs: str = ""
    """Keywords of that environment as TOML."""
    seed: int = 0
    """Seed of the regression and of the episodes."""
    allow_unnormalized: bool = False
    """Take zips of stable-baselines3 that were trained with VecNormalize, whose statistics they lack."""
    device: str = "cpu"
    """Where networks and data live."""

    def __post_init__(self) -> None:
        bounds = {"updates": 1, "episodes": 0, "seed": 0, "clip": 0, "learning_rate": 0, "gamma": 0}
        for name, low in bounds.items():
            if not getattr(self, name) >= low:
                raise InvalidSetting(f"the option {name} = {getattr(self, name)} must be at least {low}")
        if not self.gamma <= 1.0:
            raise InvalidSetting(f"the option gamma = {self.gamma} must be at most 1")


def main(argv: list[str]) -> int:
    import tyro

    judge(tyro.cli(Arguments, args=argv[1:], prog="bellmark ope"))
    return 0


def judge(a: Arguments) -> list[Row]:
    """Judges, writes and prints; gives the rows of estimates.csv."""
    import torch

    from .. import dataset
    from ..offline import evaluation

    torch.set_num_threads(1)
    data = dataset(a.data, device=a.device)
    found = [read(path, a.device, a.allow_unnormalized) for word in a.runs for path in paths(word, True)]
    if not found:
        raise InvalidSetting("name at least one run folder or checkpoint to judge")
    behaviour = log_behaviour(a, data)
    baseline = float(evaluation.discounted_returns(data.buffer, a.gamma).mean())
    rows = []
    env = None
    if a.episodes and (a.env or data.env_id):
        kwargs = {} if a.env else data.env_kwargs
        settings = {"env_id": data.env_id, "num_envs": 1, "kwargs": kwargs}
        env = environment(a.env, a.env_kwargs, settings, min(10, a.episodes))
    try:
        for one in found:
            require_fit(one, data.spec, data.id)
            rows.append(estimates(a, one, data, behaviour, env))
            print(line(rows[-1]), flush=True)
    finally:
        if env is not None:
            env.close()
    for sentence in left_out(a, found, rows, behaviour):
        print(sentence)
    truth = [row.get("true", np.nan) for row in rows]
    selected = selection(rows, np.array(truth), baseline) if env is not None and len(rows) > 1 else []
    write(a, rows, selected, baseline, data)
    return rows


def log_behaviour(a: Arguments, data: Any) -> np.ndarray | None:
    """log b(a|s) of the data, recorded or estimated, if they are known."""
    from ..offline import evaluation

    if not a.behaviour:
        return evaluation.recorded_log_probs(data)
    one = read(paths(a.behaviour, False)[0], a.device, a.allow_unnormalized)
    require_fit(one, data.spec, data.id)
    rows = evaluation.trajectories(data.buffer).rows
    found = evaluation.judged_log_probs(one.agent, data.buffer, rows, deterministic=False)
    if found is None:
        raise InvalidSetting(f"{a.behaviour} has no density of actions: take an agent with a stochastic policy")
    return found


def estimates(a: Arguments, one: Found, data: Any, behaviour: np.ndarray | None, env: Any) -> Row:
    """What the data say of one checkpoint, and what the environment says."""
    import torch

    from ..agents.core.seeding import derive
    from ..offline import evaluation
    from ..offline.fqe import FQE
    from ..offline.importance import ESTIMATORS, effective_size, interval

    agent, deterministic = one.agent, not a.stochastic
    row: Row = {"checkpoint": str(one.path), "agent": agent.name, "steps": agent.steps, "updates": agent.updates}
    torch.manual_seed(derive(a.seed, "fitted Q-evaluation"))
    options: Row = {"gamma": a.gamma, "hidden": a.hidden, "learning_rate": a.learning_rate}
    fqe = FQE.of(agent, deterministic=deterministic, seed=a.seed, **options).fit(data, a.updates)
    row |= mean("fqe", fqe.initial_values(data.buffer))
    flat = evaluation.trajectories(data.buffer).rows
    judged = None if behaviour is None else evaluation.judged_log_probs(agent, data.buffer, flat, deterministic)
    if judged is not None and behaviour is not None:
        limit = np.log(a.clip) if a.clip else np.inf
        trials = evaluation.trials(data.buffer, behaviour, np.minimum(judged, behaviour + limit), fqe)
        with np.errstate(over="ignore", invalid="ignore"):
            for name, estimator in ESTIMATORS.items():
                row[name] = float(estimator(trials, a.gamma).mean())
                row[f"{name}_low"], row[f"{name}_high"] = interval(estimator, trials, a.gamma, resamples=200)
        row["effective_episodes"] = effective_size(trials)
    if env is not None:
        seed = derive(a.seed, "true value")
        returns = evaluation.true_returns(agent, env, a.episodes, seed, a.gamma, deterministic)
        row |= mean("true", returns) | {"true_episodes": len(returns)}
    return row


def mean(name: str, values: np.ndarray) -> Row:
    """The mean over episodes and its interval."""
    from ..offline.importance import bootstrap

    low, high = bootstrap(lambda rows: values[rows].mean(), len(values))
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def selection(rows: list[Row], truth: np.ndarray, baseline: float) -> list[Row]:
    """For each estimator and each k what the k best by it are truly worth."""
    from ..offline.selection import portfolio, spearman

    found = []
    for name in estimators(rows):
        estimate = np.array([row[name] for row in rows])
        top = portfolio(estimate, truth, baseline)
        for k in range(len(rows)):
            numbers = {f"{key}_at_k": float(values[k]) for key, values in top._asdict().items()}
            found.append({"estimator": name, "rank_correlation": spearman(estimate, truth), "k": k + 1} | numbers)
    return found


def estimators(rows: list[Row]) -> list[str]:
    """Those that gave a finite estimate of every checkpoint."""
    return [name for name in NAMES if all(np.isfinite(row.get(name, np.nan)) for row in rows)]


def left_out(a: Arguments, found: list[Found], rows: list[Row], behaviour: np.ndarray | None) -> list[str]:
    """What could not be estimated, and why, in sentences."""
    said = []
    for one, row in zip(found, rows, strict=True):
        if behaviour is None:
            why = "the data have no infos/action_log_probs: name the policy that recorded them with --behaviour"
        elif not a.stochastic:
            why = "a deterministic policy has no density: add --stochastic"
        else:
            why = f"the policy of '{one.agent.name}' has no density"
        if "is" not in row:
            said.append(f"importance sampling is left out: {why}")
        if names := [name for name in NAMES if not np.isfinite(row.get(name, 0.0))]:
            why = "its ratios are beyond all bounds, see --clip"
            if row.get("effective_episodes") == 0.0:
                why = "no episode of the data could be its own"
            said.append(f"{row['checkpoint']}: no estimate, so no ranking, by {', '.join(names)}: {why}")
    return [*dict.fromkeys(said)]


def line(row: Row) -> str:
    names = [name for name in (*NAMES, "true") if name in row]
    values = [f"{name} {row[name]:.4g} [{row[f'{name}_low']:.4g}, {row[f'{name}_high']:.4g}]" for name in names]
    size = f", {row['effective_episodes']:.1f} episodes count" if "effective_episodes" in row else ""
    return f"{row['checkpoint']}: {', '.join(values)}{size}"


def write(a: Arguments, rows: list[Row], selected: list[Row], baseline: float, data: Any) -> None:
    """The tables, the picture and the protocol."""
    from ..agents.core.checkpoint import versions
    from ..agents.core.files import write_atomically
    from .calibration import calibration

    folder = Path(a.out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("estimates", rows), ("selection", selected)):
        text = io.StringIO()
        columns = dict.fromkeys(key for row in table for key in row)
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_atomically(folder / f"{name}.csv", text.getvalue().encode())
    protocol = {"options": asdict(a), "data": data.describe(), "behaviour_value": baseline, "versions": versions()}
    protocol["standard_deviation"] = "std@k divides by k - 1"
    write_atomically(folder / "protocol.json", json.dumps(protocol, indent=2, default=str).encode())
    print(f"\nvalue of the data's own policy: {baseline:.4g} (mean discounted return, gamma {a.gamma})")
    for row in selected:
        if row["k"] in (1, 2, 3, 5, len(rows)):
            numbers = [f"{key} {row[f'{key}_at_k']:.4g}" for key in ("best", "worst", "regret", "sharpe_ratio")]
            correlation = f"rank correlation {row['rank_correlation']:.2f}"
            print(f"  {row['estimator']:<6} {correlation}, k = {row['k']}: {', '.join(numbers)}")
    if selected:
        calibration(folder / "calibration.png", rows, estimators(rows))
    print(f"written to {folder}")
