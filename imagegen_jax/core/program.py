"""An experiment on this machine's devices: its data opened, its step compiled, its samples drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Hashable, Mapping
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays import autoencoding, shard
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.lora import adapted
from imagegen_jax.core.checkpoints.checkpoint import abstract
from imagegen_jax.core.checkpoints.codes import check_made_by
from imagegen_jax.core.checkpoints.frozen_networks import placed, wanted_part
from imagegen_jax.core.checkpoints.weights import read_all
from imagegen_jax.core.drawing.draw import Conditions, drawing, filled_from_data, rows_at, sample
from imagegen_jax.core.experiment import (
    Experiment,
    Rows,
    abstract_nets,
    example_batch,
    initializer,
    measured,
    row_shapes,
    validate,
)
from imagegen_jax.core.model import Batch, Entering, Model, Nets, Scalar, frozen_networks, starts_from_data
from imagegen_jax.core.privacy.checks import ROWS, check_augmentations, check_private
from imagegen_jax.core.privacy.poisson import PoissonRows
from imagegen_jax.core.state import State, create, enter, networks
from imagegen_jax.core.step import RunConstants, due_at, due_steps, stage_at


class Program:
    """What it takes to run an experiment here. To make one is to validate it, before anything is compiled."""

    def __init__(self, experiment: Experiment, dataset: Any = None) -> None:
        """Opens the data, which prepares them where that was not done before; or takes `dataset`, the open data."""
        compiling.use_persistent_cache()
        self.dataset = experiment.data.open() if dataset is None else dataset
        self.experiment = experiment = measured(experiment, self.dataset)
        self.spec = experiment.step_spec
        self.mesh = experiment.mesh.build()
        validate(experiment, self.dataset)
        self._rows = self._private_rows()
        self.constants = _constants(self.mesh, experiment.seed, experiment.steps)
        self._steps: dict[Hashable, Future[Any]] = {}

    def _private_rows(self) -> PoissonRows | None:
        """Returns the data as private training draws their rows; None where training is not private."""
        if self.experiment.private is None:
            return None
        model, rows, batch_size = self.experiment.model, row_shapes(self.dataset), self.experiment.batch_size
        batch = jax.eval_shape(functools.partial(autoencoding.example, model), example_batch(rows, ROWS))
        nets = abstract_nets(model, rows)
        check_private(self.experiment.private, model, self.dataset, batch_size, batch, nets)
        check_augmentations(self.experiment.augment, example_batch(rows, ROWS))
        return PoissonRows(self.dataset, self.experiment.batch_size, self.experiment.microbatches * self.mesh.size)

    def pretrained(self) -> dict[str, Any]:
        """Reads the weights that the experiment starts from: network -> collections.

        Raises what `Weights.read` does, and ValueError where their arrays have other names or shapes than those of
        the model, and where the data are codes or latents of other weights, before anything is compiled.
        """
        found = read_all(self.experiment.pretrained)
        fresh = abstract_nets(self.experiment.model, row_shapes(self.dataset))
        for name in found:
            frozen = name in frozen_networks(self.experiment.model)
            found[name] = wanted_part(found[name], fresh[name]) if frozen else found[name]
            _check_fits(name, fresh[name], found[name], whole=frozen)
        check_made_by(self.experiment.model, self.dataset, found, self.experiment.pretrained)
        return found

    def init(self, pretrained: Mapping[str, Any] | None = None) -> State:
        """Makes the state before the first step; `pretrained` maps networks to collections in place of fresh ones.

        Where it is None, the experiment's `pretrained` is read now. Networks that are given whole are not drawn.
        """
        given = self.pretrained() if pretrained is None else pretrained
        nets = dict(self._fresh(given))
        for name, variables in given.items():
            nets[name] = _merged(name, nets[name], variables)
        return self._jit_sharded(functools.partial(_made, self.experiment), np.int32(0), nets)

    def _fresh(self, given: Mapping[str, Any]) -> Nets:
        """Makes fresh networks; of those that are given whole, only their shapes and places."""
        fresh, batch = self._start()
        seed = np.uint32(self.experiment.seed)
        shapes = jax.eval_shape(fresh, seed, batch)
        places = shard.state_sharding(self.mesh, shapes)
        whole = {name for name, variables in given.items() if variables.keys() >= shapes[name].keys()}
        draw = functools.partial(_without, whole, fresh) if whole else fresh
        drawn = {} if whole >= shapes.keys() else self._jit_sharded(draw, seed, batch)
        return {name: drawn[name] if name in drawn else abstract(shapes[name], places[name]) for name in shapes}

    def _start(self) -> tuple[Callable[[Any, Batch], Nets], Batch]:
        """Returns the function (seed, batch) -> networks, and its batch: zeros, or that of the first step."""
        model = self.experiment.model
        if starts_from_data(model):
            return initializer(model, self.spec.augment), self.batch(0)
        rows = example_batch(row_shapes(self.dataset), 2)
        return initializer(model), jax.tree.map(lambda row: np.zeros(row.shape, row.dtype), rows)

    def _jit_sharded(self, function: Any, *arguments: Any) -> Any:
        out = shard.state_sharding(self.mesh, jax.eval_shape(function, *arguments))
        return compiling.jit(batch_draws(function), out_shardings=out)(*arguments)

    def abstract_state(self, step: int) -> State:
        """Returns the state after a number of steps, as shapes and places alone."""
        return abstract_state(self.experiment, row_shapes(self.dataset), self.mesh, step)

    def batch(self, step: int) -> Batch:
        """Puts the rows of training step `step` on the devices."""
        rows, n = (self.dataset, self.experiment.batch_size) if self._rows is None else (self._rows, self._rows.shape)
        return shard.put_batch(rows, step, n, self.experiment.seed, self.mesh)

    def step(self, state: State) -> tuple[State, dict[str, Scalar]]:
        """Takes one training step by hand: returns the next state, and metrics named "phase/metric"; keeps `state`."""
        step = int(state.step)
        return self.advance(jax.tree.map(jnp.copy, state), step, self.batch(step))

    def advance(self, state: State, step: int, batch: Batch) -> tuple[State, dict[str, Scalar]]:
        """Takes one step of the loop; `step` is `state.step` without asking the device; `state` is donated."""
        if enters(self.experiment.model, step):
            with jax.transfer_guard("allow"):
                state = self._jit_sharded(_enter(self.experiment, step), state)
        return self._compiled(step, state, batch).result()(state, batch, self.constants)

    def compile_ahead(self, step: int) -> Future[Any]:
        """Begins to compile a training step from shapes alone, while its state is still being made or read."""
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
        """Tells whether training step `step` is compiled; waits for nothing."""
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
        """Draws `n` images, uint8 [n h w c], from the networks as sampling sees them; or latents, float32.

        What the model makes images from and `conditions` do not hold is taken from the data.
        """
        nets, model = networks(state, self.spec.average), self.experiment.model
        given = filled_from_data(conditions or {}, model, lambda: self.dataset, n, seed)
        return sample(model, nets, n, seed, given, chunk)

    def check_sampling(self, step: int, n: int, conditions: Conditions | None = None, chunk: int = 256) -> None:
        """Traces what `sample` will run after `step` steps, to raise what that would raise before time is spent."""
        nets, model = networks(self.abstract_state(step), self.spec.average), self.experiment.model
        given = filled_from_data(conditions or {}, model, lambda: self.dataset, n, 0)
        draw, chunk = drawing(model, nets, n, given, chunk)
        draw.eval_shape(nets, np.uint32(0), np.uint32(0), rows_at(given, 0, chunk))


def _without(names: Collection[str], fresh: Callable[[Any, Batch], Nets], seed: Any, batch: Batch) -> Nets:
    return {name: variables for name, variables in fresh(seed, batch).items() if name not in names}


def _constants(mesh: Mesh, seed: int, steps: int) -> RunConstants:
    """Makes the constants by a program over all devices: no process can put an array on another's devices."""
    place = shard.replicated(mesh)
    make = jax.jit(lambda seed, steps: RunConstants(jax.random.key(seed), steps), out_shardings=place)
    return make(np.uint32(seed), np.int32(steps))


