"""Draws samples of a model, a chunk at a time, after a look at their conditions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays import shard
from imagegen_jax.core.arrays.image import images_to_float, is_image
from imagegen_jax.core.arrays.space import picture_of, space_of
from imagegen_jax.core.config.given import check_integer, check_labels, check_numbers, check_seed
from imagegen_jax.core.drawing.finite import as_drawn, check_finite_images, to_bytes
from imagegen_jax.core.drawing.grid import beside, repeated
from imagegen_jax.core.model import (
    Batch,
    ChecksConditions,
    Generative,
    Model,
    Nets,
    check_condition_rows,
    condition_rows,
    num_classes,
    optional_conditions,
)
from imagegen_jax.core.platform.target import cached_by_platform

GUIDANCE = 1000.0  # the strongest, of either sign: far above it, nothing but rounding and overflow is left of an image
Conditions = Mapping[str, Any]  # what sampling is given beside a key: arrays with a row an image, or scalars


def sample(
    model: Model,
    nets: Nets,
    n: int,
    seed: int = 0,
    conditions: Conditions | None = None,
    chunk: int = 256,
) -> np.ndarray:
    """Draws `n` images, uint8 [n h w c], `chunk` at a time; the same for the same seed, n and chunk.

    A model of latents draws float32, as its space decodes them, and not clipped. `conditions` holds arrays with n rows
    ("label", "source" as uint8 images) or scalars ("guidance"). It runs on the devices that hold the networks. Raises
    ValueError for labels that the model does not know, or that are missing, and where what it makes images from is not
    given, and TypeError for a model that draws nothing.
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
    """Draws the images of `sample` from row `start` on, a chunk at a time; `start` is a whole number of chunks."""
    conditions, seed = dict(conditions or {}), check_seed(seed)
    draw, chunk = drawing(model, nets, n, conditions, chunk)
    if check_integer(start, "start", 0) % chunk:
        raise ValueError(f"start={start}: must be a whole number of chunks of {chunk}")
    for at in range(start, n, chunk):
        drawn = draw(nets, np.uint32(seed), np.uint32(at // chunk), rows_at(conditions, at, chunk))
        images, finite = (to_host(values)[: n - at] for values in drawn)
        check_finite_images(finite, nets)
        yield images


def drawing(model: Model, nets: Nets, n: int, conditions: Conditions, chunk: int) -> tuple[Any, int]:
    """Returns a function that draws a chunk, compiled when it is called, and how many images a chunk has.

    Raises what `sample` raises.
    """
    if not isinstance(model, Generative):
        raise TypeError(f"a {type(model).__name__} draws no images: it has no method `sample`")
    check_integer(n, "n")
    check_conditions(model, n, conditions)
    mesh = shard.mesh_of(nets)
    chunk = chunk_on(mesh, n, chunk)
    return _sampler(model, mesh, chunk), chunk


def chunk_on(mesh: Mesh, n: int, chunk: int) -> int:
    """Returns how many images are drawn at a time where `chunk` are asked for: as many on each device."""
    return -(-min(check_integer(chunk, "chunk"), n) // mesh.size) * mesh.size


def program_text(model: Model, nets: Nets, n: int, conditions: Conditions, chunk: int) -> str:
    """Returns the program that `sample` runs, as text: models with the same one draw the same images."""
    draw, chunk = drawing(model, nets, n, conditions, chunk)
    return draw.lower(nets, np.uint32(0), np.uint32(0), rows_at(conditions, 0, chunk)).as_text()


def check_conditions(model: Model, n: int, conditions: Conditions) -> None:
    """Raises ValueError where labels are missing, not wanted, not `n` or out of range.

    Likewise where anything else that the model makes images from is missing or of another number or shape, and for
    conditions that it does not read, numbers that are not finite and guidance that no image can follow.
    """
    for name, values in conditions.items():
        if name == "guidance" or (np.asarray(values).dtype.kind == "f" and name not in ("label", "truncation")):
            check_numbers(values, name, GUIDANCE if name == "guidance" else math.inf)
    if isinstance(model, ChecksConditions):
        model.check_conditions(conditions)
    known = {"label", *condition_rows(model), *optional_conditions(model)}
    for name in sorted(set(conditions) - known):
        raise ValueError(f"{name!r} given, but a {type(model).__name__} reads {sorted(known)} alone: leave it out")
    check_condition_rows(model, {name: np.asarray(values) for name, values in conditions.items()})
    for name in sorted(set(conditions) - {"label"}):
        if np.ndim(conditions[name]) and len(conditions[name]) != n:
            raise ValueError(f"{len(conditions[name])} rows of {name!r} for {n} images: give one an image")
    classes = num_classes(model)
    if classes and "label" not in conditions:
        raise ValueError(f"this model draws images of {classes} classes: say which (labels=..., --labels 0,1,2)")
    if "label" not in conditions:
        return
    labels = np.asarray(conditions["label"])
    if not classes:
        raise ValueError(f"labels {labels.tolist()[:10]} given, but this model knows no classes: leave them out")
    if labels.shape != (n,):
        raise ValueError(f"labels of shape {labels.shape} for {n} images: give one label an image")
    check_labels(labels, classes)


@cached_by_platform
def _sampler(model: Generative, mesh: Mesh, n: int) -> Any:
    kept = to_bytes if space_of(model).draws_images else as_drawn

    def draw(nets: Nets, seed: Any, index: Any, conditions: Batch) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), index)
        return kept(model.sample(nets, key, n, images_to_float(conditions)))

    return compiling.jit(draw, out_shardings=shard.batch_sharding(mesh))


def rows_at(conditions: Conditions, start: int, n: int) -> dict[str, np.ndarray]:
    """Returns rows [start, start + n) of each condition, the last repeated past the end, and scalars as they are."""
    arrays = {name: np.asarray(values) for name, values in conditions.items()}
    rows = np.arange(start, start + n)
    return {name: a[np.minimum(rows, len(a) - 1)] if a.ndim else a for name, a in arrays.items()}


def to_host(images: Any) -> np.ndarray:
    """Returns the rows of all processes as an array of this one."""
    if jax.process_count() == 1:
        return np.asarray(images)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(images, tiled=True))


