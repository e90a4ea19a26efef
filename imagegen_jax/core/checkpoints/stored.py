"""Checkpoints for reading alone: nothing is written, made, moved or waited for.

So a run can be opened while it trains, and on a disk that cannot be written. Orbax's `CheckpointManager` is left to the
run that writes: it clears away the temporary folders that it finds, also those that another process is filling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from imagegen_jax.core.arrays.lora import base_of, has_pairs, with_pairs
from imagegen_jax.core.checkpoints.errors import CheckpointError, in_short
from imagegen_jax.core.checkpoints.fingerprint import fingerprint
from imagegen_jax.core.checkpoints.frozen_networks import FOLDER, FrozenNetworks, Sources, chosen, read_arrays
from imagegen_jax.core.checkpoints.hush import hush
from imagegen_jax.core.ema import with_average
from imagegen_jax.core.state import State, including, join, without

_NAMED = 3  # damaged checkpoints that a message names
_FLEETING = 20  # checkpoints in a row that may be deleted, by the run that writes them, while they are read


class Best(NamedTuple):
    """How the best checkpoint is chosen: by the score of this name."""

    name: str
    higher: bool  # whether a high score is good

    def loss(self, scores: Mapping[str, Any]) -> float:
        """Returns a number that is lowest for the best checkpoint; inf where there is no such score."""
        score = scores.get(self.name, math.nan)
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            return math.inf
        return -score if self.higher else score


class Restored(NamedTuple):
    """A checkpoint that could be read."""

    step: int
    tree: Any
    damaged: Mapping[int, str] = {}  # newer ones that could not, and why


class Stored:
    """The checkpoints in one folder, numbered by training step."""

    def __init__(self, folder: pathlib.Path, best: Best | None = None, sources: Sources | None = None) -> None:
        """Opens a folder; `best` chooses among the scores saved with checkpoints, `sources` is for `FrozenNetworks`."""
        self.folder, self._best = folder, best
        self._frozen = FrozenNetworks(folder.parent / FOLDER, sources)

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, oldest first; one that is being written has another name."""
        if not self.folder.is_dir():
            if self.folder.exists():
                raise CheckpointError(
                    f"{self.folder} is a file, but checkpoints are written to a folder of this name: move it away, and "
                    "bring back the folder where there was one"
                )
            return []
        names = [path.name for path in self.folder.iterdir() if path.name.isdecimal() and path.is_dir()]
        return sorted(int(name) for name in names if name == str(int(name)))

    def best_step(self) -> int | None:
        """Returns the step with the best score; None where none has one."""
        assert self._best is not None
        losses = {step: self._best.loss(self._scores(step)) for step in self.steps()}
        found = min(losses, key=lambda step: losses[step], default=None)
        return None if found is None or losses[found] == math.inf else found

    def _scores(self, step: int) -> Mapping[str, Any]:
        try:
            found = json.loads((self.folder / str(step) / "metrics" / "metrics").read_text())
        except (OSError, ValueError):  # it was saved without, is damaged, or was deleted just now
            return {}
        return found if isinstance(found, dict) else {}

    def restore(self, like: Callable[[int], Any], steps: Sequence[int] | None = None) -> Restored | None:
        """Reads the newest good checkpoint, of all or of `steps`; None where there is none at all.

        `like(step)` is a tree of `jax.ShapeDtypeStruct` with shardings. Damaged checkpoints are named and passed over;
        one that a live run deletes meanwhile, since newer ones take its place, is not taken for damaged. Raises
        CheckpointError where there are checkpoints and none of them is good, or where a frozen network that they go
        with is not.
        """
        return self.newest(lambda step: self.read(step, like(step)), steps)

    def newest(self, read: Callable[[int], Any], steps: Sequence[int] | None = None) -> Restored | None:
        """Returns what `read` makes of the newest checkpoint that it can read, as `restore` does."""
        damaged: dict[int, str] = {}
        fleeting = 0
        while untried := self._untried(steps, damaged):
            step = untried[-1]
            tree, reason = self._tried(read, step)
            if not reason:
                if damaged:
                    print(f"{self._text(damaged)}\nusing the checkpoint of step {step}", file=sys.stderr)
                return Restored(step, tree, damaged)
            if fleeting < _FLEETING and self._untried(steps, damaged) != untried:
                fleeting += 1
            else:
                damaged[step] = reason
        if damaged:
            others = [str(step) for step in self.steps() if step not in damaged]
            remedy = "none is left. Nothing was changed: restore one from a copy, or train anew in another folder"
            if others:
                remedy = f"those of steps {', '.join(others)} are left: choose one of them"
            raise CheckpointError(f"{self._text(damaged)}\n{remedy}")
        return None

    def _untried(self, steps: Sequence[int] | None, damaged: Mapping[int, str]) -> list[int]:
        return [step for step in self.steps() if step not in damaged and (steps is None or step in steps)]

    def _text(self, damaged: Mapping[int, str]) -> str:
        """Says what is wrong with the newest few damaged checkpoints, a line each."""
        lines = [f"checkpoint {self.folder / str(step)} is damaged: {why}" for step, why in damaged.items()]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        return "\n".join(lines[:_NAMED] + more)

    def _tried(self, read: Callable[[int], Any], step: int) -> tuple[Any, str]:
        """Returns what `read` makes of a checkpoint, and ""; or None, and why it cannot be read."""
        hush()
        try:
            return read(step), ""
        except CheckpointError:  # of a frozen network that all of them go with
            raise
        except Exception as error:  # whatever a damaged file makes a reader raise
            return None, in_short(error)

    def good(self, step: int, like: Any) -> Any:
        """Reads the tree of one checkpoint. Raises CheckpointError, with one line, where it cannot be read."""
        tree, reason = self._tried(lambda step: self.read(step, like), step)
        if reason:
            raise CheckpointError(self._text({step: reason}))
        return tree

    def read(self, step: int, like: Any) -> Any:
        """Reads the tree of one checkpoint. Raises ValueError where an array differs from what was saved."""
        import orbax.checkpoint as ocp  # takes as long to import as all of this package: only a reader waits for it

        words, frozen = self._prints(step)
        wanted = without(like, frozen) if frozen else like
        with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as reader:
            place = (self.folder / str(step)).resolve()
            found = reader.restore(place, args=ocp.args.Composite(state=ocp.args.StandardRestore(wanted)))["state"]
        _compare(words, found)
        if not frozen:
            return found
        shapes = join(like.params, like.stats)
        return including(
            found, {network: self._frozen.read(network, name, shapes[network]) for network, name in frozen.items()}
        )

    def read_network(self, step: int, network: str, average: str | None) -> tuple[Any, list[str]]:
        """Reads one network out of a checkpoint of a `State`, as `average` keeps it, without knowing its structure.

        Returns its collections as NumPy arrays (None where it is not there), and the names of all networks. Low-rank
        pairs have become part of its weights. Raises ValueError where an array differs from what was saved.
        """
        found, names = self._read_network(step, network, average)
        if found is not None and has_pairs(found):
            base, _ = self._read_network(step, base_of(network), None)
            found = jax.device_get(with_pairs(found, base))
        return found, [name for name in names if name not in map(base_of, names)]

    def _read_network(self, step: int, network: str, average: str | None) -> tuple[Any, list[str]]:
        """Reads one network as it is in the checkpoint."""
        import orbax.checkpoint as ocp

        words, frozen = self._prints(step)
        path = self.folder / str(step) / "state"
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
            tree = reader.metadata(path.resolve()).tree
        names = sorted({*tree["stats"], *tree["params"], *frozen})
        if network in frozen:
            return self._frozen.read(network, frozen[network], None), names
        if network not in names:
            return None, names
        averaged = tree.get("ema", {}).get(network, {}).get(average, {})
        parts: list[tuple[str, ...]] = [("stats", network)]
        parts += [("ema", network, average)] if average and averaged else []
        parts += [] if "params" in averaged else [("params", network)]
        found = read_arrays(path, parts)
        _compare([words[at] for at in jax.tree.leaves(chosen(_places(tree), parts))], found)
        nets = join(found.get("params", {}), {network: {}} | found.get("stats", {}))
        kept = found.get("ema", {}).get(network, {}).get(average, {})
        return kept | with_average(nets[network], kept), names

    def _prints(self, step: int) -> tuple[list[int], dict[str, str]]:
        """Reads the fingerprints of a checkpoint's arrays, and the folder of each frozen network that goes with it."""
        found = json.loads((self.folder / str(step) / "fingerprint" / "metadata").read_text("utf-8"))
        return (found["words"], found["frozen"]) if isinstance(found, dict) else (found, {})


def _compare(words: Sequence[int], tree: Any) -> None:
    """Raises ValueError where the arrays of a tree have other fingerprints than they were saved with."""
    wrong = np.flatnonzero(np.asarray(words) != jax.device_get(fingerprint(tree)))
    if len(wrong):
        path = jax.tree_util.keystr(jax.tree.leaves_with_path(tree)[wrong[0]][0])
        raise ValueError(f"{len(wrong)} arrays differ from what was saved, the first of them {path}")


def _places(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns where each array's fingerprint is in the list: a state's parts come in the order of its fields."""
    places, start = {}, 0
    for part in (field.name for field in dataclasses.fields(State)):
        leaves, structure = jax.tree.flatten(tree.get(part, {}))
        places[part] = jax.tree.unflatten(structure, range(start, start + len(leaves)))
        start += len(leaves)
    return places
