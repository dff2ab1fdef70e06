"""`bellmark rerun RUN`: repeats a whole run from what its manifest.json says, and compares."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from tyro.conf import Positional

from ..agents.core.errors import InvalidCheckpoint
from . import differences, fit, resume, train
from .run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Repeats a run from its manifest.json alone, up to its last checkpoint, and compares all numbers."""

    run: Positional[str]
    """The run folder."""
    into: str = ""
    """Folder of the repeated run; by default RUN-rerun."""
    env: str = ""
    """Its environment, where that is one of a module of your own (module:Env-v0), so that it may be imported."""
    progress: bool = True
    """Show a progress bar in a terminal, and lines elsewhere."""


def main(argv: list[str]) -> int:
    import tyro

    return rerun(tyro.cli(Arguments, args=argv[1:], prog="bellmark rerun"), argv)


def rerun(arguments: Arguments, argv: list[str]) -> int:
    """Returns 0 for a run that is the same as the first. Raises RunExists for a folder that is not empty."""
    from ..agents.core import checkpoint

    old, new = RunFolder(arguments.run), RunFolder(arguments.into or f"{arguments.run.rstrip('/')}-rerun")
    manifest = old.manifest()
    old.lock.refuse()
    changes = manifest["changes"] or []
    clock = resume.read(old.last, "cpu").extra["clock"] if old.last.exists() else None
    stops = [*(change["clock"] for change in changes), clock]
    status = begin(manifest, arguments, str(new), argv, stops[0])
    for change, stop in zip(changes, stops[1:], strict=True):
        if status == 0:
            plan = {"steps": change["steps"], "device": change["device"]}
            again = resume.Arguments(run=str(new), env=arguments.env, progress=arguments.progress, **plan)
            status = resume.resume(again, stop)
    if status:
        return status
    names = (old.progress, new.progress), (old.evaluations, new.evaluations)
    ends = [checkpoint.read(folder.last) for folder in (old, new) if folder.last.exists()]
    until = min(end[0]["extra"]["clock"] for end in ends)
    what, found = [], []
    for table, other in names:
        count, different = differences.tables(other.path, table.path, until)
        what.append(f"{count} rows of {table.path.name}")
        found += different
    if len(ends) == 2:
        what.append(f"{len(ends[0][1])} tensors of {old.last.name}")
        found += differences.checkpoints(ends[1], ends[0])
    return differences.verdict(f"{new}, up to {until:,}: {', '.join(what)}", found, manifest)


def begin(manifest: dict[str, Any], arguments: Arguments, folder: str, argv: list[str], stop: int | None) -> int:
    """What the first command of the run did."""
    from ..agents.core import checkpoint
    from ..agents.core.registry import agent_class

    name = manifest["agent"]
    config = agent_class(name).config.from_dict(manifest["settings"])
    if manifest["spec"]:
        checkpoint.plan(manifest, "cpu")  # refuses absurd sizes
    options = dataclasses.replace(resume.recorded(manifest), run=folder, progress=arguments.progress, wandb="")
    if manifest["kind"] == "train":
        if manifest["env"] is None:
            raise InvalidCheckpoint(f"{arguments.run} was trained in an environment that cannot be made again")
        resume.allow(arguments.env, manifest["env"])
        return train.train(name, options, config, argv, stop=stop, env_settings=manifest["env"])
    chosen = resume.data_options(manifest)
    return fit.fit(name, options, chosen, config, argv, stop=stop, sha256=manifest["data"]["sha256"])
