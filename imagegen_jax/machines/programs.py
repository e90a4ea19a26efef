"""The programs of an experiment, from shapes alone: its training steps and its sampler, without data or devices."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from imagegen_jax.core import compile as compiling
from imagegen_jax.core import program
from imagegen_jax.core.arrays import shard
from imagegen_jax.core.arrays.image import is_image
from imagegen_jax.core.arrays.measured import with_measures
from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.drawing.draw import drawing, rows_at
from imagegen_jax.core.experiment import Experiment, Rows, model_row_shapes
from imagegen_jax.core.model import Generative, Phase, condition_rows, num_classes
from imagegen_jax.core.privacy.private import KEPT
from imagegen_jax.core.source import Measured
from imagegen_jax.core.state import networks
from imagegen_jax.core.step import LOOKAHEAD, RunConstants, due_at, stage_at

CHUNK = 256  # images that `imagegen sample` draws at a time
UNKNOWN = Measured(1.0, 0.0)  # of latents that are not here: programs are the same for all numbers


@dataclasses.dataclass(frozen=True)
class Traced:
    """A program, traced for a mesh of devices."""

    name: str
    images: int  # that each call takes or draws
    steps: float  # of a whole run, that are this program; 0 of a sampler
    program: Any  # a jax.stages.Traced
    state: Any  # the shapes and places of what it keeps on the devices
    arguments: Any  # of all that it is given, the state too
    devices: int


class StepKind(NamedTuple):
    """Training steps that are one program."""

    begin: int  # the first step of their stage
    due: tuple[str, ...]  # the phases
    steps: float  # how many of the run


def step_kinds(experiment: Experiment) -> list[StepKind]:
    """Returns the training steps of each stage and of the phases that come due together in it."""
    return [
        StepKind(begin, due, steps)
        for begin, end in _stages(experiment)
        for due, steps in _shares(experiment.model.phases(stage_at(experiment.model, begin)), begin, end).items()
    ]


def training_steps(experiment: Experiment, mesh: Mesh, places: slice = slice(None)) -> Iterator[Traced]:
    """Yields the training step of each of the `step_kinds`, or of those at some places, as the loop compiles it.

    Raises ValueError for a batch that the mesh does not divide.
    """
    experiment = dataclasses.replace(experiment, model=with_measures(experiment.model, UNKNOWN))
    rows = row_shapes(experiment)
    shard.check_batch_size(experiment.batch_size, experiment.microbatches, mesh)
    batch, state_of = (
        _batch(experiment, rows, mesh),
        functools.cache(lambda begin: program.abstract_state(experiment, rows, mesh, begin + 1)),
    )
    for begin, due, steps in step_kinds(experiment)[places]:
        state, stage = state_of(begin), stage_at(experiment.model, begin)
        arguments = (state, batch, _constants(mesh))
        traced = compiling.traced_step(experiment.step_spec, mesh, stage, due, *arguments)
        name = (" + ".join(due) or "no phase") + (f" at stage {stage}" if stage is not None else "")
        yield Traced(name, experiment.batch_size, steps, traced, state, arguments, mesh.size)


def _stages(experiment: Experiment) -> list[tuple[int, int]]:
    """Returns the first step of each stage of a run, and the first after it."""
    model, steps = experiment.model, experiment.steps
    if stage_at(model, 0) is None:
        return [(0, steps)]
    starts = [at for at in range(steps) if not at or stage_at(model, at) != stage_at(model, at - 1)]
    return list(itertools.pairwise([*starts, steps]))


def _shares(phases: tuple[Phase, ...], start: int, end: int) -> dict[tuple[str, ...], float]:
    """Maps the phases that come due together in a stage to how many of its steps they are."""
    period = min(math.lcm(*(phase.every for phase in phases)), LOOKAHEAD, end - start)
    found = collections.Counter(due_at(phases, at) for at in range(start, start + period))
    return {due: number * (end - start) / period for due, number in found.items()}


def sampler(experiment: Experiment, chunk: int = CHUNK) -> Traced | None:
    """Returns what draws a chunk of images with the networks of a finished run; None of a model that draws none.

    The networks lie whole on each device, as `imagegen sample` has them.
    """
    experiment = dataclasses.replace(experiment, model=with_measures(experiment.model, UNKNOWN))
    model, mesh = experiment.model, shard.MeshShape().build()
    if not isinstance(model, Generative):
        return None
    state = program.abstract_state(experiment, row_shapes(experiment), mesh, experiment.steps)
    nets = networks(state, experiment.step_spec.average)
    given: dict[str, Any] = {
        name: np.zeros((chunk, *row.shape), row.dtype) for name, row in condition_rows(model).items()
    } | ({"label": np.zeros(chunk, np.int32)} if num_classes(model) else {})
    draw, chunk = drawing(model, nets, chunk, given, chunk)
    traced = draw.trace(nets, np.uint32(0), np.uint32(0), rows_at(given, 0, chunk))
    return Traced("sampler", chunk, 0.0, traced, nets, nets, mesh.size)


def row_shapes(experiment: Experiment) -> Rows:
    """Returns shape and dtype of a row of the data that the experiment's model is made for: latents are float32."""
    rows, latent = model_row_shapes(experiment), not space_of(experiment.model).draws_images
    return {
        name: jax.ShapeDtypeStruct(row.shape, np.float32) if latent and is_image(row.shape, row.dtype) else row
        for name, row in rows.items()
    }


_DRAWN = {KEPT: jax.ShapeDtypeStruct((), np.bool_)}  # of batches whose rows are drawn each by itself


def _batch(experiment: Experiment, rows: Rows, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    place = shard.batch_sharding(mesh)
    return {
        name: jax.ShapeDtypeStruct((experiment.batch_size, *row.shape), row.dtype, sharding=place)
        for name, row in {**rows, **({} if experiment.private is None else _DRAWN)}.items()
    }


def _constants(mesh: Mesh) -> RunConstants:
    key, steps = jax.eval_shape(jax.random.key, 0), jax.ShapeDtypeStruct((), np.int32)
    placed: Any = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=shard.replicated(mesh)), (key, steps)
    )
    return RunConstants(*placed)
