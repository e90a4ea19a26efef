"""An experiment on this machine's devices: its data opened, its step compiled, its samples drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from imagegen_jax.core import compile as compiling
from imagegen_jax.core import shard
from imagegen_jax.core.checkpoint import abstract
from imagegen_jax.core.experiment import Experiment, Rows, abstract_nets, example_batch, initializer, rows_of, validate
from imagegen_jax.core.model import Batch, Generative, Model, Nets, Scalar, check_condition_rows, condition_rows
from imagegen_jax.core.state import State, create, enter, networks
from imagegen_jax.core.step import RunConstants, due_at, due_steps, stage_at
from imagegen_jax.data.grid import beside, repeated
from imagegen_jax.data.image import images_to_float, is_image, to_uint8

Conditions = Mapping[str, Any]  # what sampling is given beside a key: arrays with a row an image, or scalars


class Program:
    """What it takes to run an experiment here. Making one validates the experiment, before anything is compiled."""

    def __init__(self, experiment: Experiment, dataset: Any = None) -> None:
        """Opens the data, which prepares them where that was not done before; `dataset`: these are they, open."""
        compiling.use_persistent_cache()
        self.experiment = experiment
        self.spec = experiment.step_spec
        self.mesh = experiment.mesh.build()
        self.dataset = experiment.data.open() if dataset is None else dataset
        validate(experiment, self.dataset)
        self.constants = _constants(self.mesh, experiment.seed, experiment.steps)
        self._steps: dict[Hashable, Future[Any]] = {}

    def init(self, pretrained: Mapping[str, Any] | None = None) -> State:
        """The state before the first step; `pretrained` maps networks to the collections that replace fresh ones."""
        batch = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), example_batch(rows_of(self.dataset), 2))
        seed = np.uint32(self.experiment.seed)
        nets = dict(self._jit_sharded(initializer(self.experiment.model), seed, batch))
        for name, variables in (pretrained or {}).items():
            nets[name] = _merged(name, nets[name], variables)
        return self._jit_sharded(
            functools.partial(create, optimizers=self.spec.optim, averages=self.spec.averages), nets
        )

    def _jit_sharded(self, function: Any, *arguments: Any) -> Any:
        out = shard.state_sharding(self.mesh, jax.eval_shape(function, *arguments))
        return compiling.jit(function, out_shardings=out)(*arguments)

    def abstract_state(self, step: int) -> State:
        """The shapes and places of the state after `step` steps."""
        return abstract_state(self.experiment, rows_of(self.dataset), self.mesh, step)

    def batch(self, step: int) -> Batch:
        """The rows of training step `step`, on the devices."""
        return shard.put_batch(self.dataset, step, self.experiment.batch_size, self.experiment.seed, self.mesh)

    def step(self, state: State) -> tuple[State, dict[str, Scalar]]:
        """One training step by hand: the next state, and metrics named "phase/metric". `state` remains usable."""
        step = int(state.step)
        return self.advance(jax.tree.map(jnp.copy, state), step, self.batch(step))

    def advance(self, state: State, step: int, batch: Batch) -> tuple[State, dict[str, Scalar]]:
        """One step of the loop: `step` is `state.step`, known without asking the device; `state` is donated."""
        if enters(self.experiment.model, step):
            with jax.transfer_guard("allow"):
                state = self._jit_sharded(_enter(self.experiment, step), state)
        return self._compiled(step, state, batch).result()(state, batch, self.constants)

    def compile_ahead(self, step: int) -> Future[Any]:
        """Begins to compile a training step from shapes alone: it gets ready while its state is made or read."""
        return self._compiled(step, self.abstract_state(step + 1), self.batch(step))

    def compile_stage(self, step: int, show: Callable[[str], AbstractContextManager[None]]) -> None:
        """Begins to compile all steps that come due from `step` on in its stage, the first needed first.

        `show(text)` is entered while one is traced or compiled.
        """
        with jax.transfer_guard("allow"):
            state, batch = self.abstract_state(step + 1), self.batch(step)
            steps = due_steps(self.experiment.model, step, self.experiment.steps)
            for number, (due, at) in enumerate(steps.items(), start=1):
                which = f"training step {number} of {len(steps)}: {' + '.join(due) or 'no phase'}"
                self._compiled(at, state, batch, functools.partial(_shown, show, which))

    def ready(self, step: int) -> bool:
        """Whether training step `step` is compiled; waits for nothing."""
        future = self._steps.get(self._key(step))
        return future is not None and future.done()

    def _key(self, step: int) -> tuple[Hashable, tuple[str, ...]]:
        stage = stage_at(self.experiment.model, step)
        return stage, due_at(self.experiment.model.phases(stage), step)

    def _compiled(
        self, step: int, state: State, batch: Batch, during: compiling.During = compiling.silently
    ) -> Future[Any]:
        stage, due = self._key(step)
        if (stage, due) not in self._steps:
            with jax.transfer_guard("allow"):
                compiled = compiling.compiled_step(
                    self.spec, self.mesh, stage, due, state, batch, self.constants, during
                )
            self._steps[stage, due] = compiled
        return self._steps[stage, due]

    def sample(
        self, state: State, n: int, seed: int = 0, conditions: Conditions | None = None, chunk: int = 256
    ) -> np.ndarray:
        """`n` images, uint8 [n h w c], from the networks as sampling sees them.

        What the model makes images from and `conditions` do not hold is taken from the data.
        """
        nets, model = networks(state, self.spec.average), self.experiment.model
        given = completed(conditions or {}, model, lambda: self.dataset, n, seed)
        return sample(model, nets, n, seed, given, chunk)

    def check_sampling(self, step: int, n: int, conditions: Conditions | None = None, chunk: int = 256) -> None:
        """Traces what `sample` is to run after `step` steps, and so raises what that would, before time is spent."""
        nets, model = networks(self.abstract_state(step), self.spec.average), self.experiment.model
        given = completed(conditions or {}, model, lambda: self.dataset, n, 0)
        draw, chunk = _drawing(model, nets, n, given, chunk)
        draw.eval_shape(nets, np.uint32(0), np.uint32(0), _rows(given, 0, chunk))


def _constants(mesh: Mesh, seed: int, steps: int) -> RunConstants:
    """Made by a program over all devices: no process can put an array on another's."""
    place = shard.replicated(mesh)
    make = jax.jit(lambda seed, steps: RunConstants(jax.random.key(seed), steps), out_shardings=place)
    return make(np.uint32(seed), np.int32(steps))


