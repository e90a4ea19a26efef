"""An experiment is a value: a frozen dataclass from which every array of the run follows."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from imagegen_jax.core.arrays import autoencoding
from imagegen_jax.core.arrays.image import is_image
from imagegen_jax.core.arrays.lora import LoRA, base_of, check_lora
from imagegen_jax.core.arrays.measured import measures_of, wants_measures, with_measures
from imagegen_jax.core.arrays.shard import MeshShape, check_batch_size
from imagegen_jax.core.arrays.space import sample_shape
from imagegen_jax.core.arrays.texts import check_text
from imagegen_jax.core.checkpoints.codes import check_codes
from imagegen_jax.core.checkpoints.frozen_networks import Sources
from imagegen_jax.core.checkpoints.stored import Best
from imagegen_jax.core.checkpoints.weights import Weights, weights_of
from imagegen_jax.core.config.bounds import Count, Natural, Positive, Seed, check_fields, check_integers
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.ema import AnyAverage, PowerFunction
from imagegen_jax.core.model import (
    Batch,
    Generative,
    Model,
    Nets,
    Staged,
    condition_rows,
    frozen_networks,
    num_classes,
)
from imagegen_jax.core.optim import AnyOptimizer
from imagegen_jax.core.privacy.private import DifferentialPrivacy
from imagegen_jax.core.source import Source, class_names_of, labels_of
from imagegen_jax.core.step import Augmentation, StepSpec, prepare, stage_at

Draw = Callable[[int, np.ndarray | None, int], np.ndarray]  # (n, labels, seed) -> uint8 [n h w c], or latents


class Measurement(Protocol):
    """An evaluation made ready for a run."""

    best: Best  # the score by which a checkpoint is kept beside the newest

    def __call__(self, draw: Draw, step: int) -> Mapping[str, float]:
        """Returns scores by name, of images drawn from the averaged networks after `step` steps."""
        ...


@runtime_checkable
class Evaluation(Protocol):
    """What measures samples while a run goes on. The core knows nothing of metrics."""

    @property
    def every(self) -> int:
        """The number of steps between two measurements; there is always one after the last step."""
        ...

    def open(self, experiment: Experiment, workdir: pathlib.Path, quiet: bool) -> Measurement:
        """Makes ready what each measurement needs. Raises ValueError where it cannot measure this experiment."""
        ...


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A recipe: what is trained, on what, how, for how long. A change is `dataclasses.replace` or `override`."""

    name: str
    model: Any  # a core.model.Model
    data: Any  # a core.source.Source
    optim: Mapping[str, AnyOptimizer]  # network -> its optimizer; a network without one is not trained
    averages: Mapping[str, AnyAverage] = FrozenMap()  # name -> moving average; sampling reads the first
    augment: tuple[Augmentation, ...] = ()  # applied in order to each batch, inside jit
    pretrained: Mapping[str, str | Weights] = FrozenMap()  # network -> weights to start from: "runs/a:encoder", a file
    lora: LoRA | None = None  # low-rank pairs are trained in place of weights: `--lora.rank 8`
    clip_norm: Positive | None = None  # largest global norm of the gradient of one phase; None: not clipped
    # A phase is skipped unless that norm, not clipped, is below this; one that is not finite still ends the run.
    skip_norm: Positive | None = None  # None: nothing is skipped
    private: DifferentialPrivacy | None = None  # each row is clipped, and noise is added: `--private.noise 2`
    microbatches: Count = 1  # parts that a batch's gradient is accumulated over, to save memory
    batch_size: Count = 64  # rows of one step, over all devices and hosts
    steps: Count = 10_000  # training steps
    seed: Seed = 0  # of the initial weights, the order of the data and all noise
    mesh: MeshShape = MeshShape()
    log_every: Count = 50  # steps between two lines of metrics
    sample_every: Natural = 1_000  # steps between two grids of samples; 0: only at the end
    samples: Count = 64  # images in a grid; with labels, a row a class as far as they go
    evaluation: Any = None  # an Evaluation, such as metrics.during.Evaluate: scores of samples as training goes on
    checkpoint_every: Count = 1_000  # steps between two checkpoints; there is always one at the end
    keep_checkpoints: Count = 3  # how many of the newest stay
    snapshots: Count = 40  # how many snapshots of PowerFunction averages are kept over the run, for `reconstruct`

    def __post_init__(self) -> None:
        for name in ("optim", "averages", "pretrained"):
            object.__setattr__(self, name, FrozenMap(getattr(self, name)))
        for name, source in self.pretrained.items():
            _check_weights(name, source)
        check_integers(self)
        if self.evaluation is not None:
            _require(self, "evaluation", isinstance(self.evaluation, Evaluation), "needs `every` and `open`")
            _require(self, "evaluation", isinstance(self.model, Generative), "needs a model that draws images")
        if self.private is not None:
            _require(
                self, "private", not wants_measures(self.model), "needs a space with numbers, not measured on data"
            )
        check_fields(self)
        if not isinstance(self.model, Model):
            raise TypeError(f"model={self.model!r} is no model: it needs image_shape, init and phases")
        if not isinstance(self.data, Source):
            raise TypeError(f"data={self.data!r} is no source of data: it needs `open`")

    @property
    def step_spec(self) -> StepSpec:
        """The part of the experiment that compiled steps depend on."""
        return StepSpec(
            self.model, FrozenMap(self.optim), FrozenMap(self.averages), self.augment, self.microbatches,
            self.clip_norm, self.skip_norm, self.private, 0 if self.private is None else self.batch_size,
        )  # fmt: skip

    @property
    def adapted_networks(self) -> tuple[str, ...]:
        """The networks of which low-rank pairs are trained in place of their weights."""
        return () if self.lora is None else self.lora.networks or tuple(self.optim)

    @property
    def num_classes(self) -> int:
        """The number of classes that the model knows; 0 for an unconditional one."""
        return num_classes(self.model)


