"""Checkpoints, written by Orbax: complete or not there, verified when read, the newest good one used.

Each holds, beside the state, a fingerprint of every array, computed on the devices before the save and again after
the restore: a bit that changed on the disk is noticed, whatever the compression let through.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax

from imagegen_jax.core.checkpoints.errors import CheckpointError, in_short
from imagegen_jax.core.checkpoints.fingerprint import check_finite, prints
from imagegen_jax.core.checkpoints.frozen_networks import FOLDER, FrozenNetworks, Sources
from imagegen_jax.core.checkpoints.hush import hush
from imagegen_jax.core.checkpoints.stored import Best, Restored, Stored
from imagegen_jax.core.state import State, join, without

if TYPE_CHECKING:  # it takes as long to import as all of this package: only a run that saves waits for it
    import orbax.checkpoint as ocp


class Checkpoints:
    """The checkpoints in one folder, for the run that writes them. For reading alone there is `Stored`."""

    def __init__(
        self, folder: pathlib.Path, keep: int | None = None, best: Best | None = None, frozen: Sources | None = None
    ) -> None:
        """Keeps the `keep` newest checkpoints (None: all), and beside them the one with the best score.

        `frozen` are the networks of a `State` that are kept once, in a folder beside this one, and in no checkpoint.
        Nothing is made, moved or cleared away before the first save.
        """
        self.folder, self._keep, self._best = folder, keep, best
        self._frozen, self._once = tuple(frozen or ()), FrozenNetworks(folder.parent / FOLDER)
        self._stored = Stored(folder, best, frozen)
        self._damaged: Mapping[int, str] = {}
        self._opened: ocp.CheckpointManager | None = None
        self._saving: int | None = None  # the step that is being written in the background

    @property
    def _manager(self) -> ocp.CheckpointManager:
        if self._opened is None:
            import orbax.checkpoint as ocp
            from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

            self._put_aside()
            hush()
            policies: list[Any] = [LatestN(self._keep)]
            if best := self._best:
                kept = BestN(get_metric_fn=best.loss, reverse=True, n=1, keep_checkpoints_without_metrics=False)
                policies.append(kept)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy(policies),
                best_fn=best.loss if best else None,
                best_mode="min",
                cleanup_tmp_directories=True,
            )
            self._opened = ocp.CheckpointManager(self.folder.resolve(), options=options)
        return self._opened

    def steps(self) -> list[int]:
        """Returns the steps of the complete checkpoints, oldest first."""
        return self._stored.steps()

    def save(self, step: int, tree: Any, scores: Mapping[str, float] | None = None) -> None:
        """Saves a tree in the background, unless the step is there already; `wait` or the next save ends it.

        `scores` are what was measured at this step. Raises NonFiniteError, before anything is written, where the tree
        holds NaN or infinities, and CheckpointError where this checkpoint or the one before cannot be written.
        """
        self.wait()
        if step in self._manager.all_steps():
            return
        found = prints(tree)
        kept = f"{self.newest().capitalize()}; a lower rate, clip_norm or a longer warm-up may help"
        check_finite(tree, f"the checkpoint of step {step:,} was not written", kept, found.finite)
        words = [int(n) for n in jax.device_get(found.words)]
        self._saving = step
        self._written(lambda: self._save(step, tree, words, scores))

    def _save(self, step: int, tree: Any, words: list[int], scores: Mapping[str, float] | None) -> None:
        """Saves a tree whose fingerprints are `words`; frozen networks come first, since the checkpoint names them."""
        import orbax.checkpoint as ocp

        note: Any = words
        if self._frozen:
            tree, note = self._apart(tree, words)
        items = {"state": ocp.args.StandardSave(tree), "fingerprint": ocp.args.JsonSave(note)}
        metrics = dict(scores or {}) if self._best else None
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def _apart(self, state: State, words: list[int]) -> tuple[State, dict[str, Any]]:
        """Writes the frozen networks of a state; returns the rest of it, and what its checkpoint says of both."""
        every = jax.tree.unflatten(jax.tree.structure(state), words)
        nets, prints_of = join(state.params, state.stats), join(every.params, every.stats)
        names = {name: self._once.keep(name, nets[name], jax.tree.leaves(prints_of[name])) for name in self._frozen}
        return without(state, names), {"words": jax.tree.leaves(without(every, names)), "frozen": names}

    def wait(self) -> None:
        """Waits until all that was saved is on the disk. Raises CheckpointError where it could not be written."""
        if self._opened is not None:
            self._written(self._opened.wait_until_finished)

    def _written(self, write: Callable[[], Any]) -> None:
        """Calls a function that writes; whatever it raises becomes a CheckpointError."""
        try:
            write()
        except Exception as error:  # Orbax wraps what the disk says in errors of many kinds
            raise self._unwritten(error) from error

    def _unwritten(self, error: Exception) -> CheckpointError:
        free = shutil.disk_usage(self.folder).free / 2**20
        return CheckpointError(
            f"the checkpoint of step {self._saving:,} could not be written to {self.folder} ({free:.0f} MiB free): "
            f"{in_short(error)}\n{self.newest()}; make room or make the folder writable, then give the same command "
            "again"
        )

    def newest(self) -> str:
        """Says which complete checkpoint is the newest."""
        steps = self.steps()
        return f"the newest complete checkpoint is of step {steps[-1]:,}" if steps else "there is no checkpoint yet"

    def restore(self, like: Callable[[int], Any]) -> Restored | None:
        """Reads the newest good checkpoint, as `Stored.restore` does.

        The first save then moves damaged ones into a folder "damaged" beside this one, so that their steps can be saved
        again.
        """
        found = self._stored.restore(like)
        self._damaged = found.damaged if found else {}
        return found

    def _put_aside(self) -> None:
        if jax.process_index() == 0:
            for step in self._damaged:
                target = self.folder.parent / "damaged" / str(step)
                target.parent.mkdir(exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)
                (self.folder / str(step)).rename(target)
        if jax.process_count() > 1:
            from jax.experimental import multihost_utils

            multihost_utils.sync_global_devices("damaged checkpoints put aside")

    def reached_preemption(self, step: int) -> bool:
        """Tells whether the cluster wants the run to stop: the same answer, at the same step, in every process."""
        return self._manager.reached_preemption(step)

    def close(self) -> None:
        """Waits for the save that is under way, and frees what the manager holds."""
        if self._opened is not None:
            self._written(self._opened.close)


def abstract(tree: Any, shardings: Any) -> Any:
    """Returns the shapes of a tree, with the places where its arrays shall live: what `restore` wants."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)
