"""Parts that SNGAN, SAGAN and BigGAN share: the discriminator's use of the label, and self-attention."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.typing import Initializer
from jaxtyping import Array, Float, Int

from imagegen_jax.core.arrays.random import integer_rows, normal_rows, streams
from imagegen_jax.core.model import PRNGKeys, Scalar
from imagegen_jax.gan.residual.spectral import SpectralConv, SpectralDense, SpectralEmbed
from imagegen_jax.gan.resnet import Layer, Norm, batch_norm
from imagegen_jax.nn.conditional_norm import ClassBatchNorm, VectorBatchNorm
from imagegen_jax.nn.init import fan_avg_uniform
from imagegen_jax.nn.objectives import Objective, logit_metrics
from imagegen_jax.nn.precision import Dtype, compute_dtype

Labels = Int[Array, " b"] | None  # None: the model has no classes
LabelUse = Literal["projection", "acgan", "none"]


class Judgement(NamedTuple):
    """A discriminator's answer to a batch."""

    logits: Float[Array, " b"]  # high for real
    classes: Float[Array, "b k"] | None = None  # logits of the classes, from an auxiliary classifier


class Head(nn.Module):
    """Judges features of images; spectrally normalised, in float32.

    "projection": logit = w^T h + b + e_y^T h (Miyato & Koyama 2018, arXiv 1802.05637, section 3). "acgan": the logit
    does not read the label, and a linear classifier of h guesses it (Odena et al. 2017, arXiv 1610.09585). With
    "none", or without labels: the logit alone.
    """

    use: LabelUse = "projection"
    kernel_init: Initializer = fan_avg_uniform()
    epsilon: float = 1e-12

    @nn.compact
    def __call__(self, h: Float[Array, "b c"], labels: Labels, num_classes: int) -> Judgement:
        """Judges features of images: [B C], [B] -> [B] logits and, with "acgan", [B K] logits of the classes"""

        def linear(features: int, name: str) -> SpectralDense:
            return SpectralDense(features, True, self.kernel_init, self.epsilon, "float32", name=name)

        logits = linear(1, "project")(h)[:, 0]
        if labels is None or self.use == "none":
            return Judgement(logits)
        if self.use == "acgan":
            return Judgement(logits, linear(num_classes, "classify")(h))
        table = SpectralEmbed(num_classes, h.shape[-1], self.kernel_init, self.epsilon, name="embed")
        return Judgement(logits + jnp.sum(table(labels) * h, axis=-1))


def sum_pooled(x: Float[Array, "b h w c"]) -> Float[Array, "b c"]:
    """Sums the rectified features over pixels, in float32 (Miyato et al. 2018, Table 4)."""
    return jnp.sum(nn.relu(x).astype(jnp.float32), axis=(1, 2))