def _shown(show: Callable[[str], AbstractContextManager[None]], which: str, verb: str) -> AbstractContextManager[None]:
    return show(f"{verb} {which}")


def enters(model: Model, step: int) -> bool:
    """Tells whether a new stage begins with training step `step`."""
    return _is_entering(type(model)) and (step == 0 or stage_at(model, step) != stage_at(model, step - 1))


@functools.cache
def _is_entering(kind: type) -> bool:
    """Tells whether models of a class are `Entering`; see `step._is_staged`."""
    return issubclass(kind, Entering)


def _enter(experiment: Experiment, step: int) -> Callable[[State], State]:
    make, stage = functools.partial(_made, experiment, np.int32(step)), stage_at(experiment.model, step)
    return functools.partial(enter, experiment.model, make, stage)


def _made(experiment: Experiment, step: Int[Array, ""] | np.int32, nets: Nets) -> State:
    """Makes a state of networks as their model knows them, for those that begin with a training step."""
    if experiment.lora is not None:
        key = jax.random.fold_in(jax.random.key(experiment.seed), 2**32 - 2)  # neither a step's nor of `initializer`
        key = jax.random.fold_in(key, step)
        nets = adapted(nets, experiment.lora, experiment.adapted_networks, key)
    return create(nets, experiment.optim, experiment.averages)


def abstract_state(experiment: Experiment, rows: Rows, mesh: Mesh, step: int) -> State:
    """Returns the state after a number of steps, as shapes and places alone, without compilation or data."""
    nets = abstract_nets(experiment.model, rows)
    state = jax.eval_shape(functools.partial(_made, experiment), np.int32(0), nets)
    kind: type = type(experiment.model)
    for at in range(step if _is_entering(kind) else 0):
        if enters(experiment.model, at):
            state = jax.eval_shape(_enter(experiment, at), state)
    return abstract(state, shard.state_sharding(mesh, state))


def _merged(name: str, fresh: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces fresh collections by given ones, which must have the same structure and shapes."""
    _check_fits(name, fresh, given)
    return {**fresh, **{c: jax.tree.map(placed, values, fresh[c]) for c, values in given.items()}}


def _check_fits(name: str, fresh: Mapping[str, Any], given: Mapping[str, Any], whole: bool = False) -> None:
    """Raises ValueError, naming the first three arrays, where given collections do not fit the model's.

    With `whole`, none of the model's may be missing.
    """
    wanted, found = (_shapes(tree) for tree in (fresh, given))
    wanted = {path: shape for path, shape in wanted.items() if whole or path.split("/")[0] in given}
    wrong = [path for path in wanted | found if wanted.get(path) != found.get(path)]
    if wrong:
        said = [f"{path}: {found.get(path, 'none')} there, {wanted.get(path, 'none')} wanted" for path in wrong[:3]]
        said += [f"and {len(wrong) - 3:,} more differ"] if len(wrong) > 3 else []
        raise ValueError(
            f"pretrained[{name!r}]: its arrays have other names or shapes than the model's ({'; '.join(said)}): they "
            "are another network's; name another source, or change the model"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(dict(tree))
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(leaf) for path, leaf in leaves}
