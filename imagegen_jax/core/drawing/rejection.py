"""Rejection by a classifier: more samples are drawn than asked for, and the likeliest of each class are kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, UInt8

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays import shard
from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.arrays.space import sample_shape, space_of
from imagegen_jax.core.capabilities import Classifying
from imagegen_jax.core.drawing.draw import to_host
from imagegen_jax.core.model import Model, Nets, condition_rows, num_classes
from imagegen_jax.core.platform.target import cached_by_platform

Images = UInt8[np.ndarray, "b h w c"]
Labels = Int[np.ndarray, " n"]
Classify = Callable[[Images], Float[np.ndarray, "b k"]]  # the log-probability of every class
Draw = Callable[[Labels, int], Iterator[Images]]  # images of these classes from a row on, chunk by chunk


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Keeps the `share` of samples that a classifier finds likeliest to be of the class that was asked for.

    So many times more of each class are drawn, and ranked by the probability of that class (Razavi et al. 2019, arXiv
    1906.00446, section 3.4; Esser et al. 2021, arXiv 2012.09841, table 4, which calls `share` the acceptance rate):
    images become more typical of their class, and less various. `classify` is such as `Run.classify` of a classifier's
    run. Raises ValueError for a share that is not above 0 and at most 1.
    """

    share: float
    classify: Classify

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} of samples to keep: must be above 0, and at most 1, which keeps all")

    def drawn(self, wanted: int) -> int:
        """Returns how many images of a class are drawn, to keep as many as `wanted`."""
        return math.ceil(wanted / self.share - 1e-9)  # 3 / 0.1 is a little more than 30

    def total(self, labels: Labels) -> int:
        """Returns how many images are drawn for those of `labels`."""
        return sum(map(self.drawn, np.unique(labels, return_counts=True)[1].tolist()))

    def chunks(self, labels: Labels, chunk: int, draw: Draw, start: int = 0) -> Iterator[Images]:
        """Yields the images that are kept, in the order of `labels` from row `start` on, at least a class at a time.

        Classes are drawn one after another, by `draw`, `chunk` images at a time. Those that are kept of a class are in
        memory until it is their turn: with `labels` in no order of classes, nearly all of them. Raises ValueError where
        the classifier does not know all of the classes.
        """
        classes, at, waiting = np.unique(labels), start, dict[int, np.ndarray]()
        first = int(np.searchsorted(classes, labels[start:].min()))
        for k, images in self._of_classes(labels, chunk, draw, first):
            rows = np.flatnonzero(labels == classes[k]).tolist()
            waiting |= {row: image for row, image in zip(rows, images, strict=True) if row >= start}
            ready = []
            while at in waiting:
                ready.append(waiting.pop(at))
                at += 1
            if ready:
                yield np.stack(ready)

    def _of_classes(self, labels: Labels, chunk: int, draw: Draw, first: int) -> Iterator[tuple[int, Images]]:
        """Yields the number of each class, from the `first` on, and its images in the order of drawing."""
        classes, wanted = np.unique(labels, return_counts=True)
        drawn = np.array([self.drawn(count) for count in wanted.tolist()])
        ends, of_row = np.cumsum(drawn), np.repeat(np.arange(len(classes)), drawn)
        row, images, scores = int(ends[first] - drawn[first]) // chunk * chunk, None, np.zeros(0)
        for found in draw(classes[of_row], row):
            of_found = of_row[row : row + len(found)]
            row += len(found)
            fit = self._scores(found, classes[of_found], chunk)
            for k in np.unique(of_found[of_found >= first]).tolist():
                new = found[of_found == k]
                images = new if images is None else np.concatenate([images, new])
                scores = np.concatenate([scores, fit[of_found == k]])
                best = np.sort(np.argsort(-scores, kind="stable")[: wanted[k]])
                images, scores = images[best], scores[best]
                if row >= ends[k]:
                    yield k, images
                    images, scores = None, np.zeros(0)

    def _scores(self, images: Images, labels: Labels, chunk: int) -> Float[np.ndarray, " b"]:
        """Returns the log-probability of each image's own class; a short chunk is padded, so as to compile once."""
        found = np.asarray(self.classify(images[np.minimum(np.arange(chunk), len(images) - 1)]))
        if found.ndim != 2 or len(found) != chunk or found.shape[1] <= labels.max():
            raise ValueError(
                f"the classifier gives {list(found.shape)} numbers for {chunk} images of class {labels.max()} and "
                "others: it must know all classes of the samples"
            )
        return found[np.arange(len(images)), labels]


def check_rejectable(model: Model, conditions: Mapping[str, Any] | None = None) -> None:
    """Raises ValueError for a model whose samples no classifier can choose among, and for conditions row by row."""
    name = type(model).__name__
    if not num_classes(model):
        raise ValueError(
            f"rejection keeps the likeliest images of a class, and a {name} knows no classes: leave it out"
        )
    if not space_of(model).draws_images:
        raise ValueError(f"rejection by a classifier of images: what this {name} draws are latents: leave it out")
    rows = [*condition_rows(model), *(key for key, value in (conditions or {}).items() if np.ndim(value))]
    if rows:
        raise ValueError(
            f"rejection keeps the likeliest images of a class, but each image of this {name} has a {rows[0]!r} of its "
            "own: leave it out"
        )


def classify(model: Model, nets: Nets, images: Images) -> Float[np.ndarray, "b k"]:
    """Returns the log-probability of each class for images uint8 [B H W C] in 0..255: float32 [B K].

    Raises TypeError for a model that tells no classes, and ValueError for images of another shape than it knows.
    """
    if not isinstance(model, Classifying) or not space_of(model).draws_images:
        raise TypeError(f"a {type(model).__name__} tells no classes of images: it has no method `classify` of these")
    if images.dtype != np.uint8 or images.shape[1:] != tuple(sample_shape(model)):
        raise ValueError(
            f"{images.dtype} images of {images.shape[1:]}, but the classifier knows uint8 ones of {sample_shape(model)}"
        )
    mesh = shard.mesh_of(nets)
    place = shard.replicated(mesh) if len(images) % mesh.size else shard.batch_sharding(mesh)
    return to_host(_program(model)(nets, jax.device_put(images, place)))


@cached_by_platform
def _program(model: Classifying) -> Any:
    return compiling.jit(lambda nets, images: model.classify(nets, to_float(images)))
