"""Quilts of the training images: blocks of them at their places, joined by seams (Efros & Freeman 2001, SIGGRAPH).

The images themselves are kept, as a collection of the network. A block is drawn among those of all images at its place,
by how well it goes on with the blocks on its left and above: p(k) ~ exp(-s error_k). How strictly, s, is learned: with
it the blocks of an image, given what is beside them, are likeliest around those of the other images (a kernel
estimate).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from imagegen_jax.core.config.bounds import Count, Natural, Shape
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    Scalar,
    Variables,
    check_images,
    check_labels,
)
from imagegen_jax.nn.patches.quilting import errors, places_of, with_block


@dataclasses.dataclass(frozen=True)
class PatchQuilt:
    """Blocks of the last `memory` training images, side by side."""

    image_shape: Shape = (28, 28, 1)
    block: Count = 8  # pixels of a side
    overlap: Count = 4
    memory: Count = 2000  # images that are kept
    num_classes: Natural = 0

    def __post_init__(self) -> None:
        places_of(min(self.image_shape[:2]), self.block, self.overlap)

    @property
    def starts_from_data(self) -> bool:
        """Tells that the memory begins with images of the first batch."""
        return True

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Fills the memory with the first batch, in turn. Raises ValueError where images or labels do not fit."""
        check_images(self, batch)
        check_labels(self, batch)
        rows = jnp.arange(self.memory) % len(batch["image"])
        memory = {"image": batch["image"][rows], "written": jnp.zeros((), jnp.int32)}
        if self.num_classes:
            memory["label"] = batch["label"][rows].astype(jnp.int32)
        params = {"log_strictness": jnp.zeros(()), "log_width": jnp.full((), math.log(0.5))}
        return {"network": {"params": params, "memory": memory}}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: images are kept, and strictness is learned."""
        return (Phase(("network",), self.loss, "quilt"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log p of each block of an image, given what it overlaps, in nats for each value; keeps the images."""
        params, memory = nets["network"]["params"], nets["network"]["memory"]
        images, labels = inputs.batch["image"], inputs.batch.get("label") if self.num_classes else None
        of_image = jax.vmap(lambda image, label: self._log_prob(params, memory, image, label))
        nats = -jnp.mean(of_image(images, labels))
        kept = self._with_images(memory, images, labels)
        return nats, Aux({"nats_a_value": nats}, {"network": {"memory": kept}})

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` quilts, block by block, of images of the class where the model has classes."""
        check_labels(self, conditions)
        params, memory = nets["network"]["params"], nets["network"]["memory"]
        labels = conditions["label"] if self.num_classes else None
        rows, columns = self._places
        step = self.block - self.overlap
        canvas = (rows * step + self.overlap, columns * step + self.overlap)
        height, width, channels = self.image_shape
        edge = ((0, 0), (0, canvas[0] - height), (0, canvas[1] - width), (0, 0))
        images = jnp.pad(memory["image"], [(low, max(0, high)) for low, high in edge], mode="edge")

        def draw(key: PRNGKey, label: Array | None) -> Float[Array, "h w c"]:
            def add(i: Array, quilt: Array) -> Array:
                place = jnp.stack([i // columns, i % columns])
                start = (0, *(place * step), 0)
                blocks = lax.dynamic_slice(images, start, (self.memory, self.block, self.block, channels))
                choose = lambda error: self._logits(params, memory, error, label)  # noqa: E731
                return with_block(quilt, blocks, place, self.overlap, choose, jax.random.fold_in(key, i))

            return lax.fori_loop(0, rows * columns, add, jnp.zeros((*canvas, channels)))

        return jax.vmap(draw)(jax.random.split(key, n), labels)[:, :height, :width]

    @property
    def _places(self) -> tuple[int, int]:
        height, width, _ = self.image_shape
        return places_of(height, self.block, self.overlap), places_of(width, self.block, self.overlap)

    def _logits(
        self, params: Variables, memory: Variables, error: Float[Array, " k"], label: Array | None
    ) -> Float[Array, " k"]:
        logits = -jnp.exp(params["log_strictness"]) * error
        return logits if label is None else jnp.where(memory["label"] == label, logits, -1e9)

    def _log_prob(
        self, params: Variables, memory: Variables, image: Float[Array, "h w c"], label: Array | None
    ) -> Scalar:
        """log sum_k p(k) N(new; new_k, width^2) for each value, over the places of whole blocks, without `image`."""
        step, width = self.block - self.overlap, jnp.exp(params["log_width"]) + 1e-2
        itself = jnp.all(memory["image"] == image, axis=(1, 2, 3))
        total, values = jnp.zeros(()), 0.0
        for row, column in itertools.product(*map(range, self._places)):
            top, left = row * step, column * step
            here = image[top : top + self.block, left : left + self.block]
            blocks = memory["image"][:, top : top + self.block, left : left + self.block]
            edge = np.arange(self.block) < self.overlap
            known = ((row > 0) & edge[:, None]) | ((column > 0) & edge)
            known = known[: here.shape[0], : here.shape[1]]
            new = float((~known).sum()) * image.shape[-1]
            square = errors(blocks, here, jnp.asarray(~known)) * new
            logits = jnp.where(
                itself, -1e9, self._logits(params, memory, errors(blocks, here, jnp.asarray(known)), label)
            )
            normal = -square / (2 * width**2) - new * (jnp.log(width) + 0.5 * math.log(2 * math.pi))
            total += jax.nn.logsumexp(jax.nn.log_softmax(logits) + normal)
            values += new
        return total / values

    def _with_images(self, memory: Variables, images: Image, labels: Array | None) -> Variables:
        """Returns the memory with a batch in the place of the oldest images."""
        at = (memory["written"] + jnp.arange(len(images))) % self.memory
        kept = {"image": memory["image"].at[at].set(images), "written": memory["written"] + len(images)}
        if labels is not None:
            kept["label"] = memory["label"].at[at].set(labels.astype(jnp.int32))
        return kept
