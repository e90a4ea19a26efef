"""One training step, the same for every model: phases in order, then the moving averages.

`train_step` is pure: (state, batch) -> (state, metrics), with every random number a function of (seed, step, row).
This file has the only `value_and_grad` of the package.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Int

from imagegen_jax.core import ema
from imagegen_jax.core.arrays import autoencoding
from imagegen_jax.core.arrays.image import images_to_float
from imagegen_jax.core.arrays.lora import merged
from imagegen_jax.core.arrays.microbatches import scan_parts
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.ema import Average
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Inputs,
    Model,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    Staged,
    frozen_networks,
)
from imagegen_jax.core.optim import Clock, Optimizer, apply, lazy_correction
from imagegen_jax.core.privacy.private import DifferentialPrivacy, Differentiate, private_gradients
from imagegen_jax.core.reporting.health import gradient_ratio, image_health
from imagegen_jax.core.state import State, join, networks, unmerged

LOOKAHEAD = 10_000  # steps that are searched for phases that come due together
Augmentation = Callable[[Batch, PRNGKeys], Batch]


@dataclasses.dataclass(frozen=True)
class StepSpec:
    """All that a compiled step depends on beside the mesh and the shapes: the key of the compilation cache."""

    model: Model
    optim: FrozenMap[str, Optimizer]
    averages: FrozenMap[str, Average]
    augment: tuple[Augmentation, ...] = ()
    microbatches: int = 1
    clip_norm: float | None = None
    skip_norm: float | None = None
    private: DifferentialPrivacy | None = None
    drawn_rows: int = 0  # of a private step, on average

    @property
    def average(self) -> str | None:
        """The name of the average that sampling and teachers read: the first; None where there is none."""
        return next(iter(self.averages), None)


class RunConstants(NamedTuple):
    """What differs between runs of one compiled step."""

    key: PRNGKey  # of the seed
    steps: Int[Array, ""]  # the length of the run, for schedules


def stage_at(model: Model, step: int) -> Hashable:
    """Returns the model's stage at a training step; None for a model without stages."""
    return model.stage(step) if _is_staged(type(model)) else None  # type: ignore[attr-defined]


@functools.cache
def _is_staged(kind: type) -> bool:
    """Tells whether models of a class are `Staged`; kept, since the check takes 20 us, too long for each step."""
    return issubclass(kind, Staged)


def due_at(phases: tuple[Phase, ...], step: int) -> tuple[str, ...]:
    """Returns the names of the phases that are due in training step `step`, counted from 0."""
    return tuple(phase.name for phase in phases if (step + 1) % phase.every == 0)


def due_steps(model: Model, step: int, end: int) -> dict[tuple[str, ...], int]:
    """Maps phases that come due together to their first such step, from `step` on in its stage and before `end`.

    Phases that come due together for the first time after LOOKAHEAD steps are left out.
    """
    stage = stage_at(model, step)
    phases = model.phases(stage)
    period = min(math.lcm(*(phase.every for phase in phases)), LOOKAHEAD)
    found: dict[tuple[str, ...], int] = {}
    for at in range(step, min(step + period, end)):
        if stage_at(model, at) != stage:
            break
        found.setdefault(due_at(phases, at), at)
    return found


def train_step(
    spec: StepSpec, stage: Hashable, due: tuple[str, ...], state: State, batch: Batch, run: RunConstants
) -> tuple[State, dict[str, Scalar]]:
    """Takes one step of training; metrics are named "phase/metric". `stage` and `due` are static."""
    clock = Clock(state.step, run.steps)
    key = jax.random.fold_in(run.key, state.step)
    batch = prepare(spec.augment, batch, key)
    encoding = augmentation_keys(key, len(spec.augment), batch)  # as if it were the last augmentation
    batch = autoencoding.drawn_latents(spec.model, networks(state), batch, encoding, spec.microbatches)
    phases = spec.model.phases(stage)
    lazy = lazy_correction({n: tuple(p.every for p in phases if n in p.trains) for p in phases for n in p.trains})
    metrics: dict[str, Scalar] = {}
    for index, phase in enumerate(phases, start=1):
        if phase.name in due:
            inputs = make_inputs(spec, state, batch, jax.random.fold_in(key, index))
            state, found = _update(spec, phase, state, inputs, clock, lazy)
            metrics |= {f"{phase.name}/{name}": jnp.float32(metric) for name, metric in found.items()}
    followed = _follow(spec, state, clock, spec.drawn_rows or rows_in(batch))
    if spec.skip_norm is not None:  # averages stand still, too, where nothing was trained
        trained = jnp.array([metrics[f"{phase}/skipped"] == 0 for phase in due])
        followed = _either(jnp.any(trained), followed, state)
    return followed.replace(step=state.step + 1), metrics | gradient_ratio(phases, metrics)


