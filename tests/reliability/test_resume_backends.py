"""Every agent goes on exactly in a fresh process, or says that it cannot, whatever runs its environments."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from bellmark.agents.core import checkpoint
from bellmark.envs import make
from helpers import CASES, ENVS, goes_online, supports
from test_resume import HALF, UNTIL, StopAt, compare, file_of, online, resume_in_child


class Backend(NamedTuple):
    """How environments are made."""

    ids: dict[bool, str]
    """Ids for agents with discrete and with continuous actions."""
    options: dict[str, Any] = {"num_envs": 2}
    """Of `make`."""
    settings: dict[str, Any] = {}
    """Of the agents."""
    needs: str = "gymnasium"
    resume: str = "exact"
    """What the manifest says; with "new episodes", because the state of the environments cannot be had."""

    def make(self, discrete: bool) -> Any:
        return make(self.ids[discrete], **self.options)

    def cases(self, most: int) -> list[tuple[str, bool]]:
        """Agents that can be in them, with the kind of their actions: evenly chosen, about `most`."""
        found = []
        for discrete in self.ids:
            with self.make(discrete) as env:
                alike = [case for case in CASES if case[1] == discrete and goes_online(case[0])]
                found += [case for case in alike if supports(case[0], env.spec)]
        return found[:: -(-len(found) // most)]


BACKENDS = {
    "sync, classic control": Backend(ENVS),
    "sync, MuJoCo": Backend({False: "HalfCheetah-v5"}),
    "sync, Atari (ALE)": Backend({True: "ALE/Pong-v5"}, {"num_envs": 1}, {"normalize_obs": False}, "ale_py"),
    "async": Backend(ENVS, {"num_envs": 2, "backend": "async"}),
    "envpool": Backend(ENVS, {"num_envs": 2, "backend": "envpool"}, {}, "envpool", "new episodes"),
}


def test_resume(tmp_path, count, record):
    """Half in this process and half in a fresh one, against the whole in this one."""
    backends = {label: backend for label, backend in BACKENDS.items() if find_spec(backend.needs)}
    cases = {label: backend.cases(count(1, len(CASES))) for label, backend in backends.items()}
    said: dict[str, set[str]] = {label: set() for label in backends}
    for label, backend in backends.items():
        for name, discrete in cases[label]:
            file = tmp_path / f"{file_of(name, discrete, label)}.bell"
            with backend.make(discrete) as env:
                agent = online(name, discrete, [StopAt(HALF)], env, **backend.settings)
                agent.save(file, buffer=True, env=True, extra={"online": True, "until": UNTIL})
            said[label].add(checkpoint.read(file)[0]["resume"])
    resume_in_child(tmp_path)
    wrong = []
    for label, backend in backends.items():
        before = len(wrong)
        for name, discrete in cases[label]:
            try:
                check(tmp_path, backend, name, discrete, file_of(name, discrete, label))
            except AssertionError as error:
                wrong.append(f"{name}, {label}: {error}")
        done, lost, names = len(cases[label]), len(wrong) - before, dict.fromkeys(name for name, _ in cases[label])
        note = f"{min(said[label]).partition(' (')[0]}: {', '.join(names)}"
        record("resume in a fresh process", label, done, done - lost, lost, note)
        assert {text.partition(":")[0] for text in said[label]} == {backend.resume}
    assert wrong == []


def check(folder: Path, backend: Backend, name: str, discrete: bool, file: str) -> None:
    """What the fresh process has made of `file` is the whole training, or, with new episodes, one of its length."""
    if backend.resume != "exact":
        assert not (folder / f"{file}.error").exists(), (folder / f"{file}.error").read_text()
        assert checkpoint.read(folder / f"{file}.done")[0]["counters"]["steps"] >= UNTIL
        return
    with backend.make(discrete) as env:
        compare(online(name, discrete, env=env, **backend.settings), folder, file)
