"""`bellmark doctor ENV_ID`: what is wrong with an environment, before anything is trained in it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from tyro.conf import Positional

from ..agents.core.errors import BellmarkError, UnsupportedSpace
from . import arguments as words
from .outcome import FAILED


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Checks an environment: spaces, types, seeds, episode ends, rewards, observations, speed. Status 1 = wrong."""

    env: Positional[str]
    """An id that gymnasium knows, module:Env-v0 (the module registers the id), or module:Env (a class or function)."""
    steps: int = 2000
    """Random steps to take."""
    seed: int = 0
    """Seed of the random actions and of the environment."""
    env_kwargs: str = ""
    """Keywords of the environment as TOML, such as "sticky_actions = 0.0"."""


@dataclass(frozen=True)
class Finding:
    """One sentence about an environment."""

    grade: str
    """`ok`, `note` (it works, but look at it) or `wrong`."""
    what: str
    text: str


def main(argv: list[str]) -> int:
    import tyro

    return doctor(tyro.cli(Arguments, args=argv[1:], prog="bellmark doctor"))


def doctor(arguments: Arguments) -> int:
    """Prints what was found; 1 if something is wrong."""
    findings = examine(partial(create, arguments.env, **words.keywords(arguments.env_kwargs)), arguments)
    for finding in findings:
        print(f"  {finding.grade:<6} {finding.what:<13} {finding.text}")
    wrong = sum(finding.grade == "wrong" for finding in findings)
    notes = sum(finding.grade == "note" for finding in findings)
    verdict = f"{wrong} things are wrong" if wrong > 1 else "1 thing is wrong" if wrong else "it can be trained in"
    print(f"{arguments.env}: {verdict}" + (f", {notes} to look at" if notes else ""))
    return FAILED if wrong else 0


def create(name: str, **kwargs: Any) -> Any:
    """The single environment that training would use, but with its observations as they are.

    Raises UnknownName, MissingExtra, and what the environment raises.
    """
    import importlib

    from ..envs.flat import FlatObs
    from ..envs.making import make_one

    module, _, attribute = name.partition(":")
    if attribute:
        sys.path.insert(0, "") if "" not in sys.path else None
        made = getattr(importlib.import_module(module), attribute, None)
        if callable(made):
            return made(**kwargs)
    env = make_one(name, kwargs)
    return env.env if isinstance(env, FlatObs) else env


def examine(create: Callable[[], Any], arguments: Arguments) -> list[Finding]:
    """All findings, in the order of the checks. A check that cannot go on ends them."""
    from . import examinations, random_play

    findings: list[Finding] = []
    report: random_play.Report = lambda grade, what, text: findings.append(Finding(grade, what, text))  # noqa: E731
    try:
        env = create()
    except BellmarkError:
        raise
    except Exception as error:
        report("wrong", "making it", f"it raises {error!r}")
        return findings
    try:
        spec = random_play.spaces(env, report)
        steps = random_play.play(env, arguments.steps, arguments.seed, report)
        for check in (examinations.episodes, examinations.rewards, examinations.observations):
            check(env, steps, report)
        examinations.seeding(create, steps, arguments.seed, report)
        examinations.training(create, spec, arguments.steps, report)
    except UnsupportedSpace as error:
        report("wrong", "spaces", str(error))
    except random_play.Stopped:
        pass
    finally:
        env.close()
    return findings
