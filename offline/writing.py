"""Writes transitions as HDF5 of D4RL's schema, and as a Minari set."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..agents.core.errors import InvalidSetting, MissingExtra
from ..agents.core.files import replacing
from .sources import env_keywords

if TYPE_CHECKING:
    from .collect import Columns


def write_d4rl(path: str | Path, parts: Iterable[Columns], metadata: Mapping[str, Any]) -> None:
    """Writes `parts`, one after the other, to a new file at `path`, or nothing.

    Arrays are compressed by gzip. A column must be in every part; one that is not in the first is left out. `metadata`
    holds plain values. Raises InvalidSetting if there is no transition, or a part lacks a column.
    """
    import h5py

    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        count = 0
        for columns in parts:
            for name, values in columns.items():
                if not count:
                    values = values[:0]
                    file.create_dataset(
                        name, values.shape, values.dtype, maxshape=(None, *values.shape[1:]), chunks=True,
                        compression="gzip", shuffle=True,
                    )  # fmt: skip
            stored = [name for name in _names(file) if name in columns]
            if len(stored) < len(_names(file)):
                lacking = sorted(set(_names(file)) - set(stored))
                for name in lacking:  # such as the log-probabilities of one policy among others
                    del file[name]
            added = len(columns["rewards"])
            for name in stored:
                file[name].resize(count + added, axis=0)
                file[name][count:] = columns[name]
            count += added
        if not count:
            raise InvalidSetting(f"there is no transition to write to {path}: record some first")
        group = file.create_group("metadata")
        for name, value in metadata.items():
            group[name] = value


def _names(file: Any) -> list[str]:
    import h5py

    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def columns_of(file: Any) -> Columns:
    """All columns of a file that `write_d4rl` wrote."""
    return {name: file[name][()] for name in _names(file) if not name.startswith("metadata/")}


def episodes_of(parts: Iterable[Columns]) -> Iterable[Columns]:
    """The columns of each episode; an episode ends in a terminal or timeout row, and with its part."""
    for columns in parts:
        ended = columns["terminals"] | columns["timeouts"]
        ended[-1] = True
        cuts = np.flatnonzero(ended)[:-1] + 1
        pieces = {name: np.split(values, cuts) for name, values in columns.items()}
        yield from (dict(zip(pieces, rows, strict=True)) for rows in zip(*pieces.values(), strict=True))


def write_minari(dataset_id: str, parts: Iterable[Columns], env_id: str, metadata: Mapping[str, Any]) -> None:
    """Writes `parts` as the local Minari set `dataset_id`, such as `hopper/medium-v0`, in its HDF5 format.

    It names the environment `env_id`, with the horizon that `env_settings` in `metadata` states. Raises MissingExtra
    without minari, InvalidSetting for an id that is taken or is none.
    """
    import gymnasium

    try:
        import minari
        from minari.data_collector import EpisodeBuffer
    except ImportError as error:
        raise MissingExtra("minari", "minari") from error
    buffers = [
        EpisodeBuffer(
            id=number,
            observations=np.concatenate([rows["observations"], rows["next_observations"][-1:]]),
            actions=rows["actions"],
            rewards=rows["rewards"],
            terminations=rows["terminals"],
            truncations=rows["timeouts"],
            infos={name.removeprefix("infos/"): rows[name] for name in rows if name.startswith("infos/")},
        )
        for number, rows in enumerate(episodes_of(parts))
    ]
    horizon, _ = env_keywords(metadata, env_id)
    environment = dataclasses.replace(gymnasium.spec(env_id), max_episode_steps=horizon) if horizon else env_id
    try:
        with warnings.catch_warnings():  # about an author's address and the like, and old versions of environments
            warnings.simplefilter("ignore")
            minari.create_dataset_from_buffers(
                dataset_id,
                buffers,
                env=environment,
                algorithm_name=str(metadata.get("agents", "")),
                description=", ".join(f"{name}: {value}" for name, value in metadata.items()),
                data_format="hdf5",
                jpeg_encoding=False,
            )
    except ValueError as error:
        raise InvalidSetting(f"the Minari set '{dataset_id}' cannot be written: {error}") from error