class SelfAttention(nn.Module):
    """x + gamma o, gamma from 0 on (Zhang et al. 2019, arXiv 1805.08318, section 3), keys and values max-pooled by 2.

    Queries and keys have an eighth of the channels, values half of them (at least one); all four 1x1 convolutions are
    spectrally normalised and have no bias.
    """

    kernel_init: Initializer = fan_avg_uniform()
    epsilon: float = 1e-12
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        b, h, w, c = x.shape

        def conv(features: int, name: str) -> SpectralConv:
            return SpectralConv(features, 1, False, self.kernel_init, self.epsilon, self.dtype, name=name)

        def pooled(x: Float[Array, "b h w d"]) -> Float[Array, "b n d"]:
            return nn.max_pool(x, (2, 2), (2, 2), "SAME").reshape(b, -1, x.shape[-1])

        query = conv(max(1, c // 8), "query")(x).reshape(b, h * w, -1)  # f(x)
        key, value = pooled(conv(max(1, c // 8), "key")(x)), pooled(conv(max(1, c // 2), "value")(x))  # g(x), h(x)
        scores = jnp.einsum("bqd,bkd->bqk", query, key, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(scores).astype(value.dtype)  # beta_{j,i}   (Eq. 1)
        o = conv(c, "out")(jnp.einsum("bqk,bkd->bqd", weights, value).reshape(b, h, w, -1))  # (Eq. 2)
        return x + self.param("gamma", nn.initializers.zeros_init(), ()).astype(x.dtype) * o  # (Eq. 3)


def class_norm(
    labels: Labels, num_classes: int, train: bool, dtype: Dtype, start: Initializer = nn.initializers.zeros
) -> Norm:
    """Returns how blocks make their batch norms: with a scale and bias for each class (`ClassBatchNorm`).

    Without labels the norms are plain.
    """
    if labels is None:
        return functools.partial(batch_norm, train, compute_dtype(dtype))

    def make(name: str) -> Layer:
        norm = ClassBatchNorm(num_classes, dtype, start, name=name)
        return lambda x: norm(x, labels, train)

    return make


def vector_norm(y: Float[Array, "b d"], dense: Callable[..., Any], train: bool, dtype: Dtype) -> Norm:
    """Returns how blocks make their batch norms: scale and bias are linear in a vector, by maps that `dense` makes."""
    linear = functools.partial(dense, use_bias=False)

    def make(name: str) -> Layer:
        norm = VectorBatchNorm(lambda features, name: linear(features, name=name), dtype, name=name)
        return lambda x: norm(x, y, train)

    return make


# --- sizes -----------------------------------------------------------------------------------------------------------


def sizes(image_shape: tuple[int, ...], halvings: int) -> list[tuple[int, int]]:
    """Returns (height, width) of the image, and after each of `halvings` halvings, rounded up.

    Raises ValueError where a side has no pixel left to halve.
    """
    found = [(image_shape[0], image_shape[1])]
    for _ in range(halvings):
        height, width = found[-1]
        if min(height, width) < 2:
            shown = "x".join(str(n) for n in image_shape[:2])
            raise ValueError(f"image size {shown}: too small to be halved {halvings} times: use fewer multipliers")
        found.append((-(-height // 2), -(-width // 2)))
    return found


def check_attention(height: int, heights: list[int]) -> None:
    """Raises ValueError where attention is asked for at a height that no block has."""
    if height and height not in heights:
        raise ValueError(f"attention={height}: this network has features of height {heights}; 0 is for no attention")


# --- losses ----------------------------------------------------------------------------------------------------------


def together(real: Array, fake: Array) -> Array:
    """Interleaves the rows of two batches: every device keeps its own, where concatenation would move them."""
    return jnp.stack([real, fake], axis=1).reshape(-1, *real.shape[1:])


def apart(judged: Judgement) -> tuple[Judgement, Judgement]:
    """Separates the judgements of what `together` joined: (real, fake)."""

    def half(which: int) -> Judgement:
        return jax.tree.map(lambda x: x.reshape(-1, 2, *x.shape[1:])[:, which], judged)

    return half(0), half(1)


def class_loss(judged: Judgement, labels: Labels) -> Scalar:
    """-E[log P(C = c | X)] of an auxiliary classifier (Odena et al. 2017, Eq. 3)."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(judged.classes, labels))


def discriminator_loss(
    objective: Objective, real: Judgement, real_labels: Labels, fake: Judgement, fake_labels: Labels
) -> tuple[Scalar, dict[str, Scalar]]:
    """Returns the objective's loss, plus the classifier's on both batches where there is one: (loss, metrics)."""
    loss = objective.discriminator(real.logits, fake.logits)
    metrics = logit_metrics(objective, real.logits, fake.logits)
    if real.classes is not None:
        metrics["class_loss"] = class_loss(real, real_labels)
        metrics["class_accuracy"] = jnp.mean(jnp.argmax(real.classes, axis=-1) == real_labels)
        loss += metrics["class_loss"] + class_loss(fake, fake_labels)
    return loss, metrics


def generator_loss(
    objective: Objective, fake: Judgement, labels: Labels, real: Judgement | None
) -> tuple[Scalar, dict[str, Scalar]]:
    """Returns the objective's loss, plus the classifier's where there is one: (loss, metrics)."""
    loss = objective.generator(fake.logits, None if real is None else real.logits)
    metrics = {"fake_logit": jnp.mean(fake.logits)}
    if fake.classes is not None:
        metrics["class_loss"] = class_loss(fake, labels)
        loss += metrics["class_loss"]
    return loss, metrics


def draw(keys: PRNGKeys, latent_dim: int, num_classes: int) -> tuple[Float[Array, "b d"], Labels]:
    """Draws a latent from N(0, I) and a label, uniform over the classes, for each key; no labels without classes."""
    latent_keys, label_keys = streams(keys, 2)
    z = normal_rows(latent_keys, (latent_dim,))
    if not num_classes:
        return z, None
    return z, integer_rows(label_keys, num_classes)