def _shown(show: Callable[[str], AbstractContextManager[None]], which: str, verb: str) -> AbstractContextManager[None]:
    return show(f"{verb} {which}")


def enters(model: Model, step: int) -> bool:
    """Whether a new stage begins with training step `step`."""
    return hasattr(model, "enter") and (step == 0 or stage_at(model, step) != stage_at(model, step - 1))


def _enter(experiment: Experiment, step: int) -> Callable[[State], State]:
    model = experiment.model
    return functools.partial(enter, model, experiment.optim, experiment.averages, stage_at(model, step))


def abstract_state(experiment: Experiment, rows: Rows, mesh: Mesh, step: int) -> State:
    """The shapes and places of the state after `step` steps, without memory, compilation or data."""
    nets = abstract_nets(experiment.model, rows)
    state = jax.eval_shape(lambda nets: create(nets, experiment.optim, experiment.averages), nets)
    for at in range(step if hasattr(experiment.model, "stage") else 0):
        if enters(experiment.model, at):
            state = jax.eval_shape(_enter(experiment, at), state)
    return abstract(state, shard.state_sharding(mesh, state))


def _merged(name: str, fresh: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Fresh collections with the given ones in place, which must have their structure and shapes."""
    merged = dict(fresh)
    for collection, values in given.items():
        wanted = jax.tree.map(jnp.shape, fresh.get(collection))
        if wanted != jax.tree.map(jnp.shape, values):
            raise ValueError(f"pretrained[{name!r}]: its {collection!r} have other names or shapes than the model's")
        merged[collection] = jax.tree.map(_placed, values, fresh[collection])
    return merged


def _placed(new: Any, old: jax.Array) -> jax.Array:
    """The values of `new` where `old` lives; each process hands its own devices their parts."""
    host = np.asarray(new, old.dtype)
    return jax.make_array_from_callback(old.shape, old.sharding, lambda index: host[index])


# --- sampling --------------------------------------------------------------------------------------------------------


def sample(
    model: Model,
    nets: Nets,
    n: int,
    seed: int = 0,
    conditions: Conditions | None = None,
    chunk: int = 256,
) -> np.ndarray:
    """`n` images, uint8 [n h w c], drawn `chunk` at a time; the same for the same seed, n and chunk.

    `conditions` holds arrays with n rows ("label", "source" as uint8 images) or scalars ("guidance"). It runs on the
    devices that hold the networks. Raises ValueError for labels that the model does not know, or lacks, or where what
    it makes images from is not given, and TypeError for a model that draws nothing.
    """
    return np.concatenate(list(sample_chunks(model, nets, n, seed, conditions, chunk)))


def sample_chunks(
    model: Model,
    nets: Nets,
    n: int,
    seed: int = 0,
    conditions: Conditions | None = None,
    chunk: int = 256,
    start: int = 0,
) -> Iterator[np.ndarray]:
    """The images of `sample` from row `start` on, a chunk at a time; `start` is a whole number of chunks."""
    conditions = dict(conditions or {})
    draw, chunk = _drawing(model, nets, n, conditions, chunk)
    if start % chunk:
        raise ValueError(f"start={start}: must be a whole number of chunks of {chunk}")
    for at in range(start, n, chunk):
        yield _to_host(draw(nets, np.uint32(seed), np.uint32(at // chunk), _rows(conditions, at, chunk)))[: n - at]


def _drawing(model: Model, nets: Nets, n: int, conditions: Conditions, chunk: int) -> tuple[Any, int]:
    """What draws a chunk, to be compiled when it is called, and how many images that is; raises as `sample` does."""
    if not isinstance(model, Generative):
        raise TypeError(f"a {type(model).__name__} draws no images: it has no method `sample`")
    if n < 1 or chunk < 1:
        raise ValueError(f"n={n}, chunk={chunk}: both must be at least 1")
    check_conditions(model, n, conditions)
    mesh = shard.mesh_of(nets)
    chunk = -(-min(chunk, n) // mesh.size) * mesh.size  # a whole number of rows on each device
    return _sampler(model, mesh, chunk), chunk


def check_conditions(model: Model, n: int, conditions: Conditions) -> None:
    """Raises ValueError where labels are missing, not wanted, of another number than `n`, or out of range.

    Likewise where what else the model makes images from is missing, of another number or shape, and for conditions
    that it does not read.
    """
    if hasattr(model, "check_conditions"):
        model.check_conditions(conditions)
    known = {"label", *condition_rows(model), *getattr(model, "optional_conditions", ())}
    for name in sorted(set(conditions) - known):
        raise ValueError(f"{name!r} given, but a {type(model).__name__} reads {sorted(known)} alone: leave it out")
    check_condition_rows(model, {name: np.asarray(values) for name, values in conditions.items()})
    for name in condition_rows(model):
        if len(conditions[name]) != n:
            raise ValueError(f"{len(conditions[name])} rows of {name!r} for {n} images: give one an image")
    classes = getattr(model, "num_classes", 0)
    if classes and "label" not in conditions:
        raise ValueError(f"this model draws images of {classes} classes: say which (labels=..., --labels 0,1,2)")
    if "label" not in conditions:
        return
    labels = np.asarray(conditions["label"])
    if not classes:
        raise ValueError(f"labels {labels.tolist()[:10]} given, but this model knows no classes: leave them out")
    if labels.shape != (n,):
        raise ValueError(f"labels of shape {labels.shape} for {n} images: give one label an image")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"labels {sorted(set(wrong.tolist()))[:10]} out of range: this model knows 0 to {classes - 1}")


@functools.lru_cache(maxsize=32)
def _sampler(model: Generative, mesh: Mesh, n: int) -> Any:
    def draw(nets: Nets, seed: Any, index: Any, conditions: Batch) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), index)
        return to_uint8(model.sample(nets, key, n, images_to_float(conditions)))

    return compiling.jit(draw, out_shardings=shard.batch_sharding(mesh))


def _rows(conditions: Conditions, start: int, n: int) -> dict[str, np.ndarray]:
    """Rows [start, start + n) of each, the last one repeated past the end; a scalar as it is."""
    arrays = {name: np.asarray(values) for name, values in conditions.items()}
    rows = np.arange(start, start + n)
    return {name: a[np.minimum(rows, len(a) - 1)] if a.ndim else a for name, a in arrays.items()}


def _to_host(images: Any) -> np.ndarray:
    if jax.process_count() == 1:
        return np.asarray(images)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(images, tiled=True))


def completed(conditions: Conditions, model: Model, open_data: Callable[[], Any], n: int, seed: int) -> Conditions:
    """`conditions`, and what else `model` makes images from, of the data's first `n` rows in the order of `seed`."""
    missing = [name for name in condition_rows(model) if name not in conditions]
    batch = open_data().batch(0, n, seed) if missing else {}
    return {**conditions, **{name: batch[name] for name in missing}}


def panels(model: Model, images: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Each image between what it was made from and the data's own of that row [n h W c], as one picture.

    Smaller sources are magnified, by a whole number. `images` themselves for a model that makes them from nothing, or
    from no images that reach their height; of latents the first three channels, as colours: a fourth would be taken for
    transparency.
    """
    if batch["image"].dtype != np.uint8:
        return images[..., :3]
    sources = [batch[name] for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)]
    sources = [repeated(source, images.shape[1]) for source in sources]
    sources = [source for source in sources if source.shape[1] == images.shape[1]]
    return beside(*sources, images, batch["image"]) if sources else images


def class_rows(num_classes: int, n: int) -> tuple[np.ndarray | None, int]:
    """(labels, columns) of a grid of about `n` images with a class a row; (None, columns) without classes."""
    if not num_classes:
        return None, max(1, round(n**0.5))
    rows = min(num_classes, n)
    return np.repeat(np.arange(rows, dtype=np.int32), n // rows), n // rows


def label_conditions(labels: Sequence[int] | np.ndarray | None) -> dict[str, np.ndarray]:
    """Labels as `conditions`; none for None."""
    return {} if labels is None else {"label": np.asarray(labels, np.int32)}
