"""The contract between a model and everything else: what a model is given, and what it returns.

A model is a frozen dataclass of hyperparameters that holds no arrays. It says how its networks start, which gradient
steps it is made of (its phases), and how to draw images from trained networks. There are no trainers: the loop
(`core/loop.py`) and the step (`core/step.py`) are the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, Key

Image = Float[Array, "b h w c"]  # float32 in [-1, 1], everywhere inside the package
Batch = Mapping[str, Array]  # "image", and where the data have them "label", "tokens", "source", "mask"; rows lead
Scalar = Float[Array, ""]
Variables = Mapping[str, Any]  # the linen collections of one network: "params", "batch_stats", ...
Nets = Mapping[str, Variables]  # network name -> its collections; "params" may be absent
PRNGKey = Key[Array, ""]
PRNGKeys = Key[Array, " b"]


class Inputs(NamedTuple):
    """All that a loss may look at beside the networks."""

    batch: Batch
    key: PRNGKey  # for what concerns the batch as a whole
    keys: PRNGKeys  # one a row, sliced with the batch: accumulated gradients then draw the same noise as plain ones
    step: Int[Array, ""]
    averaged: Nets  # every network as sampling sees it: moving averages where they are kept; for teachers and targets


class Aux(NamedTuple):
    """What a loss returns beside its value."""

    metrics: Mapping[str, Scalar]
    stats: Mapping[str, Variables] = {}  # carried, not differentiated: new values of collections, of any network
    images: Image | None = None  # what the loss generated or reconstructed: `core.health` watches it


Loss = Callable[[Nets, Inputs], tuple[Scalar, Aux]]


class Phase(NamedTuple):
    """One gradient step on some networks, all others held fixed."""

    trains: tuple[str, ...]
    loss: Loss
    name: str
    every: int = 1  # due when (step + 1) % every == 0: critic steps, lazy penalties


class Entry(NamedTuple):
    """What a stage begins with. All that is not named here goes on as it was."""

    nets: Nets
    fresh_optimizers: tuple[str, ...] = ()  # networks whose optimizer starts afresh
    fresh_averages: tuple[str, ...] = ()  # networks whose averages start afresh, from these weights


@runtime_checkable
class Model(Protocol):
    """What the core asks of a model.

    More members are optional. `num_classes: int` (0 or absent: no labels) is the number of values that
    `conditions["label"]` may take. `condition_rows` tells what else of the data `sample` makes images from: by name
    ("source") the shape and dtype of one row, as the data hold it; grids and evaluations take the first rows.
    `check_conditions(conditions)` raises ValueError for values that it cannot sample by, before compiling. A model that
    changes while it trains has `stage(step) -> Hashable`, a static schedule such as the resolution, and
    `enter(stage, nets) -> Entry`, called at each change of stage (the first included).
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what it models."""
        ...

    def __hash__(self) -> int: ...

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Fresh networks. Raises ValueError where `batch` is not what the hyperparameters were made for."""
        ...

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """The gradient steps of one training step, in order."""
        ...


@runtime_checkable
class Generative(Model, Protocol):
    """A model that draws images. Its runs have grids; those of any other, such as a classifier, have none.

    `optional_conditions: tuple[str, ...]` names conditions beside labels that `sample` reads where they are given, such
    as "truncation". A model that makes each image of a latent has `latent_dim` and `generate(nets, z, conditions)`, by
    which images can be edited (`gan.latents`).
    """

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """`n` images in [-1, 1]. `conditions` holds arrays with `n` rows ("label") or scalars ("guidance")."""
        ...


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")


def check_images(model: Model, batch: Batch) -> None:
    """Raises ValueError where the images of `batch` have not the shape that `model` was made for."""
    given, wanted = tuple(batch["image"].shape[1:]), tuple(model.image_shape)
    if given != wanted:
        name = type(model).__name__
        raise ValueError(
            f"the data give images of {_times(given)} (height x width x channels), but this {name} has "
            f"model.image_shape={_times(wanted)}: change the model's image_shape, or the data's size and channels"
        )


def check_labels(model: Model, batch: Batch) -> None:
    """Raises ValueError where a class-conditional `model` is given a batch without labels."""
    classes = getattr(model, "num_classes", 0)
    if classes and "label" not in batch:
        raise ValueError(
            f"model.num_classes={classes}, but the batch has no 'label': "
            "use a source with classes, or set model.num_classes to 0"
        )


def one_hot_labels(model: Model, batch: Batch) -> Float[Array, "b k"] | None:
    """The labels of `batch` as rows of `num_classes` values, one of which is 1; None for a model without classes."""
    classes = getattr(model, "num_classes", 0)
    return jax.nn.one_hot(batch["label"], classes) if classes else None


def condition_rows(model: Any) -> Mapping[str, jax.ShapeDtypeStruct]:
    """What `model` makes images from beside labels: by name, one row as the data hold it; {} for most models."""
    return getattr(model, "condition_rows", {})


def check_condition_rows(model: Any, batch: Mapping[str, Any]) -> None:
    """Raises ValueError where `batch` lacks what `model` makes images from, or has it in another shape."""
    name = type(model).__name__
    for leaf, row in condition_rows(model).items():
        if leaf not in batch:
            raise ValueError(
                f"a {name} makes images from {leaf!r}, which is not given: train on data that have it, such as Paired "
                f"or Lowered, and sample with {leaf}=..., an array with a row an image"
            )
        given = tuple(batch[leaf].shape[1:])
        if given != row.shape:
            raise ValueError(f"{leaf!r} has rows of {_times(given)}, but this {name} wants {_times(row.shape)}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


# --- frozen networks -------------------------------------------------------------------------------------------------


@runtime_checkable
class WithFrozen(Protocol):
    """A model some of whose networks are trained elsewhere: given by `Experiment.pretrained`, and held as they are."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of networks that no phase trains, that no loss returns statistics of, and that are kept once."""
        ...


def frozen_networks(model: Any) -> tuple[str, ...]:
    """Returns the names of a model's frozen networks; () for most models."""
    return model.frozen if isinstance(model, WithFrozen) else ()
