"""MAR (Li et al. 2024, arXiv 2406.11838): masked tokens that are vectors, no codes, each drawn by a diffusion model."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from imagegen_jax.autoregressive.codes import (
    both_conditionings,
    check_code_guidance,
    check_label_dropout,
    with_unconditional,
)
from imagegen_jax.autoregressive.maskgit import ranks
from imagegen_jax.autoregressive.token_diffusion import TokenDiffusion, Tokens
from imagegen_jax.core.arrays.random import streams, uniform_rows
from imagegen_jax.core.arrays.space import Latents, Shape
from imagegen_jax.core.capabilities import EncodesLatents, first_stage_for
from imagegen_jax.core.config.bounds import BelowOne, Count, Natural, Positive
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
)
from imagegen_jax.nn.backbones.conditioning import Rates, conditioning_of, drop_conditions
from imagegen_jax.nn.backbones.transformers.mae import MaskedAutoencoder
from imagegen_jax.nn.backbones.transformers.token_denoiser import TokenDenoiser
from imagegen_jax.nn.resample import check_patches, image, patches

AnyAutoencoder = Annotated[
    EncodesLatents,
    Choices(
        "imagegen_jax.autoencoders.kl:AutoencoderKL",
        "imagegen_jax.autoencoders.first_stages.tiny:TinyAutoencoder",
        "imagegen_jax.autoencoders.first_stages.unquantised:Unquantised",
    ),
]
# The depth, width and heads of the transformer, then the depth and width of the small network.
SIZES = {"B": ((12, 768, 12), (6, 1024)), "L": ((16, 1024, 16), (8, 1280)), "H": ((20, 1280, 16), (12, 1536))}
DEVIATION = 0.25  # of the share of tokens masked in training, before it is cut off


@dataclasses.dataclass(frozen=True)
class MAR:
    """Transformer over the tokens of an image, each drawn by a diffusion model; the defaults are those of MAR-B.

    A token is a `patch` of an autoencoder's latents. An image is drawn in `steps` passes of a few tokens each, more
    and more along a cosine, in an order that is drawn first. The networks are "prior" and "denoiser", and that of the
    `space` of latents, "autoencoder", which is frozen: data are images, or the latents that `imagegen encode` has made
    of them. `mar` makes the published sizes. Raises ValueError for a dropout of labels that are not there.
    """

    autoencoder: AnyAutoencoder
    network: MaskedAutoencoder = MaskedAutoencoder()
    diffusion: TokenDiffusion = TokenDiffusion()
    num_classes: Natural = 1000  # 0: unconditional
    label_dropout: BelowOne = 0.1  # share of images whose label is dropped, for guidance
    latent_scale: Positive = 0.2325  # brings latents to a deviation of 1: the authors', of their KL-16
    patch: Count = 1  # height and width of a token, in latents
    min_masked: BelowOne = 0.7  # least share of tokens masked in training
    steps: Count = 256  # passes of the transformer; as many as there are tokens, where these are fewer

    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance", "temperature")

    def __post_init__(self) -> None:
        check_label_dropout(self)

    @property
    def space(self) -> Latents:
        """The space of the autoencoder's latents."""
        return Latents(self.latent_scale, autoencoder=self.autoencoder)

    @property
    def image_shape(self) -> Shape:
        """The height, width and channels of latents, which images are here."""
        height, width, channels = self.autoencoder.latent_shape
        return height, width, channels

    @property
    def grid(self) -> tuple[int, int]:
        """The rows and columns of an image's tokens."""
        height, width, _ = self.image_shape
        return height // self.patch, width // self.patch

    @property
    def token_dim(self) -> int:
        """The number of values in a token."""
        return self.patch**2 * self.image_shape[-1]

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> MAR:
        """Returns this model for images of a shape and so many classes. Raises ValueError as its autoencoder does."""
        dropout = self.label_dropout if num_classes else 0.0
        autoencoder = first_stage_for(self.autoencoder, image_shape)
        return dataclasses.replace(self, autoencoder=autoencoder, num_classes=num_classes, label_dropout=dropout)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where latents, labels, patches or heads do not fit."""
        check_images(self, batch)
        check_labels(self, batch)
        check_patches(*self.image_shape[:2], self.patch)
        prior_key, denoiser_key = jax.random.split(key)
        told = conditioning_of(self, batch)
        tokens = jnp.zeros((len(batch["image"]), self._length, self.token_dim))
        masked = jnp.ones(tokens.shape[:2], bool)
        return {
            "prior": self.network.init(prior_key, tokens, masked, told),
            "denoiser": self.diffusion.init(denoiser_key, tokens, jnp.zeros((*masked.shape, self.network.width))),
        }

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: transformer and denoiser learn together."""
        return (Phase(("prior", "denoiser"), self.loss, "prior"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """E[|epsilon - epsilon_theta(x_t | t, z)|^2] of masked tokens x (Eq. 1), and what the variances learn by.

        The mean over the masked tokens of each image, then over images. The metric `vlb` is the bound of x, as if it
        were of 8-bit values, in bits for each.
        """
        share_keys, place_keys, label_keys, dropout_keys, noise_keys = streams(inputs.keys, 5)
        tokens = patches(self.space.encode(inputs.batch["image"]), self.patch)
        masked = self._masks(share_keys, place_keys)
        whole = conditioning_of(self, inputs.batch)._replace(keys=dropout_keys)
        told = drop_conditions(whole, Rates(self.label_dropout), label_keys)
        z = self.network.apply(nets["prior"], tokens, masked, told, self._most_known)
        found = self.diffusion.losses(nets["denoiser"], z, tokens, noise_keys)
        share = masked / masked.sum(axis=1, keepdims=True)
        squares, bits = (jnp.mean(jnp.sum(losses * share, axis=1)) for losses in found)
        metrics = {"mse": squares, "vlb": self.diffusion.schedule.steps * bits, "masked": jnp.mean(masked)}
        return squares + bits, Aux(metrics)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1].

        `conditions` may have "temperature", a factor of the noise that a token's steps add, and "guidance" (1: follows
        labels), which grows with the share of known tokens, from 1. Raises ValueError where the model has classes and
        `conditions` no "label".
        """
        latents = image(self.sample_tokens(nets, key, n, conditions), *self.grid, self.patch)
        return self.space.decode(latents, nets)

    def sample_tokens(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Tokens:
        """Draws the tokens of `n` images: [N L E]."""
        order_key, draw_key = jax.random.split(key)
        order = jnp.argsort(jax.random.uniform(order_key, (n, self._length)), axis=1)
        return self.draw_in_order(nets, draw_key, order, conditions)

    def draw_in_order(self, nets: Nets, key: PRNGKey, order: Int[Array, "n l"], conditions: Batch) -> Tokens:
        """Draws tokens in `steps` passes (section 3.4), what a row's `order` names last first: [N L E]."""
        (n, length), scale, turn = order.shape, conditions.get("guidance"), jnp.argsort(order, axis=1)
        left = masked_counts(length, min(self.steps, length))
        most = max(before - after for before, after in zip(left, left[1:], strict=False))
        told = conditioning_of(self, conditions)
        told = told if scale is None else both_conditionings(told)
        twice = (lambda x: x) if scale is None else with_unconditional
        temperature = jnp.reshape(conditions.get("temperature", 1.0), (-1, 1, 1))

        def step(tokens: Tokens, pass_: tuple[Array, Array, Array]) -> tuple[Tokens, None]:
            i, before, after = pass_  # so many tokens are masked, the first ones of the order
            masked = turn < before
            z = self.network.apply(nets["prior"], twice(tokens), twice(masked), told)
            at = after + jnp.arange(most)
            places = jnp.take(order, at, axis=1, mode="clip")
            z = jnp.take_along_axis(z, twice(places)[..., None], axis=1)
            known = 1 - jnp.maximum(after, 1) / length
            guidance = None if scale is None else 1 + (jnp.asarray(scale) - 1) * known
            noise = self._noise(jax.random.fold_in(key, i), n, most)
            drawn = self.diffusion.draw(nets["denoiser"], z, noise, guidance, temperature)
            places = jnp.where(at < before, places, length)  # nowhere
            return tokens.at[jnp.arange(n)[:, None], places].set(drawn, mode="drop"), None

        passes = np.arange(len(left) - 1), np.array(left[:-1]), np.array(left[1:])
        tokens, _ = jax.lax.scan(step, jnp.zeros((n, length, self.token_dim)), jax.tree.map(jnp.asarray, passes))
        return tokens

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance without dropped labels, and for temperatures below 0."""
        check_code_guidance(self, conditions)
        temperature = np.asarray(conditions.get("temperature", 1.0))
        if not (temperature >= 0).all():
            raise ValueError(f"temperature={temperature.min()}: must be at least 0, which adds no noise on the way")

    @property
    def _length(self) -> int:
        return math.prod(self.grid)

    @property
    def _most_known(self) -> int:
        """The largest number of tokens that are known in training, or 1 where all are masked."""
        return max(1, self._length - math.ceil(self.min_masked * self._length))

    def _masks(self, share_keys: PRNGKeys, place_keys: PRNGKeys) -> Bool[Array, "b l"]:
        """Masks tokens of each row, their share a normal around 1 that is cut off there and at the least (section 3.4).

        The authors draw it once for a batch.
        """
        least = (self.min_masked - 1) / DEVIATION
        share = 1 + DEVIATION * jax.vmap(lambda key: jax.random.truncated_normal(key, least, 0.0))(share_keys)
        count = jnp.maximum(jnp.ceil(share * self._length), self._length - self._most_known)
        return ranks(uniform_rows(place_keys, shape=(self._length,))) < jnp.maximum(count, 1)[:, None]

    def _noise(self, key: PRNGKey, n: int, tokens: int) -> Callable[[Any], Tokens]:
        shape = (n, tokens, self.token_dim)
        return lambda i: jax.random.normal(jax.random.fold_in(key, i), shape)


def mar(size: str, autoencoder: AnyAutoencoder, **fields: Any) -> MAR:
    """Makes the model of one of the published `SIZES`; `fields` are further ones of `MAR`.

    Raises ValueError for an unknown size.
    """
    if size not in SIZES:
        raise ValueError(f"there is no MAR of size {size!r}: use one of {', '.join(SIZES)}")
    network, denoiser = SIZES[size]
    return MAR(autoencoder, MaskedAutoencoder(*network), TokenDiffusion(TokenDenoiser(*denoiser)), **fields)


def masked_counts(length: int, steps: int) -> list[int]:
    """Returns how many of so many tokens are masked before each of the `steps`, by a cosine, and 0 after the last.

    At least one is drawn in each, as in MaskGIT: there may be no more steps than tokens.
    """
    left = [length]
    for i in range(1, steps):
        left.append(max(1, min(left[-1] - 1, math.floor(length * math.cos(math.pi / 2 * i / steps)))))
    return [*left, 0]
