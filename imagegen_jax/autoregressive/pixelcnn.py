"""Autoregressive models of pixels: PixelCNN (arXiv 1606.05328) and PixelCNN++ (arXiv 1701.05517), by their network.

p(x) is the product of p(x_i | x_1, ..., x_(i-1)) over the pixels of an image, row after row, and so is exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Annotated, Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagegen_jax.autoregressive.causal import At
from imagegen_jax.autoregressive.completing import check_completion
from imagegen_jax.autoregressive.gated import GatedPixelCNN
from imagegen_jax.autoregressive.raster import Canvas, Drawing, by_caches, by_whole_passes
from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.config.bounds import Natural, Shape
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import (
    Aux,
    Batch,
    Image,
    Inputs,
    Nets,
    Phase,
    PRNGKey,
    PRNGKeys,
    Scalar,
    check_images,
    check_labels,
    one_hot_labels,
    starts_from_data,
)
from imagegen_jax.nn.distributions.pixel import AnyDistribution, Categorical
from imagegen_jax.nn.module import Module

Labels = Float[Array, "b k"] | None


class PixelNetwork(Module, Protocol):
    """A network whose output for a pixel follows from the pixels before it, row after row.

    With one that is `StartsFromData` the model is so too.
    """

    def __call__(self, x: Image, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None) -> Any:
        """Returns [B H W outputs] for images and one-hot labels; `keys`, one a row, are for dropout."""
        ...

    def vertical(self, x: Image, labels: Labels = None, keys: PRNGKeys | None = None, at: At | None = None) -> Any:
        """Returns what is known of rows above; of the row `at` alone, `x` being the row above it, with caches."""
        ...

    def horizontal(
        self, x: Image, above: Any, outputs: int, labels: Labels = None, keys: PRNGKeys | None = None,
        at: At | None = None,
    ) -> Any:  # fmt: skip
        """Returns the rest; of the pixel `at` alone, `x` being the pixel to the left of it, with caches."""
        ...


AnyPixelNetwork = Annotated[
    PixelNetwork,
    Choices("imagegen_jax.autoregressive.gated:GatedPixelCNN", "imagegen_jax.autoregressive.residual:ResidualPixelCNN"),
]


@dataclasses.dataclass(frozen=True)
class PixelCNN:
    """A model of 8-bit images, pixel after pixel, of any network of pixels and any distribution of a pixel."""

    image_shape: Shape = (28, 28, 1)
    network: AnyPixelNetwork = GatedPixelCNN()
    distribution: AnyDistribution = Categorical()
    num_classes: Natural = 0  # 0: unconditional
    caches: bool = True  # False: sampling takes a pass over whole images for each pixel, to the same end

    @property
    def starts_from_data(self) -> bool:
        """Tells whether the network starts from a batch of images."""
        return starts_from_data(self.network)

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """The names of what `sample` reads to complete images that are known in part."""
        return ("image", "known")

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network, with dropout where it starts from data.

        Raises ValueError where images, their size or labels do not fit.
        """
        check_images(self, batch)
        check_labels(self, batch)
        weights_key, dropout_key = jax.random.split(key)
        x = batch["image"]
        keys = jax.random.split(dropout_key, len(x)) if self.starts_from_data else None
        return {"network": self.network.init(weights_key, x, self._outputs, one_hot_labels(self, batch), keys)}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the likelihood rises."""
        return (Phase(("network",), self.loss, "likelihood"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log_2 p(x) for each value of an image, bits per dimension; with dropout, so above that of `bits`."""
        bits = jnp.mean(self._bits(nets, inputs.batch, inputs.keys))
        return bits, Aux({"bits_per_dim": bits})

    def bits(self, nets: Nets, batch: Batch) -> Float[Array, " b"]:
        """Returns the exact bits per dimension of 8-bit images [B H W C], given as floats in [-1, 1]."""
        return self._bits(nets, batch, None)

    def _bits(self, nets: Nets, batch: Batch, keys: PRNGKeys | None) -> Float[Array, " b"]:
        x = batch["image"]
        output = self.network.apply(nets["network"], x, self._outputs, one_hot_labels(self, batch), keys)
        return bits_per_dim(-jnp.sum(self.distribution.log_prob(output, x), axis=(1, 2)), self.image_shape)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], at levels of 8 bits.

        With "image" [n H W C] and "known" [n H W 1] in `conditions`, known pixels are kept and the others drawn, each
        given the pixels before it, row after row: what is known after a hole does not tell what is in it. Raises
        ValueError where the model has classes and `conditions` no "label".
        """
        check_labels(self, conditions)

        def draw(output: Float[Array, "b o"], place: tuple[Any, Any]) -> Float[Array, "b c"]:
            row, column = place
            return self.distribution.draw(output, jax.random.fold_in(key, row * self.image_shape[1] + column))

        nothing = jnp.zeros((n, *self.image_shape)), jnp.zeros((n, *self.image_shape[:2], 1), bool)
        canvas = Canvas(conditions.get("image", nothing[0]), conditions.get("known", nothing[1]))
        of = Drawing(self.network, nets["network"], one_hot_labels(self, conditions), self._outputs, draw)
        return (by_caches if self.caches else by_whole_passes)(of, canvas)

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError where images to complete, and what is known of them, do not go together or with the model.

        Likewise where nothing is left to draw.
        """
        check_completion(conditions, self.image_shape)

    @property
    def _outputs(self) -> int:
        return self.distribution.outputs(self.image_shape[2])