def train_steps(
    spec: StepSpec,
    stage: Hashable,
    due: tuple[str, ...],
    states: State,
    batches: Sequence[Batch],
    runs: Sequence[RunConstants],
) -> tuple[State, dict[str, Scalar]]:
    """Takes one step of several runs: their states on a leading axis, metrics with a value each."""
    batch = jax.tree.map(lambda *rows: jnp.stack(rows), *batches)
    constants = jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs)
    return jax.vmap(functools.partial(train_step, spec, stage, due))(states, batch, constants)


def prepare(augment: tuple[Augmentation, ...], batch: Batch, key: PRNGKey) -> Batch:
    """Turns rows as the data hold them into rows as models see them: images in [-1, 1], augmented in order."""
    batch = images_to_float(batch)
    for index, augmentation in enumerate(augment):
        batch = augmentation(batch, augmentation_keys(key, index, batch))
    return batch


def augmentation_keys(key: PRNGKey, index: int, batch: Batch) -> PRNGKeys:
    """Makes a key for each row of a batch, for the augmentation of an `index`; `key` is that of the step."""
    return row_keys(jax.random.fold_in(jax.random.fold_in(key, 0), index), batch)


def rows_in(batch: Batch) -> int:
    """Returns the number of rows of a batch, which all its leaves have."""
    return len(next(iter(batch.values())))