def filled_from_data(
    conditions: Conditions, model: Model, open_data: Callable[[], Any], n: int, seed: int
) -> Conditions:
    """Fills in what `model` makes images from and `conditions` lack: the data's first `n` rows in the order of `seed`.

    Optional conditions that come with these rows, such as which tokens are seen, are added as well.
    """
    missing = [name for name in condition_rows(model) if name not in conditions]
    batch = open_data().batch(0, n, seed) if missing else {}
    beside = [name for name in optional_conditions(model) if name in batch and name not in conditions]
    return {**conditions, **{name: batch[name] for name in (*missing, *beside)}}


def panels(model: Model, images: np.ndarray, batch: Mapping[str, np.ndarray]) -> np.ndarray:
    """Puts each image between its source and the data's own image of that row: [n h W c].

    Smaller sources are magnified by a whole number. Returns `images` themselves for a model that makes them from
    nothing, or from images that do not reach their height so; and a picture of latents (`space.picture_of`).
    """
    if images.dtype != np.uint8 or "image" not in batch or batch["image"].dtype != np.uint8:
        return picture_of(model, images)[..., :3]
    sources = [batch[name] for name, row in condition_rows(model).items() if is_image(row.shape, row.dtype)]
    sources = [repeated(source, images.shape[1]) for source in sources]
    sources = [source for source in sources if source.shape[1] == images.shape[1]]
    own = () if "image" in condition_rows(model) else (batch["image"],)  # a reconstruction's source is the data's own
    return beside(*sources, images, *own) if sources else images


def class_rows(num_classes: int, n: int) -> tuple[np.ndarray | None, int]:
    """Returns (labels, columns) for a grid of about `n` images with a class a row; (None, columns) without classes."""
    if not num_classes:
        return None, max(1, round(n**0.5))
    rows = min(num_classes, n)
    return np.repeat(np.arange(rows, dtype=np.int32), n // rows), n // rows


def label_conditions(labels: Sequence[int] | np.ndarray | None) -> dict[str, np.ndarray]:
    """Returns labels as `conditions`, not yet checked; none for None."""
    return {} if labels is None else {"label": np.asarray(labels)}
