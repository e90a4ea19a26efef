"""The contract between a model and everything else: what a model is given, and what it returns.

A model is a frozen dataclass of hyperparameters that holds no arrays. It says how its networks start, which gradient
steps it is made of (its phases), and how to draw images from trained networks. There are no trainers: the loop
(`core/loop.py`) and the step (`core/step.py`) are the same for every model.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Int, Key

Image = Float[Array, "b h w c"]  # float32 in [-1, 1], everywhere inside the package; or latents (`core.arrays.space`)
Batch = Mapping[str, Array]  # "image" or "codes", and where the data have them "label", "source", "mask"; rows first
Scalar = Float[Array, ""]
Variables = Mapping[str, Any]  # the linen collections of one network: "params", "batch_stats", ...
Nets = Mapping[str, Variables]  # network name -> its collections; "params" may be absent
# What a network makes of the rows of its layer "label": takes them as they are; has a last one for a label that is
# dropped; multiplies them by the root of their number; or gives each column unit magnitude.
LabelRows = Literal["plain", "dropped", "scaled", "unit"]
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
    images: Image | None = None  # what the loss generated or reconstructed: `core.reporting.health` watches it


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


# --- what a model can do ---------------------------------------------------------------------------------------------
# None of these is inherited from: a class that has the members takes part, also a user's own. Data members are
# properties here, so that fields, class variables and properties all count. The core reads these; `core.capabilities`
# has those that editing, guidance and commands ask for.


@runtime_checkable
class Model(Protocol):
    """What the core asks of every model. What else a model can do is said by the protocols below it."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of what it models."""
        ...

    def __hash__(self) -> int: ...

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Makes fresh networks. Raises ValueError where `batch` is not what the hyperparameters were made for.

        The values of `batch` are zeros, except for a model that is `StartsFromData`.
        """
        ...

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the gradient steps of one training step, in order."""
        ...


@runtime_checkable
class StartsFromData(Protocol):
    """A model whose `init` may look at real images, such as for activations that start with unit variance."""

    @property
    def starts_from_data(self) -> bool:
        """Tells whether `init` is given the first batch of training, as losses would see it, in place of zeros.

        Pretrained networks take their weights afterwards.
        """
        ...


@runtime_checkable
class Generative(Model, Protocol):
    """A model that draws images. Its runs have grids; those of any other, such as a classifier, have none."""

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], or latents where the model works in their space (`core.arrays.space`).

        `conditions` holds arrays with `n` rows ("label") or scalars ("guidance").
        """
        ...


@runtime_checkable
class ClassConditional(Protocol):
    """A model that can be given classes. `num_classes(model)` asks any model for them."""

    @property
    def num_classes(self) -> int:
        """The number of values that `conditions["label"]` may take; 0, as for a model without this: no labels."""
        ...


@runtime_checkable
class FromRows(Protocol):
    """A model that makes images from more of the data than labels. `condition_rows(model)` asks any model for it."""

    @property
    def condition_rows(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """The shape and dtype of a row as the data hold it, by name ("source"); grids take the data's first rows."""
        ...


@runtime_checkable
class OptionallyConditioned(Protocol):
    """A model that reads more conditions where they are given. `optional_conditions(model)` asks any model for them."""

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The names of conditions beside labels that `sample` reads where they are given, such as "truncation"."""
        ...


@runtime_checkable
class ChecksConditions(Protocol):
    """A model that refuses some values of its conditions."""

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for values that it cannot sample by, before anything is compiled."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A model that changes while it trains, as one that grows does."""

    def stage(self, step: int) -> Hashable:
        """Returns the static setting that training step `step` is compiled for, such as the resolution."""
        ...


@runtime_checkable
class Entering(Protocol):
    """A model that makes networks anew where a stage begins."""

    def enter(self, stage: Hashable, nets: Nets) -> Entry:
        """Returns what the stage begins with; called at each change of stage, the first included."""
        ...


def starts_from_data(model: object) -> bool:
    """Tells whether `model.init` wants the first batch of training."""
    return isinstance(model, StartsFromData) and model.starts_from_data


def num_classes(model: object) -> int:
    """Returns how many classes `model` knows; 0 for one without labels."""
    return model.num_classes if isinstance(model, ClassConditional) else 0


def condition_rows(model: object) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Returns what `model` makes images from beside labels, by name: a row as the data hold it; {} for most models."""
    return model.condition_rows if isinstance(model, FromRows) else {}


def optional_conditions(model: object) -> tuple[str, ...]:
    """Returns the names of the conditions beside labels that `model` reads where they are given."""
    return model.optional_conditions if isinstance(model, OptionallyConditioned) else ()


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises ValueError for a value that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value!r}: must be one of {', '.join(map(repr, choices))}")


def check_images(model: Model, batch: Batch) -> None:
    """Raises ValueError where `batch` has no images, or of another shape than `model` was made for."""
    if "image" not in batch:
        raise ValueError(f"a {type(model).__name__} is of images, but the data give {', '.join(sorted(batch))} alone")
    given, wanted = tuple(batch["image"].shape[1:]), tuple(model.image_shape)
    if given != wanted:
        name = type(model).__name__
        raise ValueError(
            f"the data give images of {_times(given)} (height x width x channels), but this {name} has "
            f"model.image_shape={_times(wanted)}: change the model's image_shape, or the data's size and channels"
        )


def check_labels(model: Model, batch: Batch) -> None:
    """Raises ValueError where a class-conditional `model` is given a batch without labels."""
    classes = num_classes(model)
    if classes and "label" not in batch:
        raise ValueError(
            f"model.num_classes={classes}, but the batch has no 'label': "
            "use a source with classes, or set model.num_classes to 0"
        )


def one_hot_labels(model: Model, batch: Batch) -> Float[Array, "b k"] | None:
    """Returns the labels of `batch` one-hot, as rows of `num_classes` values; None for a model without classes."""
    classes = num_classes(model)
    return jax.nn.one_hot(batch["label"], classes) if classes else None


def check_condition_rows(model: Any, batch: Mapping[str, Any]) -> None:
    """Raises ValueError where `batch` lacks what `model` makes images from, or has it in another shape."""
    name = type(model).__name__
    for leaf, row in condition_rows(model).items():
        if leaf not in batch:
            remedy = "train on captioned data, such as Captioned(Shapes()), and sample with prompts=[...] (--prompt)"
            if not leaf.startswith("text"):
                remedy = (
                    f"train on data that have it, such as Paired or Lowered, and sample with {leaf}=..., an array with "
                    "a row an image"
                )
            raise ValueError(f"a {name} makes images from {leaf!r}, which is not given: {remedy}")
        given = tuple(batch[leaf].shape[1:])
        if given != row.shape:
            raise ValueError(f"{leaf!r} has rows of {_times(given)}, but this {name} wants {_times(row.shape)}")


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(str(n) for n in shape)


# --- frozen networks -------------------------------------------------------------------------------------------------


@runtime_checkable
class WithFrozen(Protocol):
    """A model with networks that are trained elsewhere: given by `Experiment.pretrained`, and left as they are."""

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of networks that no phase trains, that no loss returns statistics for, and that are kept once."""
        ...


@runtime_checkable
class InSpace(Protocol):
    """A model that says which space it works in, as `core.arrays.space` describes them."""

    @property
    def space(self) -> Any: ...


def frozen_networks(model: Any) -> tuple[str, ...]:
    """Returns the names of the frozen networks of a model and of its space; () for most models."""
    spaces = (model.space,) if isinstance(model, InSpace) else ()
    return tuple(name for one in (model, *spaces) if isinstance(one, WithFrozen) for name in one.frozen)
