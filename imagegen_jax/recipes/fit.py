"""An experiment on other data than it was written for: its model is fitted to their images and classes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from typing import Any

from imagegen_jax.core.arrays.space import autoencoder_of
from imagegen_jax.core.capabilities import ForImages, first_stage_for, reads_text
from imagegen_jax.core.experiment import Experiment, abstract_nets, row_shapes
from imagegen_jax.core.model import Model
from imagegen_jax.core.model import num_classes as known_classes
from imagegen_jax.data import Captioned, CodeSet, Latents, Source
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.metrics.features.choose import kind_of

Shape = tuple[int, int, int]
FARTHEST = 2  # sizes are tried up to this many times as large as the one asked for, and as small
TRIED = 24  # sizes at most, on each side


def fitted(experiment: Experiment, data: Source) -> Experiment:
    """Returns `experiment` on other data: its model has their shape, and their classes where it knows any.

    A source that is made of another, such as `Lowered`, is made of the other data then; captioned data keep the
    recipe's tokenizer, and its model its classes. Codes leave the model as it is, which validation compares with them.
    Raises ValueError where the model cannot be fitted, naming the nearest sizes that can be, and what opening the data
    raises.
    """
    either = autoencoder_of(experiment.model) is not None
    if isinstance(experiment.data, Latents) != isinstance(data, Latents) and not either:
        kinds = ("latents", "images") if isinstance(experiment.data, Latents) else ("images", "latents")
        raise ValueError(f"{experiment.name} is trained on {kinds[0]}, but {data} are {kinds[1]}: take another recipe")
    source = _replaced_source(experiment.data, _innermost(experiment.data, data))
    dataset: Any = source.open()
    if isinstance(dataset, CodeSet):
        if experiment.evaluation is not None:
            print("note: without the recipe's scores as it trains, which compare with images", file=sys.stderr)
        return dataclasses.replace(experiment, data=source, evaluation=None)
    classes = known_classes(experiment.model) if reads_text(experiment.model) else classes_of(dataset)
    model = model_for_images(experiment.model, dataset.image_shape, classes)
    changed = dataclasses.replace(experiment, data=source, model=model, evaluation=_evaluation(experiment, source))
    _check_size(changed, dataset)
    return changed


def _innermost(old: Any, new: Source) -> Source:
    """Returns what takes the place of the source that captioned data `old` are made of: without a tokenizer."""
    return new.source if isinstance(old, Captioned) and isinstance(new, Captioned) else new


def classes_of(dataset: Any) -> int:
    """Returns how many classes a data set has; 0 where there is only one, which tells no images apart."""
    number = dataset.num_classes if dataset.labels is not None else 0
    return number if number > 1 else 0


def model_for_images(model: Model, image_shape: Shape, num_classes: int) -> Model:
    """Returns a model like `model` for images of a shape and so many classes (0: none).

    A model that meets `ForImages` does it itself; of any other the fields image_shape and num_classes are replaced, and
    source_shape keeps its proportion. Raises ValueError where it has no such fields, or cannot be so.
    """
    autoencoder = autoencoder_of(model)
    if autoencoder is not None and tuple(image_shape) == tuple(autoencoder.latent_shape):  # latents of such images
        image_shape = autoencoder.image_shape
    try:
        if isinstance(model, ForImages):
            return model.for_images(image_shape, num_classes)
        return _with_fields(model, image_shape, num_classes)
    except ValueError as error:
        if not num_classes and known_classes(model):
            name = type(model).__name__
            raise ValueError(
                f"{error}: the data have no classes, and a {name} may need some: put the images of each class in a "
                "folder of its own, or take another recipe"
            ) from error
        raise


def _with_fields(model: Any, image_shape: Shape, num_classes: int) -> Any:
    fields = {field.name for field in dataclasses.fields(model)}
    if "image_shape" not in fields:
        raise ValueError(
            f"a {type(model).__name__} has no field image_shape to fit to other images: give it a method for_images"
        )
    changes = _shapes(model, image_shape)
    if "num_classes" in fields:
        changes["num_classes"] = num_classes
    if "label_dropout" in fields and not num_classes:
        changes["label_dropout"] = 0.0  # there is none to leave out
    if "source_shape" in fields and (source := model.source_shape) is not None:
        sides = (image_shape[i] * source[i] // model.image_shape[i] for i in (0, 1))
        changes["source_shape"] = (*sides, image_shape[2] if source[2] == model.image_shape[2] else source[2])
    return dataclasses.replace(model, **changes)


def _shapes(model: Any, image_shape: Shape) -> dict[str, Any]:
    """Returns the fields that follow the shape of images: with an autoencoder, its own and the shape of its latents."""
    autoencoder = autoencoder_of(model)
    if autoencoder is None:
        return {"image_shape": image_shape}
    fitted = first_stage_for(autoencoder, image_shape)
    return {"image_shape": fitted.latent_shape, "space": dataclasses.replace(model.space, autoencoder=fitted)}


def _replaced_source(old: Any, new: Source) -> Source:
    """Returns the source `new`, in place of the innermost source of `old` where that is made of another one."""
    for field in dataclasses.fields(old) if dataclasses.is_dataclass(old) else ():
        inner = getattr(old, field.name)
        if isinstance(inner, Source):
            changed: Any = dataclasses.replace(old, **{field.name: _replaced_source(inner, new)})
            return changed
    return new


def _evaluation(experiment: Experiment, data: Source) -> Any:
    """Returns the recipe's evaluation; None where it would compare by a classifier of the recipe's own data."""
    found = experiment.evaluation
    if isinstance(found, Evaluate) and found.extractor == "auto" and kind_of("auto", data) != "classifier":
        print(
            "note: without the recipe's scores as it trains, which a classifier of its own data gives: "
            "`imagegen evaluate` measures a run of any data",
            file=sys.stderr,
        )
        return None
    return found


# --- sizes -----------------------------------------------------------------------------------------------------------


def _check_size(experiment: Experiment, dataset: Any) -> None:
    """Raises ValueError, naming the nearest sizes that fit, where the networks do not take images of that size."""
    rows = row_shapes(dataset)
    try:
        abstract_nets(experiment.model, rows)
    except ValueError as error:
        height, width, _ = dataset.image_shape
        near = [] if height != width else nearest_sizes(experiment.model, dataset.image_shape, rows)
        if not near:
            raise
        words = " and ".join(f"{size} (--size {size})" for size in near)
        raise ValueError(f"{error}\nThe nearest sizes that this recipe takes: {words}") from error


def nearest_sizes(model: Model, image_shape: Shape, rows: Any) -> list[int]:
    """Returns the nearest smaller and the nearest larger size of square images that the networks of `model` take."""
    size, channels = image_shape[0], image_shape[2]
    smaller = range(size - 1, max(size // FARTHEST, size - TRIED, 3), -1)
    larger = range(size + 1, min(size * FARTHEST, size + TRIED) + 1)
    return list(_first_that_fit(model, channels, rows, (smaller, larger)))


def _first_that_fit(model: Model, channels: int, rows: Any, ways: tuple[range, ...]) -> Iterator[int]:
    classes = known_classes(model)
    for sizes in ways:
        for size in sizes:
            shape = (size, size, channels)
            image = type(rows["image"])(shape, rows["image"].dtype)
            try:
                abstract_nets(model_for_images(model, shape, classes), {**rows, "image": image})
            except (ValueError, TypeError):
                continue
            yield size
            break
