"""Checkpoints as who only reads them sees them: nothing is written, made, moved or waited for.

So a run can be opened while it trains, and on a disk that cannot be written. Orbax's `CheckpointManager` is left to the
run that writes: it clears away the temporary folders that it finds, also those that another process is filling.
"""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from imagegen_jax.core.fingerprint import fingerprint
from imagegen_jax.core.hush import hush

_LONG = 300  # characters of a reason
_NAMED = 3  # damaged checkpoints that a message names
_FLEETING = 20  # checkpoints in a row that may be deleted, by the run that writes them, while they are read


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be used, or none can be written."""


class Best(NamedTuple):
    """Which checkpoint is the best: the one whose score of this name is."""

    name: str
    higher: bool  # whether a high score is good

    def loss(self, scores: Mapping[str, Any]) -> float:
        """Returns a number that is lowest for the best; inf where there is no such score."""
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

    def __init__(self, folder: pathlib.Path, best: Best | None = None) -> None:
        """`best`: which of the scores saved with them the best one is chosen by."""
        self.folder, self._best = folder, best

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, oldest first; one that is being written has another name."""
        if not self.folder.is_dir():
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

        `like(step)` is a tree of `jax.ShapeDtypeStruct` with shardings. Damaged ones are named and passed over; those
        that a live run deletes meanwhile, as newer ones take their places, are no damage. Raises CheckpointError where
        there are checkpoints and none of them is good.
        """
        damaged: dict[int, str] = {}
        fleeting = 0
        while untried := self._untried(steps, damaged):
            step = untried[-1]
            tree, reason = self._try_to_read(step, like(step))
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
        """What is wrong, a line a checkpoint, the newest few of them."""
        lines = [f"checkpoint {self.folder / str(step)} is damaged: {why}" for step, why in damaged.items()]
        more = [f"and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
        return "\n".join(lines[:_NAMED] + more)

    def _try_to_read(self, step: int, like: Any) -> tuple[Any, str]:
        """The tree of one checkpoint, or why it cannot be read."""
        hush()
        try:
            return self.read(step, like), ""
        except Exception as error:  # whatever a damaged file makes a reader raise
            return None, in_short(error)

    def good(self, step: int, like: Any) -> Any:
        """Reads the tree of one checkpoint. Raises CheckpointError, of a line, where it cannot be read."""
        tree, reason = self._try_to_read(step, like)
        if reason:
            raise CheckpointError(self._text({step: reason}))
        return tree

    def read(self, step: int, like: Any) -> Any:
        """Reads the tree of one checkpoint. Raises ValueError where an array differs from what was saved."""
        import orbax.checkpoint as ocp  # takes as long to import as all of this package: only who reads waits for it

        items = {"state": ocp.args.StandardRestore(like), "fingerprint": ocp.args.JsonRestore()}
        with contextlib.closing(ocp.Checkpointer(ocp.CompositeCheckpointHandler())) as reader:
            found = reader.restore((self.folder / str(step)).resolve(), args=ocp.args.Composite(**items))
        wrong = np.flatnonzero(np.asarray(found["fingerprint"]) != jax.device_get(fingerprint(found["state"])))
        if len(wrong):
            path = jax.tree_util.keystr(jax.tree.leaves_with_path(found["state"])[wrong[0]][0])
            raise ValueError(f"{len(wrong)} arrays differ from what was saved, the first of them {path}")
        return found["state"]


def in_short(error: BaseException) -> str:
    """Returns the first line of what an error says, cut in the middle where it is long; without words, its kind."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    line = re.split(r" \[[\w ]+(?:\[\d+\])?=", line)[0]  # TensorStore adds all its settings
    return line if len(line) <= _LONG else f"{line[: _LONG // 3]} ... {line[-2 * _LONG // 3 :]}"
