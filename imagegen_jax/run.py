"""Runs as a library sees them: train one (`fit`), open one (`load`), draw from one (`Run.sample`)."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from imagegen_jax.core import folder, program
from imagegen_jax.core.checkpoint import CheckpointError, Checkpoints, abstract
from imagegen_jax.core.ema import reconstruct, reconstruction_weights
from imagegen_jax.core.experiment import Experiment, power_averages
from imagegen_jax.core.frozen import FrozenMap
from imagegen_jax.core.loop import train
from imagegen_jax.core.shard import MeshShape, mesh_of, state_sharding
from imagegen_jax.core.state import State, networks, split
from imagegen_jax.diffusion.guidances import AnyGuidance, ClassifierFree
from imagegen_jax.diffusion.guided import Guided

Path = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Run:
    """A run at some step: its experiment and its state."""

    experiment: Experiment
    state: State
    workdir: pathlib.Path

    @property
    def step(self) -> int:
        """Completed training steps."""
        return int(self.state.step)

    @property
    def nets(self) -> dict[str, dict[str, Any]]:
        """The networks as sampling sees them: the first moving average where there is one."""
        return networks(self.state, self.experiment.step_spec.average)

    def sample(
        self,
        n: int,
        labels: Sequence[int] | np.ndarray | None = None,
        seed: int = 0,
        chunk: int = 256,
        **conditions: Any,
    ) -> np.ndarray:
        """`n` images, uint8 [n h w c]; the same for the same seed, n and chunk.

        A class-conditional model wants one label an image. Further conditions, such as a guidance scale, are arrays
        with `n` rows or scalars. A model that makes images from others wants them (`source`, uint8 [n h w c]); where
        they are not given, they are the first `n` of the data it was trained on, in the order of `seed`. Raises
        ValueError for labels that the model does not know, or lacks.
        """
        return np.concatenate(list(self.sample_chunks(n, labels, seed, chunk, **conditions)))

    def sample_chunks(
        self,
        n: int,
        labels: Sequence[int] | np.ndarray | None = None,
        seed: int = 0,
        chunk: int = 256,
        start: int = 0,
        **conditions: Any,
    ) -> Iterator[np.ndarray]:
        """The images of `sample` from row `start` on, `chunk` at a time; `start` is a whole number of chunks."""
        model = self.experiment.model
        given = program.label_conditions(labels) | {name: np.asarray(value) for name, value in conditions.items()}
        completed = program.completed(given, model, self.experiment.data.open, n, seed)
        return program.sample_chunks(model, self.nets, n, seed, completed, chunk, start)

    def with_average(self, name: str | None) -> Run:
        """This run with another of its averages as the one that sampling reads; "none": the last step's weights.

        Raises ValueError where it keeps no such average.
        """
        averages = self.experiment.averages
        if name is None:
            return self
        if name != "none" and name not in averages:
            raise ValueError(f"average {name!r}: this run keeps {', '.join(averages) or 'none'}; or say 'none'")
        ordered = {} if name == "none" else {name: averages[name], **averages}
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, averages=FrozenMap(ordered)))

    def guided_by(self, guide: Run) -> Run:
        """This run with its samples guided by the networks of another: `sample(n, labels, guidance=2.0)`.

        `guide` is a run of a classifier of noisy images, or of a denoiser that is weaker than this one, such as a
        smaller one that was trained less; see `diffusion.guided.Guided` for what guidance of 0 and 1 are. What the
        scale does is this model's own `guidance` where it has that field, and else classifier-free. The guide counts
        with the average that its own sampling reads. Raises ValueError where the two do not go together.
        """
        own = getattr(self.experiment.model, "guidance", None)
        own = own if isinstance(own, AnyGuidance) else ClassifierFree()  # a MeanFlow's is a number, of its training
        model = Guided(self.experiment.model, guide.experiment.model, own)
        nets = jax.device_put(guide.nets, state_sharding(mesh_of(self.nets), guide.nets))
        params, stats = split(model.joined({}, nets))
        state = self.state.replace(params=self.state.params | params, stats=self.state.stats | stats)
        return dataclasses.replace(self, experiment=dataclasses.replace(self.experiment, model=model), state=state)

    def reconstruct(self, std: float, step: int | None = None) -> Run:
        """This run with its averages replaced by the power-function average of another width (EDM2, section 3.2).

        `std` is the width sigma_rel in (0, 0.2886); `step` the step that the average ends at (None: the last
        snapshot). Raises CheckpointError where the run has kept no snapshots.
        """
        names = power_averages(self.experiment)
        snapshots = Checkpoints(self.workdir / "snapshots") if (self.workdir / "snapshots").is_dir() else None
        steps = [at for at in (snapshots.steps() if snapshots else []) if step is None or at <= step]
        if snapshots is None or not names or not steps:
            raise CheckpointError(
                f"{self.workdir} has no snapshots to reconstruct from: an experiment whose averages hold a "
                "PowerFunction keeps them"
            )
        like = {net: {a: tree for a, tree in of.items() if a in names} for net, of in self.state.ema.items()}
        like = abstract(like, jax.tree.map(lambda x: x.sharding, like))
        trees = [jax.device_get(snapshots.read(at, like)) for at in steps]
        weights = reconstruction_weights(
            [at for at in steps for _ in names], [a.std for _ in steps for a in names.values()], steps[-1], std
        )
        first = next(iter(self.experiment.averages))
        ema = {
            network: of | {first: reconstruct([tree[network][a] for tree in trees for a in names], weights)}
            for network, of in self.state.ema.items()
            if names.keys() <= of.keys()
        }
        return dataclasses.replace(self, state=self.state.replace(ema={**self.state.ema, **ema}))


def fit(
    experiment: Experiment,
    workdir: Path | None = None,
    resume_with_changes: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains an experiment to its last step, from where its folder is, and returns the finished run.

    Without `workdir`, in a new temporary folder (`Run.workdir` says where). Raises ValueError or RunFolderError
    before anything is compiled where the experiment or the folder cannot be used; see `core.loop.train`.
    """
    path = pathlib.Path(tempfile.mkdtemp(prefix="imagegen_") if workdir is None else workdir)
    pretrained = {network: load_network(source, network) for network, source in experiment.pretrained.items()}
    _, state = train(experiment, path, pretrained, resume_with_changes, quiet)
    return Run(experiment, state, path)