def _require(experiment: Experiment, name: str, holds: bool, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name}={getattr(experiment, name)}: {rule}")


def _check_weights(name: str, source: Any) -> None:
    try:
        weights_of(source)
    except ValueError as error:
        raise ValueError(f"pretrained[{name!r}]: {error}") from None


Rows = Mapping[str, jax.ShapeDtypeStruct]  # the shape and dtype of one row of each leaf of a batch


def row_shapes(dataset: Any) -> Rows:
    """Returns shape and dtype of one row of a data set's batches, by leaf."""
    return {name: jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for name, a in dataset.batch(0, 1).items()}


def model_row_shapes(experiment: Experiment) -> Rows:
    """Returns shape and dtype of a row as the model has it: its images, labels where it knows classes, and sources.

    Of a model of latents whose space has their autoencoder, the images are those that it encodes.
    """
    rows = {"image": jax.ShapeDtypeStruct(sample_shape(experiment.model), np.uint8), **condition_rows(experiment.model)}
    return rows | ({"label": jax.ShapeDtypeStruct((), np.int32)} if experiment.num_classes else {})


def example_batch(rows: Rows, n: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a batch of `n` rows as losses see it: uint8 images have become float32."""
    dtypes = {name: np.float32 if is_image(row.shape, row.dtype) else row.dtype for name, row in rows.items()}
    return {name: jax.ShapeDtypeStruct((n, *row.shape), dtypes[name]) for name, row in rows.items()}


@functools.lru_cache(maxsize=32)
def initializer(model: Model, augment: tuple[Augmentation, ...] = ()) -> Callable[[Any, Batch], Nets]:
    """Returns the function that makes fresh networks: (seed, batch) -> networks.

    There is one function for each model, so that jax traces it once for shapes and for values. The batch is prepared
    and augmented as that of step 0; zeros that are float32 already stay as they are.
    """

    def fresh(seed: Any, batch: Batch) -> Nets:
        key = jax.random.key(seed)
        batch = autoencoding.example(model, prepare(augment, batch, jax.random.fold_in(key, 0)))
        own = jax.random.fold_in(key, 2**32 - 1)  # no step has this key
        return autoencoding.init(model, own, model.init(own, batch))

    return fresh


def abstract_nets(model: Model, rows: Rows) -> Any:
    """Returns the shapes of the networks, without memory or compilation; raises what the model's `init` raises."""
    return jax.eval_shape(initializer(model), jax.ShapeDtypeStruct((), np.uint32), example_batch(rows, 2))


def validate(experiment: Experiment, dataset: Any) -> None:
    """Raises ValueError for whatever is seen to be wrong with an experiment before anything is compiled."""
    check_batch_size(experiment.batch_size, experiment.microbatches, experiment.mesh.build())
    _check_labels(experiment, dataset)
    check_codes(experiment.model, dataset)
    check_text(experiment.model, dataset)
    nets = abstract_nets(experiment.model, row_shapes(dataset))
    phases = experiment.model.phases(stage_at(experiment.model, 0))
    last = experiment.model.phases(stage_at(experiment.model, experiment.steps - 1))  # which may train more
    trained = {name for phase in (*phases, *last) for name in phase.trains}
    for name in sorted(trained - set(nets)):
        raise ValueError(f"a phase trains {name!r}, which is no network of the model: they are {sorted(nets)}")
    _check_frozen(experiment, nets, trained)
    for name in sorted(trained - set(experiment.optim)):
        raise ValueError(f"the model trains {name!r}, which has no optimizer: add optim[{name!r}]")
    trainable = set(nets) if isinstance(experiment.model, Staged) else trained  # a later stage may train more
    for name in sorted(set(experiment.optim) - trainable):
        raise ValueError(f"optim[{name!r}] is for no network that the model trains: they are {sorted(trainable)}")
    for name in sorted(set(experiment.pretrained) - set(nets)):
        raise ValueError(f"pretrained[{name!r}] is no network of the model: they are {sorted(nets)}")
    if experiment.lora is not None:
        check_lora(experiment.lora, experiment.adapted_networks, nets, experiment.optim, experiment.pretrained)
    for average, spec in experiment.averages.items():
        for name in sorted(set(spec.networks) - set(experiment.optim)):
            raise ValueError(
                f"averages[{average!r}].networks: {name!r} is not trained; those are {sorted(experiment.optim)}"
            )
    if len({phase.name for phase in phases}) != len(phases):
        raise ValueError(f"two phases have one name: {[phase.name for phase in phases]}")


def _check_frozen(experiment: Experiment, nets: Nets, trained: Collection[str]) -> None:
    """Raises ValueError where a network that the model calls frozen is trained, or has no weights to start from."""
    for name in frozen_networks(experiment.model):
        if name not in nets:
            raise ValueError(f"model.frozen names {name!r}, which is no network of the model: they are {sorted(nets)}")
        if name in trained or name in experiment.optim:
            what = "a phase trains it" if name in trained else f"optim[{name!r}] would"
            raise ValueError(f"the network {name!r} is frozen (model.frozen), but {what}: it is the one or the other")
        if name not in experiment.pretrained:
            raise ValueError(
                f"the network {name!r} is frozen and has no weights: nothing would train it. Say where they come from: "
                f'pretrained={{{name!r}: FromRun("runs/a", network="network")}} or a file, on the command line '
                f"--pretrained.{name} runs/a:network; for a smoke run 'random'"
            )


def frozen_sources(experiment: Experiment) -> Sources:
    """Returns a function for each frozen network of a state, which reads it where the experiment says."""
    given, adapted = experiment.pretrained, experiment.adapted_networks
    names = {n: n for n in frozen_networks(experiment.model)} | {base_of(n): n for n in adapted}
    return {name: functools.partial(weights_of(given[n]).read, n) for name, n in names.items() if n in given}


def _check_labels(experiment: Experiment, dataset: Any) -> None:
    classes, labels = experiment.num_classes, labels_of(dataset)
    if not classes:
        return
    if labels is None:
        raise ValueError(
            f"model.num_classes={classes}, but the data have no labels: use data with classes, or set it to 0"
        )
    if len(labels) and not (0 <= labels.min() and labels.max() < classes):
        raise ValueError(
            f"model.num_classes={classes}, but the data have labels from {labels.min()} to {labels.max()}: "
            f"set model.num_classes to {labels.max() + 1}"
        )
    known = len(class_names_of(dataset))
    if known and known != classes:
        raise ValueError(
            f"model.num_classes={classes}, but the data have {known} classes: set model.num_classes to {known}"
        )


def measured(experiment: Experiment, dataset: Any = None) -> Experiment:
    """Returns an experiment with numbers where its model's space is to be measured, as the data say them.

    Raises ValueError where they do not, and what opening them raises; they are not opened where nothing is to be
    measured, or where `dataset` is given, the open data.
    """
    if not wants_measures(experiment.model):
        return experiment
    found = measures_of(experiment.data.open() if dataset is None else dataset)
    return dataclasses.replace(experiment, model=with_measures(experiment.model, found))


def power_averages(experiment: Experiment) -> dict[str, PowerFunction]:
    """Returns the averages whose snapshots allow post-hoc reconstruction, by name."""
    return {name: average for name, average in experiment.averages.items() if isinstance(average, PowerFunction)}
