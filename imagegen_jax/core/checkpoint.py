"""Checkpoints, written by Orbax: complete or not there, verified when read, the newest good one used.

Each holds, beside the state, a fingerprint of every array, computed on the devices before the save and again after
the restore: a bit that changed on the disk is noticed, whatever the compression let through.
"""

from __future__ import annotations

import functools
import gc
import logging
import math
import pathlib
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, UInt32
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from imagegen_jax.core import compile as compiling


class CheckpointError(RuntimeError):
    """No checkpoint of a run can be used, or none can be written."""


class Best(NamedTuple):
    """Which checkpoint is the best: the one whose score of this name is."""

    name: str
    higher: bool  # whether a high score is good

    def loss(self, scores: Mapping[str, float]) -> float:
        """A number that is lowest for the best; inf where there is no such score."""
        score = scores.get(self.name, math.nan)
        return math.inf if not math.isfinite(score) else -score if self.higher else score


class Checkpoints:
    """The checkpoints in one folder, numbered by training step."""

    def __init__(self, folder: pathlib.Path, keep: int | None = None, best: Best | None = None) -> None:
        """`keep`: how many of the newest stay (None: all), and beside them the one with the best score."""
        self.folder, self._best = folder, best
        policies = [LatestN(keep)]
        if best:
            policies.append(BestN(get_metric_fn=best.loss, reverse=True, n=1, keep_checkpoints_without_metrics=False))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy(policies),
            best_fn=best.loss if best else None,
            best_mode="min",
            cleanup_tmp_directories=True,
        )
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def steps(self) -> list[int]:
        """The steps of the complete checkpoints, oldest first."""
        return sorted(self._manager.all_steps())

    def best_step(self) -> int | None:
        """The step with the best score; None where none has one."""
        assert self._best is not None
        losses = {step: self._best.loss(self._manager.metrics(step) or {}) for step in self.steps()}
        found = min(losses, key=lambda step: losses[step], default=None)
        return None if found is None or losses[found] == math.inf else found

    def save(self, step: int, tree: Any, scores: Mapping[str, float] | None = None) -> None:
        """Saves in the background; `wait` or the next save ends it. Does nothing where the step is there already.

        `scores` are what was measured of it.
        """
        if step in self._manager.all_steps():
            return
        prints = [int(n) for n in jax.device_get(fingerprint(tree))]
        items = {"state": ocp.args.StandardSave(tree), "fingerprint": ocp.args.JsonSave(prints)}
        try:
            metrics = dict(scores or {}) if self._best else None
            self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
        except (OSError, ValueError) as error:
            raise self._unwritten(step, error) from error

    def wait(self) -> None:
        """Returns when all that was saved is on the disk. Raises CheckpointError where it could not be written."""
        try:
            self._manager.wait_until_finished()
        except (OSError, ValueError) as error:
            raise self._unwritten(None, error) from error

    def _unwritten(self, step: int | None, error: Exception) -> CheckpointError:
        free = shutil.disk_usage(self.folder).free / 2**20
        which = "a checkpoint" if step is None else f"the checkpoint of step {step}"
        kept = f"the newest complete one is of step {max(self.steps())}" if self.steps() else "there is none yet"
        return CheckpointError(
            f"{which} could not be written to {self.folder} ({free:.0f} MiB free): {error}\n{kept}; make room or make "
            "the folder writable, then give the same command again"
        )

    def restore(
        self, like: Callable[[int], Any], repair: bool = False, steps: Sequence[int] | None = None
    ) -> tuple[int, Any] | None:
        """(step, tree) of the newest good checkpoint, of all or of `steps`; None where there is none at all.

        `like(step)` is a tree of `jax.ShapeDtypeStruct` with shardings. Damaged ones are named and passed over, and
        with `repair` moved to a folder "damaged" beside, so that their steps can be saved again. Raises
        CheckpointError where there are checkpoints and none of them is good.
        """
        damaged: dict[int, str] = {}
        for step in reversed(self.steps() if steps is None else steps):
            tree, reason = self._try_to_read(step, like(step))
            if reason:
                damaged[step] = reason
                print(f"checkpoint {self.folder / str(step)} is damaged: {reason}", file=sys.stderr)
                continue
            if damaged:
                print(f"using the checkpoint before it, of step {step}", file=sys.stderr)
                if repair:
                    self._put_aside(damaged)
            return step, tree
        if damaged:
            reasons = "".join(f"\n  step {step}: {why}" for step, why in damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read:{reasons}\nNothing was changed; to start anew, give "
                "another --workdir"
            )
        return None

    def _try_to_read(self, step: int, like: Any) -> tuple[Any, str]:
        """The tree of one checkpoint, or why it cannot be read."""
        try:
            return self.read(step, like), ""
        except Exception as error:  # whatever a damaged file makes a reader raise
            reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        # The other reads of a failed restore fail too, and asyncio would print each of them, pages long.
        logger, level = logging.getLogger("asyncio"), logging.getLogger("asyncio").level
        logger.setLevel(logging.CRITICAL + 1)
        gc.collect()
        logger.setLevel(level)
        return None, reason

    def read(self, step: int, like: Any) -> Any:
        """The tree of one checkpoint. Raises ValueError where an array differs from what was saved."""
        items = {"state": ocp.args.StandardRestore(like), "fingerprint": ocp.args.JsonRestore()}
        found = self._manager.restore(step, args=ocp.args.Composite(**items))
        wrong = np.flatnonzero(np.asarray(found["fingerprint"]) != jax.device_get(fingerprint(found["state"])))
        if len(wrong):
            path = jax.tree_util.keystr(jax.tree.leaves_with_path(found["state"])[wrong[0]][0])
            raise ValueError(f"{len(wrong)} arrays differ from what was saved, the first of them {path}")
        return found["state"]

    def _put_aside(self, damaged: dict[int, str]) -> None:
        if jax.process_index() == 0:
            for step in damaged:
                target = self.folder.parent / "damaged" / str(step)
                target.parent.mkdir(exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                (self.folder / str(step)).rename(target)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("damaged checkpoints put aside")
        self._manager.reload()

    def reached_preemption(self, step: int) -> bool:
        """Whether the cluster wants the run to stop; the same answer, at the same step, in every process."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits for saves under way and frees what the manager holds."""
        self._manager.close()


def fingerprint(tree: Any) -> UInt32[Array, " leaves"]:
    """A number for each array that changes with any of its bits: sum of odd weights times its words, modulo 2^32.

    Integer sums do not depend on their order, so neither does it depend on how the arrays are sharded.
    """
    return _fingerprint_program()(jax.tree.leaves(tree))


@functools.cache
def _fingerprint_program() -> Any:
    return compiling.jit(lambda arrays: jnp.stack([_word_sum(x) for x in arrays]))


def _word_sum(x: Array) -> UInt32[Array, ""]:
    words = x if x.dtype == jnp.bool_ else jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    words = words.astype(jnp.uint32).reshape(-1)
    weights = 2 * jnp.arange(len(words), dtype=jnp.uint32) + 1
    return jnp.sum(words * weights, dtype=jnp.uint32)


def abstract(tree: Any, shardings: Any) -> Any:
    """The shapes of a tree with where its arrays shall live: what `restore` wants."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
