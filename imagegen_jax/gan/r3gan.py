"""R3GAN (Huang et al. 2024, arXiv 2501.05441): a relativistic GAN with R1 and R2, and networks without tricks.

The loss is locally convergent (Proposition 1), so StyleGAN's devices are gone: no normalisation, no modulation, no
minibatch statistics, no lazy penalties. Networks are residual stages of inverted bottlenecks with grouped 3x3
convolutions. Weights start from N(0, gain^2 / fan in), scaled as in Fixup, and the last layer of each block from zero.

It differs from the authors' code in one thing: both networks see the same real images in a step, where theirs draws a
batch for each.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import normal_rows
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
    check_images,
    check_labels,
)
from imagegen_jax.core.reporting.health import sign_statistics
from imagegen_jax.gan.grouped import grouped_convolve
from imagegen_jax.gan.regularizers import zero_centred_penalty
from imagegen_jax.nn.objectives import AnyObjective, RelativisticPairing
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.upfirdn import downsample, upsample

SLOPE = 0.2  # of the leaky rectifier
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # keeps the variance through it
BASE = 4  # pixels that the generator starts from

Labels = Int[Array, " b"] | None


def scaled_normal(gain: float, fan_in: int) -> nn.initializers.Initializer:
    """Draws from N(0, gain^2 / fan_in) (He et al. 2015, arXiv 1502.01852)."""
    return nn.initializers.normal(gain / math.sqrt(fan_in))


class Linear(nn.Module):
    """A 1x1 convolution, or a dense layer, without bias."""

    features: int
    gain: float = 1.0
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
        init = scaled_normal(self.gain, x.shape[-1])
        kernel = self.param("kernel", init, (x.shape[-1], self.features))
        dtype = compute_dtype(self.dtype)
        return x.astype(dtype) @ kernel.astype(dtype)


class Block(nn.Module):
    """x + W3 f(W2 f(W1 x + b1) + b2): to `expansion` times the channels, a grouped 3x3 convolution, and back."""

    groups: int
    depth: int  # blocks of the network; they set the initial scale
    expansion: int = 2
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        channels, dtype = x.shape[-1], compute_dtype(self.dtype)
        wide = self.expansion * channels
        gain = GAIN * self.depth ** (-1 / 4)  # Fixup (Zhang et al. 2019, arXiv 1901.09321) for three layers a block
        shape = (3, 3, wide // self.groups, wide)
        kernel = self.param("kernel", scaled_normal(gain, math.prod(shape[:3])), shape)

        def activate(x: Array, name: str) -> Array:
            bias = self.param(name, nn.initializers.zeros_init(), (wide,))
            return nn.leaky_relu(x + bias.astype(dtype), SLOPE)

        y = activate(Linear(wide, gain, self.dtype)(x), "bias_1")
        y = activate(grouped_convolve(y, kernel.astype(dtype), self.groups), "bias_2")
        return x + Linear(channels, 0.0, self.dtype)(y)


@dataclasses.dataclass(frozen=True)
class Stages:
    """Channels, groups and blocks of each resolution, from 4x4 up."""

    widths: tuple[Count, ...] = (768, 768, 768, 768)
    groups: tuple[Count, ...] = (96, 96, 96, 96)
    blocks: tuple[Count, ...] = (2, 2, 2, 2)

    def check(self, image_shape: tuple[int, int, int]) -> None:
        """Raises ValueError where these are not the stages of images of that shape."""
        if not len(self.widths) == len(self.groups) == len(self.blocks) >= 1:
            raise ValueError(f"widths={self.widths}, groups={self.groups}, blocks={self.blocks}: one of each a stage")
        if any(width % groups for width, groups in zip(self.widths, self.groups, strict=True)):
            raise ValueError(f"widths={self.widths} are not divisible by groups={self.groups}")
        size = BASE * 2 ** (len(self.widths) - 1)
        if image_shape[:2] != (size, size):
            raise ValueError(
                f"image_shape={image_shape}, but {len(self.widths)} stages make {size}x{size}: sizes are 4, 8, 16, "
                "32 ..., with a stage for each"
            )

    def for_size(self, size: int) -> Stages:
        """Returns as many stages as `size` needs: the last of these, after copies of the first where they are too few.

        Raises ValueError for a size that is none of 4, 8, 16, ...
        """
        doublings = math.log2(max(size, BASE) / BASE)
        near = sorted({BASE * 2 ** math.floor(doublings), BASE * 2 ** math.ceil(doublings)})
        if near != [size]:
            words = " and ".join(map(str, near))
            raise ValueError(f"images of {size}x{size}: sizes are 4, 8, 16, 32 ...; the nearest are {words}")
        count = round(doublings) + 1
        more = max(0, count - len(self.widths))
        fields = ((values[0],) * more + values for values in (self.widths, self.groups, self.blocks))
        return Stages(*(values[len(values) - count :] for values in fields))

    def apply(self, i: int, x: Float[Array, "b h w c"], dtype: Dtype) -> Float[Array, "b h w c"]:
        """Applies the blocks of stage `i`, inside a module."""
        for _ in range(self.blocks[i]):
            x = Block(self.groups[i], sum(self.blocks), dtype=dtype)(x)
        return x


class Generator(nn.Module):
    """Makes images from latents; with classes, each latent is joined with an embedding of its label."""

    stages: Stages = Stages()
    embedding: Count = 64  # features of a label
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], label: Labels, num_classes: int, channels: int) -> Image:
        """Makes an image from each latent and label: [B D], [B] -> [B size size channels], not bounded"""
        if num_classes:
            z = jnp.concatenate([z, _embed(label, num_classes, self.embedding)], axis=1)
        widths = self.stages.widths
        basis = self.param("basis", nn.initializers.normal(1.0), (BASE, BASE, widths[0]))
        x = basis.astype(compute_dtype(self.dtype)) * Linear(widths[0], dtype=self.dtype)(z)[:, None, None]
        for i, width in enumerate(widths):
            if i > 0:
                x = upsample(_to_width(x, width, self.dtype))
            x = self.stages.apply(i, x, self.dtype)
        return Linear(channels, dtype=self.dtype)(x).astype(jnp.float32)


class Discriminator(nn.Module):
    """Judges images; with classes, a logit is the product of image features and an embedding of the label."""

    stages: Stages = Stages()
    embedding: Count = 768  # features of a label and of an image
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image, label: Labels, num_classes: int) -> Float[Array, " b"]:
        """Judges images, given their labels: [B size size C], [B] -> [B] logits, high for real"""
        widths = self.stages.widths
        x = Linear(widths[-1], dtype=self.dtype)(x)
        for i in reversed(range(len(widths))):
            x = self.stages.apply(i, x, self.dtype)
            if i > 0:
                x = _to_width(downsample(x), widths[i - 1], self.dtype)
        basis = self.param("basis", scaled_normal(1.0, BASE**2), (BASE, BASE, widths[0]))
        x = jnp.sum(x * basis.astype(x.dtype), axis=(1, 2))
        x = Linear(self.embedding if num_classes else 1, dtype=self.dtype)(x).astype(jnp.float32)
        if not num_classes:
            return x[:, 0]
        return jnp.sum(x * _embed(label, num_classes, self.embedding, 1 / math.sqrt(self.embedding)), axis=1)


def _embed(label: Labels, num_classes: int, features: int, gain: float = 1.0) -> Float[Array, "b d"]:
    """Maps the one-hot label linearly, inside a module; float32."""
    return nn.Dense(features, use_bias=False, kernel_init=scaled_normal(gain, num_classes), name="label")(
        jax.nn.one_hot(label, num_classes)
    )


def _to_width(x: Float[Array, "b h w i"], width: int, dtype: Dtype) -> Float[Array, "b h w o"]:
    return x if x.shape[-1] == width else Linear(width, dtype=dtype)(x)


@dataclasses.dataclass(frozen=True)
class R3GAN:
    """The relativistic GAN with R1 and R2 at every step, both with weight gamma / 2."""

    image_shape: Shape = (32, 32, 3)
    num_classes: Natural = 0
    generator: Generator = Generator()
    discriminator: Discriminator = Discriminator()
    latent_dim: Count = 64
    objective: AnyObjective = RelativisticPairing()
    gamma: tuple[NonNegative, NonNegative] = (0.05, 0.005)  # first; from `gamma_steps` on (half a cosine between)
    gamma_steps: Count = 40_000

    def __post_init__(self) -> None:
        if min(self.gamma) < 0 or self.gamma_steps < 1 or self.latent_dim < 1:
            raise ValueError(f"gamma={self.gamma}, gamma_steps={self.gamma_steps}, latent_dim={self.latent_dim}")

    def for_images(self, image_shape: Shape, num_classes: int) -> R3GAN:
        """Returns the model with as many stages as images of that shape need. Raises ValueError for other sizes."""
        height, width, _ = image_shape
        if height != width:
            raise ValueError(f"images of {height}x{width}: R3GAN's are square")
        networks = {
            name: network.clone(stages=network.stages.for_size(height))
            for name, network in (("generator", self.generator), ("discriminator", self.discriminator))
        }
        return dataclasses.replace(self, image_shape=image_shape, num_classes=num_classes, **networks)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where images do not fit the stages, or labels are missing."""
        for network in (self.generator, self.discriminator):
            network.stages.check(self.image_shape)
        check_images(self, batch)
        check_labels(self, batch)
        keys = jax.random.split(key)
        z, image, label = jnp.zeros((1, self.latent_dim)), jnp.zeros((1, *self.image_shape)), jnp.zeros(1, int)
        return {
            "generator": self.generator.init(keys[0], z, label, self.num_classes, self.image_shape[2]),
            "discriminator": self.discriminator.init(keys[1], image, label, self.num_classes),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the discriminator, then the generator."""
        return (
            Phase(("discriminator",), self.discriminator_loss, "discriminator"),
            Phase(("generator",), self.generator_loss, "generator"),
        )

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """L(D) + gamma / 2 (R1 + R2)   (Eq. 2 and section 2.3)"""
        label, critic = inputs.batch.get("label"), self._critic(nets["discriminator"], inputs.batch)
        real, fake = inputs.batch["image"], self._generate(nets["generator"], self._latents(inputs.keys), label)
        real_logits, fake_logits = critic(real), critic(fake)
        r1, r2 = zero_centred_penalty(critic, real), zero_centred_penalty(critic, fake)
        adversarial = self.objective.discriminator(real_logits, fake_logits)
        loss = adversarial + self._gamma(inputs.step) / 2 * (r1 + r2)
        metrics = {"adversarial": adversarial, "r1": r1, "r2": r2}
        return loss, Aux(metrics | sign_statistics(real_logits - fake_logits, fake_logits - real_logits))

    def generator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the objective's loss for pairs of a generated and a real image of one class."""
        critic = self._critic(nets["discriminator"], inputs.batch)
        fake = self._generate(nets["generator"], self._latents(inputs.keys), inputs.batch.get("label"))
        loss = self.objective.generator(critic(fake), critic(inputs.batch["image"]))
        return loss, Aux({}, images=fake)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images, clipped to [-1, 1], of `conditions["label"]` where there are classes."""
        return self.generate(nets, jax.random.normal(key, (n, self.latent_dim)), conditions)

    def generate(self, nets: Nets, z: Float[Array, "b d"], conditions: Batch) -> Image:
        """Makes the images of latents, as `sample` does."""
        return jnp.clip(self._generate(nets["generator"], z, conditions.get("label")), -1, 1)

    def _gamma(self, step: Int[Array, ""]) -> Scalar:
        first, last = self.gamma
        return last + (first - last) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / self.gamma_steps, 1.0)))

    def _latents(self, keys: PRNGKeys) -> Float[Array, "b d"]:
        return normal_rows(keys, (self.latent_dim,))

    def _generate(self, variables: Variables, z: Float[Array, "b d"], label: Labels) -> Image:
        return self.generator.apply(variables, z, label, self.num_classes, self.image_shape[2])

    def _critic(self, variables: Variables, batch: Batch) -> Callable[[Image], Float[Array, " b"]]:
        return lambda x: self.discriminator.apply(variables, x, batch.get("label"), self.num_classes)