def row_keys(key: PRNGKey, batch: Batch) -> PRNGKeys:
    """Makes a key for each row of a batch: [B]."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(rows_in(batch)))


def make_inputs(spec: StepSpec, state: State, batch: Batch, key: PRNGKey) -> Inputs:
    """Gathers what the loss of one phase may look at."""
    return Inputs(batch, key, row_keys(key, batch), state.step, networks(state, spec.average))


def _update(
    spec: StepSpec, phase: Phase, state: State, inputs: Inputs, clock: Clock, lazy: Mapping[str, float]
) -> tuple[State, dict[str, Scalar]]:
    """Takes one gradient step of one phase on the networks that it trains."""
    if spec.private is None:
        grads, stats, metrics = gradients(phase, state, inputs, spec.microbatches, frozen_networks(spec.model))
    else:
        trained, stats = {name: state.params[name] for name in phase.trains}, state.stats
        differentiate, parts = _differentiated(phase, state), spec.microbatches
        grads, metrics = private_gradients(spec.private, spec.drawn_rows, differentiate, trained, stats, inputs, parts)
    norm = optax.tree.norm(grads)
    if spec.clip_norm is not None:
        scale = jnp.minimum(1.0, spec.clip_norm / jnp.maximum(norm, 1e-12))
        grads = jax.tree.map(lambda g: g * scale, grads)
    params, opt = dict(state.params), dict(state.opt)
    for name in phase.trains:
        params[name], opt[name] = apply(spec.optim[name], grads[name], opt[name], params[name], clock, lazy[name])
    after, metrics = state.replace(params=params, opt=opt, stats=stats), metrics | {"grad_norm": norm}
    if spec.skip_norm is None:
        return after, metrics
    small = norm < spec.skip_norm  # False of one that is not finite
    return _either(small, after, state), metrics | {"skipped": 1 - jnp.float32(small)}


def _either(condition: Bool[Array, ""], state: State, other: State) -> State:
    """Returns the one state where the condition holds, or else the other."""
    return jax.tree.map(lambda one, two: jnp.where(condition, one, two), state, other)


def _differentiated(phase: Phase, state: State) -> Differentiate:
    """Returns the function of (what is trained, statistics, inputs) that makes a phase's gradients.

    The metrics beside them have the loss.
    """

    def loss(trained: Any, stats: Any, inputs: Inputs) -> tuple[Scalar, Aux]:
        return phase.loss(merged(join({**state.params, **trained}, stats)), inputs)

    def found(trained: Any, stats: Any, inputs: Inputs) -> tuple[Nets, Aux]:
        (value, aux), grads = jax.value_and_grad(loss, has_aux=True)(trained, stats, inputs)
        return grads, aux._replace(metrics={"loss": value, **aux.metrics})

    return found


def gradients(
    phase: Phase, state: State, inputs: Inputs, microbatches: int, frozen: tuple[str, ...] = ()
) -> tuple[Nets, dict[str, Any], dict[str, Scalar]]:
    """Returns the gradients of what a phase trains, the new statistics, and the metrics, as means over the batch.

    Statistics go from one microbatch to the next in order, so what decays with each update decays `microbatches` times
    a step. Raises KeyError or TypeError, while it is traced, for statistics of another structure or type than before,
    or of `frozen` networks.
    """
    trained = {name: state.params[name] for name in phase.trains}
    differentiate = _differentiated(phase, state)

    def one(stats: Any, rows: tuple[Batch, PRNGKeys]) -> tuple[Any, Any, dict[str, Scalar]]:
        grads, aux = differentiate(trained, stats, inputs._replace(batch=rows[0], keys=rows[1]))
        health = {}
        if aux.images is not None and len(aux.images) > 1 and "image" in rows[0]:  # of one there is no diversity
            health = image_health(aux.images, rows[0]["image"])
        return grads, _carry(phase.name, stats, aux.stats, frozen), {**aux.metrics, **health}

    def accumulate(carry: tuple[Any, Any], rows: tuple[Batch, PRNGKeys]) -> tuple[tuple[Any, Any], dict[str, Scalar]]:
        total, stats = carry
        grads, stats, metrics = one(stats, rows)
        return (jax.tree.map(jnp.add, total, grads), stats), metrics

    rows = (inputs.batch, inputs.keys)
    if microbatches == 1:
        return one(state.stats, rows)
    start = (jax.tree.map(jnp.zeros_like, trained), state.stats)
    (total, stats), metrics = scan_parts(accumulate, start, rows, microbatches)
    return jax.tree.map(lambda g: g / microbatches, total), stats, jax.tree.map(jnp.mean, metrics)


def _carry(phase: str, old: Mapping[str, Any], new: Mapping[str, Any], frozen: tuple[str, ...]) -> dict[str, Any]:
    """Merges the statistics that a loss returned into the old ones, which they must equal in kind.

    A changed structure, shape, dtype or weak type would compile every later step anew, so it is an error here.
    """
    merged = {name: dict(collections) for name, collections in old.items()}
    for network, collections in new.items():
        if network not in old:
            raise KeyError(f"phase {phase!r} returned statistics of {network!r}; the networks are {sorted(old)}")
        if network in frozen and collections:
            raise TypeError(
                f"phase {phase!r} returned statistics of {network!r}, which is frozen: leave them out of Aux"
            )
        merged[network].update(collections)
    had, has = str(jax.tree.structure(dict(old))), str(jax.tree.structure(merged))
    if had != has:
        raise TypeError(f"phase {phase!r} changed the structure of the statistics: from {had} to {has}")
    for (path, before), after in zip(jax.tree.leaves_with_path(dict(old)), jax.tree.leaves(merged), strict=True):
        before, after = jax.typeof(before), jax.typeof(after)
        if (before.shape, before.dtype, before.weak_type) != (after.shape, after.dtype, after.weak_type):
            where = jax.tree_util.keystr(path)
            raise TypeError(f"phase {phase!r} changed statistics{where} from {before} to {after}: return it as it came")
    return merged


def _follow(spec: StepSpec, state: State, clock: Clock, batch_size: int) -> State:
    """Brings the moving averages of a state up to the step just taken."""
    now = unmerged(state)
    averages = {
        network: {
            name: ema.update(spec.averages[name], old, ema.averaged(now[network]), clock, batch_size)
            for name, old in kept.items()
        }
        for network, kept in state.ema.items()
    }
    return state.replace(ema=averages)