def load(
    run: Path,
    modules: Sequence[str] = (),
    experiment: Experiment | None = None,
    step: int | Literal["best"] | None = None,
) -> Run:
    """The newest good checkpoint of a run, or that of a `step`, or the one that its evaluation found "best".

    `modules` names modules outside this package that the experiment's classes may come from; or hand over the
    `experiment` itself, such as one defined in a notebook. Raises RunFolderError where `run` is no run folder and
    CheckpointError where it has no good checkpoint.
    """
    path = pathlib.Path(run)
    found = experiment or folder.load_experiment(path, modules)
    rows, mesh = folder.load_rows(path), MeshShape().build()  # this machine's devices, whatever it was trained on
    checkpoints = Checkpoints(path / "checkpoints", best=folder.load_best(path) if step == "best" else None)
    chosen = checkpoints.best_step() if step == "best" else step
    if chosen not in (None, *checkpoints.steps()):
        raise CheckpointError(f"{path} has no checkpoint of step {chosen}; it has {checkpoints.steps()}")
    steps = None if chosen is None else [chosen]
    restored = checkpoints.restore(lambda step: program.abstract_state(found, rows, mesh, step), steps=steps)
    if restored is None:
        raise CheckpointError(f"{path} has no checkpoint yet")
    return Run(found, restored[1], path)


def load_network(source: Path, network: str) -> Mapping[str, Any]:
    """The collections of one network, as sampling sees them, from a run folder or from an .npz of `save_network`.

    Raises ValueError where the source has no such network.
    """
    path = pathlib.Path(source)
    if path.suffix == ".npz":
        collections: dict[str, Any] = {}
        with np.load(path) as arrays:
            for name in arrays.files:
                *parents, leaf = name.split("/")
                node = collections
                for parent in parents:
                    node = node.setdefault(parent, {})
                node[leaf] = arrays[name]
        return collections
    nets = load(path).nets
    if network not in nets:
        raise ValueError(f"{path} has no network {network!r}; it has {sorted(nets)}")
    return nets[network]


def save_network(path: Path, variables: Mapping[str, Any]) -> None:
    """Writes the collections of one network as an .npz, an array a leaf, named by its path ("params/Conv_0/kernel")."""
    leaves = jax.tree.leaves_with_path(dict(variables))
    arrays: dict[str, Any] = {jax.tree_util.keystr(at, simple=True, separator="/"): np.asarray(x) for at, x in leaves}
    np.savez(path, **arrays)
