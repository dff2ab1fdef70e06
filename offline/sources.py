"""From a name to a recording: which file is meant, of which format it is, and what environment it is from."""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..agents.core.container import parse
from ..agents.core.errors import InvalidData
from . import d4rl, download, hdf5, minari_sets, npz
from .options import Options
from .recording import Recording
from .scores import Reference, find, references, unknown


def locate(name_or_path: str | os.PathLike[str], chosen: Options) -> tuple[str, Path, Reference | None]:
    """The id, the file (in the cache folder if not here; downloaded if need be), and its reference returns.

    A file whose name is D4RL's own is taken for D4RL's; any other gets the reference returns of the task in its name.
    A Minari set is the folder of that id under Minari's, or any folder of its layout.
    """
    name, path = os.fspath(name_or_path), Path(name_or_path).expanduser()
    if not path.is_file() and (download.cache_folder() / name).is_file():
        path = download.cache_folder() / name
    if path.is_file():
        same_name = [row for row in references().values() if row.url.rpartition("/")[2] == path.name]
        reference = find(path.stem) or (same_name[0] if len(same_name) == 1 else None)
        name = reference.id if reference and reference.id else path.stem
    elif name in references():
        reference = references()[name]
        path = download.local_file(reference)
    elif (folder := minari_sets.folder(name)) is not None:
        name, path, reference = minari_sets.dataset_id(folder), folder, None
    elif minari_sets.is_id(name) and not path.suffix:
        raise InvalidData(
            f"there is no file {path}, and no Minari set of that id in {minari_sets.root()}: `minari download {name}` "
            "fetches one; or give the path of an HDF5 or npz file, or a D4RL id such as hopper-medium-v2"
        )
    elif path.suffix or len(path.parts) > 1:
        raise InvalidData(
            f"there is no file {path}: give the path of an HDF5 or npz file, or a D4RL id such as hopper-medium-v2"
        )
    else:
        raise unknown("HDF5 file or D4RL data set", name, references())
    if chosen.task and (reference := find(chosen.task)) is None:
        raise unknown("D4RL task", chosen.task, {row.task for row in references().values()})
    return name, path, None if reference is None or np.isnan(reference.ref_min) else reference


def sha256(path: Path) -> str:
    """SHA-256 of a file's content in hexadecimal; of a folder, that of the list of its files and their hashes."""
    if not path.is_dir():
        digest = download.file_sha256(path)
        download.verify(path, digest)
        return digest
    files = sorted(file for file in path.rglob("*") if file.is_file())
    lines = [f"{download.file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read(path: Path, max_episode_steps: int = 0, allocate: hdf5.Allocate = hdf5.in_memory) -> Recording:
    """The recording in a file or folder, whose columns are put into what `allocate` gives. Raises InvalidData."""
    if path.is_dir():
        return minari_sets.read(path)
    with path.open("rb") as file:
        zipped = file.read(len(npz.SIGNATURE)) == npz.SIGNATURE
    return d4rl.read(path, max_episode_steps, allocate=allocate, reader=npz.read if zipped else None)


def environment(recording: Recording, chosen: Options, reference: Reference | None) -> str:
    """What the user chose, or the file names (first word of `metadata/environment`), or D4RL's counterpart.

    None, with a warning, if gymnasium would import a module to find the one in the file: a file runs no code.
    """
    if chosen.env_id is not None:
        return chosen.env_id
    stated = str(recording.metadata.get("environment", "")).replace(",", " ").split()
    if not stated:
        return reference.env_id if reference else ""
    module, colon, _ = stated[0].rpartition(":")
    if colon and module not in sys.modules:
        allow = f"give env_id={stated[0]!r} to allow that"
        warnings.warn(f"no evaluation on these data: {stated[0]} imports '{module}', {allow}", stacklevel=4)
        return ""
    return stated[0]


def env_keywords(metadata: Mapping[str, str | int | float], env_id: str) -> tuple[int, list[str]]:
    """With which keywords the data's environment `env_id` was made: its horizon, and the names of the others.

    `bellmark collect` states them all, a Minari set the horizon. That is 0 where none was chosen. Nothing else is taken
    over: a file may not shape environments.
    """
    from ..envs import atari, for_evaluation, minatar

    same = metadata.get("environment") == env_id
    found: dict[str, Any] = {"max_episode_steps": metadata.get("max_episode_steps")} if same else {}
    if "env_settings" in metadata:
        try:
            settings = for_evaluation(parse(str(metadata["env_settings"])))
            kwargs = settings["kwargs"] if settings["env_id"] == env_id else {}
            found = {name: value for name, value in kwargs.items() if name.isidentifier()}
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            return 0, []
    usual = minatar.PROTOCOL if env_id.startswith("MinAtar/") else {}
    usual = atari.AtariSettings().to_dict() if atari.is_atari(env_id) else usual
    others = {name for name, value in found.items() if usual.get(name) != value}
    horizon = found.get("max_episode_steps")
    if type(horizon) is not int or horizon < 1 or atari.is_atari(env_id):
        return 0, sorted(others)
    return horizon, sorted(others - {"max_episode_steps"})
