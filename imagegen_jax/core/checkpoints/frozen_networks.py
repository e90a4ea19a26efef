"""The frozen networks of a run: kept once beside its checkpoints, in folders that are named by their fingerprints.

A checkpoint says which of these folders it goes with, so that each array of a state is what it was when it was saved.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from imagegen_jax.core.arrays.lora import network_of
from imagegen_jax.core.checkpoints.errors import CheckpointError, in_short
from imagegen_jax.core.checkpoints.fingerprint import digest_of, fingerprint
from imagegen_jax.core.checkpoints.hush import hush
from imagegen_jax.core.model import Variables

FOLDER = "frozen"  # beside the folder of checkpoints
REMEDY = f"Copy the folder {FOLDER!r} here from where the run was made, or from a copy of it"

Sources = Mapping[str, Callable[[], Variables | None]]  # network -> what reads it where it came from


class FrozenNetworks:
    """The frozen networks in one folder."""

    def __init__(self, folder: pathlib.Path, sources: Sources | None = None) -> None:
        """Opens a folder, which is made with the first network; `sources` read networks where they came from."""
        self.folder, self._sources = folder, sources or {}
        self._kept: set[str] = set()  # by this process

    def keep(self, network: str, variables: Any, words: Sequence[int]) -> str:
        """Writes the collections of a network, unless they are there, and returns the name of their folder.

        `words` are the fingerprints of their arrays. Returns when all is on the disk; of many processes, all call it.
        """
        name = _name(network, variables, words)
        if name not in self._kept and not _agreed((self.folder / name).is_dir()):
            import orbax.checkpoint as ocp  # here and below: it is slow to import, and not all who import this need it

            hush()
            if jax.process_index() == 0:
                for partial in self.folder.glob("*.orbax-checkpoint-tmp*"):  # of a process that was killed
                    shutil.rmtree(partial, ignore_errors=True)
            with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as writer:
                writer.save((self.folder / name).resolve(), args=ocp.args.StandardSave(variables))
        self._kept.add(name)
        return name

    def read(self, network: str, name: str, like: Any) -> Any:
        """Reads the network in the folder `name`; `like` are shapes with shardings, or None for arrays on the host.

        Where it is missing, it is read where it came from. Raises CheckpointError where that holds other weights now,
        and where the fingerprint is not the one in its name.
        """
        path = self.folder / name
        if not path.is_dir():
            return self._made_anew(network, name, like)
        hush()
        try:
            found = _read(path, like)
            words = jax.device_get(fingerprint(found))
            wrong = "" if _name(network, found, words) == name else "its arrays differ from what was saved"
        except Exception as error:  # whatever a damaged file makes a reader raise
            found, wrong = None, in_short(error)
        if wrong:
            raise CheckpointError(
                f"{path}, the frozen network {network!r}, is damaged: {wrong}\nEvery checkpoint of the run goes with "
                f"it. {REMEDY}; without that folder it is read from pretrained[{network_of(network)!r}] again"
            )
        return found

    def _made_anew(self, network: str, name: str, like: Any) -> Any:
        """Reads a network where it came from, if that still holds the same weights; does not write them here."""
        why = "nothing says where it came from"
        try:
            given = self._sources[network]() if network in self._sources and like is not None else None
            if given is not None:
                found = jax.tree.map(placed, wanted_part(given, like), like)
                if _name(network, found, jax.device_get(fingerprint(found))) == name:
                    print(
                        f"{self.folder / name} is missing; read from pretrained[{network_of(network)!r}] again",
                        file=sys.stderr,
                    )
                    return found
                why = f"pretrained[{network_of(network)!r}] holds other weights now"
        except Exception as error:  # whatever is wrong with what it came from
            why = f"pretrained[{network_of(network)!r}] cannot be read ({in_short(error)})"
        raise CheckpointError(
            f"{self.folder / name} is missing, the frozen network {network!r} that the checkpoints of this run go with "
            f"and do not hold, and {why}. {REMEDY}"
        )


def wanted_part(given: Any, like: Any) -> Any:
    """Returns the arrays of `given` whose paths are those of `like`, where it has all of these; else `given` itself.

    Others' files hold more than what is wanted of a frozen network, such as the layers of a classifier above it.
    """
    if not isinstance(like, Mapping):
        return given
    if not isinstance(given, Mapping) or not like.keys() <= given.keys():
        return given
    return {name: wanted_part(given[name], part) for name, part in like.items()}


def placed(new: Any, like: Any) -> jax.Array:
    """Puts the values of `new` where `like`, an array or its shape, lives; each process fills its own devices.

    Raises ValueError where the shapes differ.
    """
    host = np.asarray(new, like.dtype)
    if host.shape != like.shape:
        raise ValueError(f"an array of the shape {host.shape} where one of {like.shape} was")
    return jax.make_array_from_callback(like.shape, like.sharding, lambda index: host[index])


def _read(path: pathlib.Path, like: Any) -> Any:
    if like is None:
        return read_arrays(path, None)
    import orbax.checkpoint as ocp

    with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as reader:
        return reader.restore(path.resolve(), args=ocp.args.StandardRestore(like))


def read_arrays(path: pathlib.Path, parts: Sequence[tuple[str, ...]] | None) -> Any:
    """Reads a saved tree, or only the `parts` of it at some paths, as NumPy arrays, without knowing its structure."""
    import orbax.checkpoint as ocp

    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path.resolve()).tree
        tree = tree if parts is None else chosen(tree, parts)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        how = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        args = ocp.args.PyTreeRestore(item=shapes, restore_args=how, partial_restore=True)
        return reader.restore(path.resolve(), args=args)


def chosen(tree: Mapping[str, Any], parts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Returns the branches of a tree of dictionaries at some paths alone; leaves out a path that leads nowhere."""
    found: dict[str, Any] = {}
    for first in dict.fromkeys(path[0] for path in parts if path[0] in tree):
        rest = [path[1:] for path in parts if path[0] == first]
        branch = tree[first] if () in rest else chosen(tree[first], rest)
        if branch or () in rest:
            found[first] = branch
    return found


def _name(network: str, variables: Any, words: Sequence[int]) -> str:
    """Returns a folder's name: the network's, and what stands for its arrays."""
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', network)}-{digest_of(variables, words)}"


def _agreed(here: bool) -> bool:
    """Returns what the first process sees: the others may see a change on a shared disk a little later."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.bool_(here)))
