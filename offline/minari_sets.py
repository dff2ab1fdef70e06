"""Reads local Minari sets through the `minari` library, in a process of its own as `hdf5` does.

What is trusted: the library, and nothing in the set. A set names an environment, wrappers and entry points, which the
library imports to find out spaces that are not stated, and when it makes the environment; so a set that does not state
its spaces is refused, no environment is made, and only its id and its horizon are taken over. Links and foreign filters
are refused before the library opens the file. Sets in HDF5 are read, those in Arrow or Parquet are not.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.errors import InvalidData, MissingExtra
from . import d4rl, hdf5
from .recording import Recording

METADATA, DATA = "metadata.json", "main_data.hdf5"
LONGEST = 10_000_000
"""Greatest size in bytes of a set's description."""
TAKEN = ("algorithm_name", "description", "dataset_id", "minari_version")
"""Texts that are taken over from it."""


def root() -> Path:
    """Where Minari keeps its sets: the folder in the variable MINARI_DATASETS_PATH, or `~/.minari/datasets`."""
    return Path(os.environ.get("MINARI_DATASETS_PATH") or "~/.minari/datasets").expanduser()


def is_id(name: str) -> bool:
    """Whether this may be the id of a Minari set, as `mujoco/hopper/expert-v0`."""
    return re.fullmatch(r"[-\w]+(/[-\w]+)+-v\d+", name) is not None


def folder(name: str) -> Path | None:
    """The folder with the description of a set, from its own path or from a local id; None if there is none."""
    places = [Path(name).expanduser(), root() / name]
    found = [place for start in places for place in (start, start / "data") if (place / METADATA).is_file()]
    return found[0] if found else None


def description(path: Path) -> dict[str, Any]:
    """What a set says about itself. Raises InvalidData if that cannot be read, or is too little to be read safely."""
    try:
        with (path / METADATA).open("rb") as file:
            found = json.loads(file.read(LONGEST))
    except OSError as error:
        raise InvalidData(f"{path / METADATA} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{path / METADATA} is truncated or damaged ({error}): download the set again") from error
    if not isinstance(found, dict):
        raise InvalidData(f"{path / METADATA} describes no Minari set: it must be a JSON object")
    if found.get("data_format") != "hdf5":
        raise InvalidData(f"{path} is in the format {found.get('data_format')!r}: only Minari's 'hdf5' can be read")
    if any(not isinstance(found.get(key), str) for key in ("observation_space", "action_space")):
        raise InvalidData(
            f"{path} does not state its spaces, and Minari would run the environment that it names to find them: "
            "create it again with observation_space and action_space"
        )
    return found


def dataset_id(path: Path) -> str:
    """The id that a set states, or the name of its folder."""
    stated = description(path).get("dataset_id")
    return stated if isinstance(stated, str) and stated else path.name


def read(path: Path) -> Recording:
    """The transitions of the set in the folder `path`. Raises InvalidData, or MissingExtra without minari."""
    if importlib.util.find_spec("minari") is None:
        raise MissingExtra("minari", "minari")
    found = d4rl.read(path, reader=partial(hdf5.read, reader=__name__))
    return found._replace(boundaries=found.boundaries.replace("terminals and timeouts", "terminations and truncations"))


def answer(path: str, names: Sequence[str], load: bool, whole: bool = True) -> Iterator[hdf5.Message]:
    """What the child finds, as `hdf5.answer`: the columns of D4RL's schema."""
    try:
        described = description(Path(path))
        size = _check(os.path.join(path, DATA))
        hdf5.require_memory(3 * size, path)
        yield {"size": 3 * size}, None
        columns = _columns(path, described)
        for name, values in columns.items():
            yield {"column": name, "dtype": values.dtype.str, "shape": values.shape}, None
            if load:
                yield {"block": name, "first": 0, "rows": len(values)}, values
        texts = {key: described[key][: hdf5.TEXT] for key in TAKEN if isinstance(described.get(key), str)}
        yield {"metadata": texts | _environment(described), "names": sorted(columns)}, None
    except InvalidData as error:
        yield {"error": str(error)}, None
    except Exception as error:  # minari, h5py and numpy raise almost anything for a damaged set
        yield {"error": f"{path} is no sound Minari set ({error!r}): download it again"}, None


def _check(path: str) -> int:
    """The bytes of all arrays in the file. Raises InvalidData for links, and for arrays that lie elsewhere."""
    import h5py

    sizes, problems = [], []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            reason = hdf5.obstacle(item)
            if reason and not (reason.startswith("must be an array of numbers") and "/infos" in name):
                problems.append(f"{path}: '{name}' {reason}")
            sizes.append(item.size * max(item.dtype.itemsize, 4))

    def link(name: str, found: Any) -> None:
        if not isinstance(found, h5py.HardLink):
            problems.append(f"{path}: '{name}' is a link, which is not followed: write the array itself into the file")

    with h5py.File(path, "r") as file:
        file.visititems_links(link)
        if not problems:
            file.visititems(look)
    if problems:
        raise InvalidData(problems[0])
    return sum(sizes)


def _columns(path: str, described: dict[str, Any]) -> dict[str, np.ndarray]:
    """All episodes, one after the other. Dictionary observations become the flat vectors that agents see."""
    from gymnasium.spaces import Dict
    from minari.dataset.minari_storage import MinariStorage

    from ..agents.core.spec import Spec

    storage = MinariStorage.read(path)
    count = described.get("total_episodes")
    if type(count) is not int or count < 1:
        raise InvalidData(f"{path} holds {count!r} episodes: record some")
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*d4rl.NEEDED, *d4rl.OPTIONAL)}
    for number, episode in enumerate(storage.get_episodes(range(count))):
        obs = episode["observations"]
        if isinstance(storage.observation_space, Dict):
            obs = Spec.from_spaces(storage.observation_space, storage.action_space).encode_obs(obs)
        obs, action = np.asarray(obs), np.asarray(episode["actions"])
        reward, terminated, truncated = (np.asarray(episode[key]) for key in ("rewards", "terminations", "truncations"))
        lengths = {len(action), len(terminated), len(truncated), len(obs) - 1}
        if lengths != {len(reward)} or not len(reward):
            raise InvalidData(f"{path}: episode {number} has arrays of unequal lengths, or none: record it again")
        truncated = truncated.astype(bool)
        truncated[-1] |= not terminated[-1]  # left off
        values = (obs[:-1], action, reward, terminated.astype(bool), truncated, obs[1:])
        for name, column in zip(found, values, strict=True):
            found[name].append(column.astype(np.float32) if column.dtype.kind == "f" else column)
    return {name: np.ascontiguousarray(np.concatenate(columns)) for name, columns in found.items()}


def _environment(described: dict[str, Any]) -> dict[str, str | int]:
    """The id of the environment that the set names, and its horizon, as metadata: a text and a number."""
    for key in ("eval_env_spec", "env_spec"):
        try:
            stated = json.loads(described[key])
            name, horizon = stated["id"], stated.get("max_episode_steps")
        except (KeyError, TypeError, ValueError, RecursionError, AttributeError):
            continue
        if isinstance(name, str):
            return {"environment": name} | ({"max_episode_steps": horizon} if type(horizon) is int else {})
    return {}


if __name__ == "__main__":
    hdf5.serve(answer)
