"""CycleGAN (Zhu et al. 2017, arXiv 1703.10593): learns to translate between two unpaired sets, there and back.

The layout is that of the authors' code: instance norm without weights, biases everywhere, weights from N(0, 0.02).
Biases that a norm cancels do nothing, but published parameter counts include them. x is a source of the domain X, y an
image of the domain Y, G: X -> Y the network "to_image", F: Y -> X "to_source".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from imagegen_jax.core.arrays.random import streams
from imagegen_jax.core.config.bounds import Count, Natural, NonNegative, Shape
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
    Variables,
    check_condition_rows,
    check_images,
)
from imagegen_jax.nn.backbones.patch import PatchDiscriminator, weight_init
from imagegen_jax.nn.norm import instance_norm
from imagegen_jax.nn.objectives import AnyObjective, LeastSquares, logit_metrics
from imagegen_jax.nn.precision import Dtype, compute_dtype


class Generator(nn.Module):
    """Johnson et al.'s residual network (2016, arXiv 1603.08155) with instance norm and reflection (appendix 7.2)."""

    width: Count = 64  # channels of the first layer; they double twice
    blocks: Count = 9  # 6 for images of 128 pixels
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image) -> Image:
        """Translates images: [B H W C] -> [B H W C], both in [-1, 1]"""
        channels = x.shape[-1]
        x = self._normed(self._convolve(x, self.width, 7))
        for features in (2 * self.width, 4 * self.width):
            x = self._normed(self._convolve(x, features, 3, stride=2))
        for _ in range(self.blocks):
            h = self._normed(self._convolve(x, 4 * self.width, 3))
            x = x + instance_norm(self.dtype)(self._convolve(h, 4 * self.width, 3))
        for features in (2 * self.width, self.width):
            x = self._normed(Double(features, self.dtype)(x))
        return jnp.tanh(self._convolve(x, channels, 7).astype(jnp.float32))

    def _convolve(self, x: Float[Array, "b h w c"], features: int, kernel: int, stride: int = 1) -> Array:
        """Convolves; the image is reflected at its edge, or with a stride padded by zeros."""
        edge = ((kernel // 2,) * 2,) * 2
        if stride == 1:
            x = jnp.pad(x, ((0, 0), *edge, (0, 0)), mode="reflect")
        return nn.Conv(
            features,
            (kernel, kernel),
            (stride, stride),
            padding=edge if stride > 1 else "VALID",
            kernel_init=weight_init,
            dtype=compute_dtype(self.dtype),
        )(x)

    def _normed(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        return nn.relu(instance_norm(self.dtype)(x))


class Double(nn.Module):
    """A transposed 3x3 convolution to twice the size.

    It is torch's `ConvTranspose2d(3, stride=2, padding=1, output_padding=1)` with the kernel mirrored in height and
    width, computed as four convolutions with 1 or 2 taps each way, for the reason that `nn.strided.Double` gives.
    """

    features: int
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b 2*h 2*w o"]:
        """Doubles the image: [B H W C] -> [B 2H 2W features]"""
        b, h, w, c = x.shape
        kernel = self.param("kernel", weight_init, (3, 3, c, self.features))
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
        x, kernel, bias = promote_dtype(x, kernel, bias, dtype=compute_dtype(self.dtype))

        def phase(row: int, column: int) -> Float[Array, "b h w o"]:
            taps = kernel[1 - row :: 2, 1 - column :: 2]
            padding = ((0, row), (0, column))
            return jax.lax.conv_general_dilated(x, taps, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

        rows = [jnp.stack([phase(row, 0), phase(row, 1)], axis=3) for row in (0, 1)]  # each [B H W 2 O]
        return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, self.features) + bias


def fresh_pool(size: int, image_shape: tuple[int, int, int]) -> Variables:
    """Makes an empty pool for `size` generated images."""
    return {"images": jnp.zeros((size, *image_shape)), "count": jnp.zeros((), jnp.int32)}


def exchange(pool: Variables, images: Image, keys: PRNGKeys) -> tuple[Variables, Image]:
    """Returns the pool after `images`, and what to show a discriminator in their place (Shrivastava et al. 2016).

    It goes row by row. While the pool is not full, an image is kept and shown. After that, with probability 1/2, a
    random image of the pool is shown and the new one takes its place; else the new one is shown and not kept.
    """
    size = len(pool["images"])

    def one(pool: Variables, row: tuple[Image, PRNGKey]) -> tuple[Variables, Image]:
        image, (slot_key, old_key) = row[0], jax.random.split(row[1])
        full = pool["count"] >= size
        slot = jnp.where(full, jax.random.randint(slot_key, (), 0, size), pool["count"])
        old = pool["images"][slot]
        show_old = full & jax.random.bernoulli(old_key)
        kept = jnp.where(full & ~show_old, old, image)
        count = jnp.minimum(pool["count"] + 1, size)
        return {"images": pool["images"].at[slot].set(kept), "count": count}, jnp.where(show_old, old, image)

    return jax.lax.scan(one, pool, (images, keys))


@dataclasses.dataclass(frozen=True)
class CycleGAN:
    """A GAN with adversarial losses in both domains; an image translated there and back must come out as it was.

    Images and sources have one shape. One phase trains the generators, another the discriminators. Each discriminator
    has a pool of images that its generator made before, which is carried in the statistics.
    """

    image_shape: Shape = (256, 256, 3)
    generator: Generator = Generator()
    discriminator: PatchDiscriminator = PatchDiscriminator(norm="instance")
    objective: AnyObjective = LeastSquares()
    adversarial_weight: NonNegative = 2.0  # of generators: the objective halves (D(G(x)) - 1)^2, the paper does not
    cycle_weight: NonNegative = 10.0  # lambda in Eq. 3
    identity_weight: NonNegative = 0.5  # of the identity loss as a share of `cycle_weight` (section 5.2); 0: none
    pool_size: Natural = 50  # generated images kept for each discriminator (section 4); 0: none
    direction: Literal["to_image", "to_source"] = "to_image"  # of sampling; training does both

    def __post_init__(self) -> None:
        if self.discriminator.norm != "instance":
            raise ValueError("discriminator.norm must be 'instance': CycleGAN keeps no running statistics")
        if self.pool_size < 0:
            raise ValueError(f"pool_size={self.pool_size}: must be at least 0")

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what images are made from: "source", which has their shape; in the other direction "image"."""
        return {self._translated: jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises all networks, and the pools.

        Raises ValueError where images or sources have another shape, or a shape that the networks cannot have.
        """
        check_images(self, batch)
        check_condition_rows(dataclasses.replace(self, direction="to_image"), batch)
        if self.image_shape[0] % 4 or self.image_shape[1] % 4:
            raise ValueError(f"image_shape={self.image_shape}: height and width must be divisible by 4, to halve twice")
        example, keys = batch["image"][:1], jax.random.split(key, 4)
        nets = {name: self.generator.init(keys[i], example) for i, name in enumerate(("to_image", "to_source"))}
        for name, its_key in zip(("image_discriminator", "source_discriminator"), keys[2:], strict=True):
            nets[name] = dict(self.discriminator.init(its_key, example))
            if self.pool_size:
                nets[name]["pool"] = fresh_pool(self.pool_size, self.image_shape)
        return nets

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: both generators, then both discriminators."""
        return (
            Phase(("to_image", "to_source"), self.generators_loss, "generators"),
            Phase(("image_discriminator", "source_discriminator"), self.discriminators_loss, "discriminators"),
        )

    def to_image(self, nets: Nets, x: Image) -> Image:
        """Translates sources to images by G: [B H W C] -> [B H W C], both in [-1, 1]."""
        return self.generator.apply(_params(nets["to_image"]), x)

    def to_source(self, nets: Nets, y: Image) -> Image:
        """Translates images to sources by F: [B H W C] -> [B H W C], both in [-1, 1]."""
        return self.generator.apply(_params(nets["to_source"]), y)

    def generators_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """L_GAN(G, D_Y) + L_GAN(F, D_X) + lambda L_cyc   (Eq. 3) + lambda identity_weight L_identity (section 5.2)."""
        x, y = inputs.batch["source"], inputs.batch["image"]
        fake_y, fake_x = self.to_image(nets, x), self.to_source(nets, y)
        adversarial = self._fooled(nets["image_discriminator"], y, fake_y)
        adversarial += self._fooled(nets["source_discriminator"], x, fake_x)
        # L_cyc = E|F(G(x)) - x| + E|G(F(y)) - y|   (Eq. 2)
        cycle = _l1(self.to_source(nets, fake_y), x) + _l1(self.to_image(nets, fake_x), y)
        identity = jnp.zeros(())
        if self.identity_weight:  # L_identity = E|G(y) - y| + E|F(x) - x|
            identity = _l1(self.to_image(nets, y), y) + _l1(self.to_source(nets, x), x)
        loss = self.adversarial_weight * adversarial + self.cycle_weight * (cycle + self.identity_weight * identity)
        metrics = {"adversarial": adversarial, "cycle": cycle, "identity": identity}
        return loss, Aux(metrics, images=fake_y)

    def _fooled(self, variables: Variables, real: Image, fake: Image) -> Scalar:
        real_logits = self._logits(variables, real) if self.objective.pairs else None
        return self.objective.generator(self._logits(variables, fake), real_logits)

    def discriminators_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns half of L_GAN for D_Y plus D_X (Eq. 1, appendix 7.1), with generated images out of the pools."""
        x, y = inputs.batch["source"], inputs.batch["image"]
        loss, metrics, stats = jnp.zeros(()), dict[str, Scalar](), dict[str, Variables]()
        of_image, of_source = streams(inputs.keys, 2)
        made = (("image", y, self.to_image(nets, x), of_image), ("source", x, self.to_source(nets, y), of_source))
        for name, real, fake, keys in made:
            discriminator = nets[f"{name}_discriminator"]
            if self.pool_size:
                pool, fake = exchange(discriminator["pool"], fake, keys)
                stats[f"{name}_discriminator"] = {"pool": pool}
            real_logits, fake_logits = self._logits(discriminator, real), self._logits(discriminator, fake)
            loss += self.objective.discriminator(real_logits, fake_logits)
            found = logit_metrics(self.objective, real_logits, fake_logits)
            metrics |= {f"{name}_{metric}": value for metric, value in found.items()}
        return loss, Aux(metrics, stats)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Translates the `n` sources `conditions["source"]` in [-1, 1] or, in the other direction, the images "image".

        Raises ValueError without them.
        """
        check_condition_rows(self, conditions)
        translate = self.to_image if self.direction == "to_image" else self.to_source
        return translate(nets, conditions[self._translated])

    @property
    def _translated(self) -> str:
        return "source" if self.direction == "to_image" else "image"

    def _logits(self, variables: Variables, image: Image) -> Float[Array, " p"]:
        """Returns the logits of all patches of all rows."""
        return self.discriminator.apply(_params(variables), image).ravel()


def _params(variables: Variables) -> Variables:
    """Drops the pool, which is no collection of the network itself."""
    return {"params": variables["params"]}


def _l1(a: Image, b: Image) -> Scalar:
    return jnp.mean(jnp.abs(a - b))
