"""Images and texts in one space, trained on pairs of them (CLIP, Radford et al. 2021, arXiv 2103.00020, section 2.3).

With it the text of an image can be found among others, which tells how well images follow their prompts: R-precision
(Xu et al. 2018, AttnGAN, arXiv 1711.10485, section 4.1), `retrieved`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.core.config.bounds import Count, Shape
from imagegen_jax.core.model import Aux, Batch, Image, Inputs, Nets, Phase, PRNGKey, Scalar, check_images
from imagegen_jax.nn.precision import Dtype, compute_dtype
from imagegen_jax.nn.text_encoders.encoding import AnyTextEncoder
from imagegen_jax.nn.text_encoders.small import TextTransformer

START_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0  # of cosines, which then are logits

Embedded = Float[Array, "b d"]  # of length 1


class ImageTower(nn.Module):
    """Two 3x3 convolutions at each size, halved down to 4..7 pixels, then the mean over places."""

    width: Count = 32  # channels at the first size; they double with every halving
    groups: Count = 8  # of the norms
    dtype: Dtype = "auto"

    @nn.compact
    def __call__(self, x: Image) -> Float[Array, "b f"]:
        """Maps images to vectors: [B H W C] in [-1, 1] -> [B F]"""
        dtype, width = compute_dtype(self.dtype), self.width
        while True:
            for _ in range(2):
                h = nn.Conv(width, (3, 3), use_bias=False, dtype=dtype)(x)
                x = nn.gelu(nn.GroupNorm(self.groups, dtype=dtype)(h))
            if min(x.shape[1:3]) < 8:
                return jnp.mean(x, axis=(1, 2))
            x, width = nn.avg_pool(x, (2, 2), (2, 2)), 2 * width


class DualNetwork(nn.Module):
    """A tower of images, an encoder of texts, a projection of each to `features` numbers, and the scale of cosines."""

    image: ImageTower = ImageTower()
    text: AnyTextEncoder = TextTransformer()
    features: Count = 64

    def setup(self) -> None:
        self.from_image = nn.Dense(self.features, use_bias=False)
        self.from_text = nn.Dense(self.features, use_bias=False)
        self.log_scale = self.param("log_scale", nn.initializers.constant(np.log(START_SCALE)), ())

    def __call__(self, image: Image, text: Int[Array, "n m"], mask: Bool[Array, "n m"]) -> Float[Array, "b n"]:
        """Returns logits of each image with each text: [B H W C] in [-1, 1], [N M], [N M] -> [B N]"""
        scale = jnp.minimum(jnp.exp(self.log_scale), LARGEST_SCALE)
        return scale * self.embed_images(image) @ self.embed_texts(text, mask).T

    def embed_images(self, image: Image) -> Embedded:
        """Maps images to vectors of length 1: [B H W C] in [-1, 1] -> [B features]"""
        return _of_length_1(self.from_image(self.image(image).astype(jnp.float32)))

    def embed_texts(self, text: Int[Array, "n m"], mask: Bool[Array, "n m"]) -> Embedded:
        """Maps texts to vectors of length 1: [N M], [N M] -> [N features]

        Raises ValueError for an encoder without a vector of the whole text.
        """
        pooled = self.text(text, mask).pooled
        if pooled is None:
            raise ValueError(
                f"a {type(self.text).__name__} has no vector of a whole text (`pooled`): use a TextTransformer"
            )
        return _of_length_1(self.from_text(pooled.astype(jnp.float32)))


@dataclasses.dataclass(frozen=True)
class DualEncoder:
    """A model of images with their captions that draws nothing: it tells how well a text fits an image."""

    network: DualNetwork = DualNetwork()
    image_shape: Shape = (32, 32, 3)

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """A row of a text, and which of its tokens are no padding."""
        context = self.network.text.context
        return {
            "text": jax.ShapeDtypeStruct((context,), np.int32),
            "text_mask": jax.ShapeDtypeStruct((context,), np.bool_),
        }

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the network. Raises ValueError where images or texts do not fit."""
        check_images(self, batch)
        return {"network": self.network.init(key, batch["image"], batch["text"], batch["text_mask"])}

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step."""
        return (Phase(("network",), self.loss, "match"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the mean of two cross entropies in nats: of texts given an image, and of images given a text.

        Where texts of a batch are equal, each of them is right. The metric `accuracy` is the share of the batch's
        images whose text is found among all.
        """
        batch = inputs.batch
        logits = self.network.apply(nets["network"], batch["image"], batch["text"], batch["text_mask"])
        equal = jnp.all(batch["text"][:, None] == batch["text"][None], axis=-1)
        right = equal / jnp.sum(equal, axis=1, keepdims=True)
        both = optax.softmax_cross_entropy(logits, right) + optax.softmax_cross_entropy(logits.T, right)
        found = equal[jnp.arange(len(equal)), jnp.argmax(logits, axis=1)]
        return jnp.mean(both) / 2, Aux({"accuracy": jnp.mean(found)})

    def embed_images(self, nets: Nets, image: Image) -> Embedded:
        """Maps images in [-1, 1] to vectors of length 1, whose products with those of texts say how well they fit."""
        return self.network.apply(nets["network"], image, method="embed_images")

    def embed_texts(self, nets: Nets, text: Int[Array, "n m"], mask: Bool[Array, "n m"]) -> Embedded:
        """Maps texts to vectors of length 1."""
        return self.network.apply(nets["network"], text, mask, method="embed_texts")


def retrieved(
    images: Float[np.ndarray, "n d"], texts: Float[np.ndarray, "k d"], own: Int[np.ndarray, " n"], among: int, seed: int
) -> Bool[np.ndarray, " n"]:
    """Tells for each image whether its own text, `texts[own]`, fits it better than `among` - 1 others, drawn by `seed`.

    A text that fits as well as its own counts as better. Raises ValueError where there are fewer texts than `among`.
    """
    if not 2 <= among <= len(texts):
        raise ValueError(f"among={among}: must be 2 or more, and at most the {len(texts)} texts that there are")
    random, found = np.random.default_rng(seed), []
    for image, mine in zip(images, own, strict=True):
        others = random.choice(np.delete(np.arange(len(texts)), mine), among - 1, replace=False)
        found.append(bool(image @ texts[mine] > np.max(texts[others] @ image)))
    return np.asarray(found)


def _of_length_1(x: Float[Array, "b d"]) -> Embedded:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-6)
