"""The frozen networks of a run: kept once beside its checkpoints, in folders that are named by their fingerprints.

A checkpoint says which of these folders it goes with, so that each array of a state is what it was when it was saved.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from imagegen_jax.core.errors import CheckpointError, in_short
from imagegen_jax.core.fingerprint import fingerprint
from imagegen_jax.core.hush import hush

FOLDER = "frozen"  # beside the folder of checkpoints


class FrozenNetworks:
    """The frozen networks in one folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Nothing is made before the first network is kept."""
        self.folder = folder
        self._kept: set[str] = set()  # by this process

    def keep(self, network: str, variables: Any, words: Sequence[int]) -> str:
        """Writes the collections of a network, unless they are there, and returns the name of their folder.

        `words` are the fingerprints of their arrays. Returns when all is on the disk; of many processes, all call it.
        """
        name = _name(network, variables, words)
        if name not in self._kept and not _agreed((self.folder / name).is_dir()):
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

        Raises CheckpointError where it is missing, or its fingerprint is not the one in its name.
        """
        path = self.folder / name
        if not path.is_dir():
            raise CheckpointError(
                f"{path} is missing: it holds the frozen network {network!r}, which the checkpoints of this run go "
                f"with and do not hold; copy the folder {self.folder.name!r} here from where the run was made"
            )
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
                "it: restore that folder from a copy of the run"
            )
        return found


def _read(path: pathlib.Path, like: Any) -> Any:
    if like is None:
        return read_arrays(path, None)
    with contextlib.closing(ocp.Checkpointer(ocp.StandardCheckpointHandler())) as reader:
        return reader.restore(path.resolve(), args=ocp.args.StandardRestore(like))


def read_arrays(path: pathlib.Path, parts: Sequence[tuple[str, ...]] | None) -> Any:
    """Reads a saved tree as it lies there, as NumPy arrays; `parts`: these paths of it alone. Asks for no structure."""
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(path.resolve()).tree
        tree = tree if parts is None else chosen(tree, parts)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
        how = jax.tree.map(lambda x: ocp.RestoreArgs(restore_type=np.ndarray), tree)
        args = ocp.args.PyTreeRestore(item=shapes, restore_args=how, partial_restore=True)
        return reader.restore(path.resolve(), args=args)


def chosen(tree: Mapping[str, Any], parts: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    """Returns a tree of dictionaries with the branches at some paths alone; of a path that leads nowhere, nothing."""
    found: dict[str, Any] = {}
    for first in dict.fromkeys(path[0] for path in parts if path[0] in tree):
        rest = [path[1:] for path in parts if path[0] == first]
        found[first] = tree[first] if () in rest else chosen(tree[first], rest)
    return found


def _name(network: str, variables: Any, words: Sequence[int]) -> str:
    """The network's name and a digest of its arrays' paths, shapes, types and fingerprints."""
    leaves = jax.tree.leaves_with_path(dict(variables))
    facts = [
        [jax.tree_util.keystr(path), list(x.shape), str(x.dtype), int(word)]
        for (path, x), word in zip(leaves, words, strict=True)
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    return f"{re.sub('[^A-Za-z0-9_.-]', '_', network)}-{digest}"


def _agreed(here: bool) -> bool:
    """What the first process sees: disks that several machines share may show the others a little later."""
    if jax.process_count() == 1:
        return here
    from jax.experimental import multihost_utils

    return bool(multihost_utils.broadcast_one_to_all(np.bool_(here)))
