"""MaskGIT (Chang et al. 2022, arXiv 2202.04200): all codes of an image at once, and again those it was unsure of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from imagegen_jax.autoregressive.codes import (
    AnyTokenizer,
    both_conditionings,
    check_code_guidance,
    check_label_dropout,
    codes_in,
    codes_of,
    decoded,
    encoded,
    for_other_images,
    guided,
    init_over_codes,
    smoothed_nll,
    with_unconditional,
)
from imagegen_jax.autoregressive.completing import check_completion
from imagegen_jax.autoregressive.decoding import check_decoding
from imagegen_jax.core.arrays.random import streams, uniform_rows
from imagegen_jax.core.config.bounds import BelowOne, Count, Natural, NonNegative, Share
from imagegen_jax.core.model import Aux, Batch, Image, Inputs, Nets, Phase, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn.backbones.conditioning import Rates, conditioning_of, drop_conditions
from imagegen_jax.nn.backbones.transformers.bert import BERT
from imagegen_jax.nn.backbones.transformers.code_network import AnyMaskedNetwork

Masks = Literal["cosine", "linear", "square", "cubic", "root", "exponential", "logarithmic"]
POWERS = {"linear": 1.0, "square": 2.0, "cubic": 3.0, "root": 0.5}


@dataclasses.dataclass(frozen=True)
class MaskGIT:
    """Transformer that predicts the masked codes of an image from the others; the defaults are the authors'.

    An image is drawn in `steps` passes. Each draws all codes that are masked, and masks again those that it gave the
    least probability, up to noise of `choice_temperature`, fewer each time. The networks are "tokenizer", which is
    frozen, and "prior". Guidance, which the paper has not, needs a `label_dropout`. Raises ValueError for a dropout of
    labels that are not there.
    """

    tokenizer: AnyTokenizer
    network: AnyMaskedNetwork = BERT()
    num_classes: Natural = 1000  # 0: unconditional
    label_dropout: Share = 0.0  # share of images whose label is dropped, for guidance
    masks: Masks = "cosine"  # how the masked share falls from 1 to 0, in training and in sampling: gamma of section 3.3
    min_masked: Share = 0.5  # least share of codes masked in training: the code's min_masking_rate, whose use it lacks
    label_smoothing: BelowOne = 0.1
    steps: Count = 8  # T
    choice_temperature: NonNegative = 4.5  # falls to 0 over the steps

    frozen: ClassVar[tuple[str, ...]] = ("tokenizer",)

    def __post_init__(self) -> None:
        check_label_dropout(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of images."""
        return self.tokenizer.image_shape

    @property
    def optional_conditions(self) -> tuple[str, ...]:
        """Names the conditions that `sample` reads beside labels."""
        guidance = ("guidance",) if self.num_classes and self.label_dropout else ()
        return (*guidance, "temperature", "choice_temperature", "image", "known")

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> MaskGIT:
        """Returns this model for images of a shape and so many classes. Raises ValueError as its tokenizer does."""
        return for_other_images(self, image_shape, num_classes)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where images, labels or heads do not fit."""
        codes = codes_of(self.tokenizer)
        given = jnp.zeros((len(next(iter(batch.values()))), codes.length), jnp.int32)
        return init_over_codes(self, key, batch, lambda key, told: self.network.init(key, given, codes, told))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step: the prior learns what masked codes are."""
        return (Phase(("prior",), self.loss, "prior"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-E[log p(Y_i | Y_M)] over masked i (Eq. 1), each image's mean, with smoothed labels.

        The metric `nats_per_code` is without the smoothing.
        """
        keys = streams(inputs.keys, 4)
        loss, nats, share = self._masked_nll(nets, inputs.batch, keys, self.label_smoothing)
        return jnp.mean(loss), Aux({"nats_per_code": jnp.mean(nats), "masked": jnp.mean(share)})

    def nats(self, nets: Nets, batch: Batch, keys: PRNGKeys) -> Float[Array, " b"]:
        """Returns -log p of a masked code, the mean over those of each image, which are drawn as in training: [B]."""
        mask_keys, place_keys, _, _ = streams(keys, 4)
        return self._masked_nll(nets, batch, (mask_keys, place_keys, None, None), 0.0)[1]

    def _masked_nll(
        self, nets: Nets, batch: Batch, keys: Any, smoothing: float
    ) -> tuple[Float[Array, " b"], Float[Array, " b"], Float[Array, " b"]]:
        """Returns for each image the loss of its masked codes, their -log p, and the share of codes that they are."""
        share_keys, place_keys, label_keys, dropout_keys = keys
        codes = codes_in(self.tokenizer, nets, batch)
        masked = self._masks(share_keys, place_keys, codes.shape[1])
        told = conditioning_of(self, batch)
        if label_keys is not None:
            told = drop_conditions(told, Rates(self.label_dropout), label_keys)._replace(keys=dropout_keys)
        of = codes_of(self.tokenizer)
        logits = self.network.apply(nets["prior"], jnp.where(masked, of.vocabulary, codes), of, told)
        count = masked.sum(axis=1)
        loss, nats = (
            jnp.sum(smoothed_nll(logits, codes, share) * masked, axis=1) / count for share in (smoothing, 0.0)
        )
        return loss, nats, count / of.length

    def _masks(self, share_keys: PRNGKeys, place_keys: PRNGKeys, length: int) -> Bool[Array, "b l"]:
        """Chooses ceil(gamma(r) N) codes of each row, for r uniform (section 3.1)."""
        share = jnp.maximum(masked_share(self.masks, uniform_rows(share_keys), length), self.min_masked)
        return ranks(uniform_rows(place_keys, shape=(length,))) < jnp.ceil(share * length)[:, None]

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1].

        `conditions` may have "temperature" of codes (1: as they are predicted), "choice_temperature", and "guidance"
        (1: follows labels; 0: ignores them). With "image" [n H W C] and "known" [n H W 1] pixels that are known stay,
        and codes of patches that are not wholly known are drawn, given all others. Raises ValueError where the model
        has classes and `conditions` no "label".
        """
        of = codes_of(self.tokenizer)
        given = jnp.full((n, of.length), of.vocabulary)
        if "known" not in conditions:
            return decoded(self.tokenizer, nets, self.complete(nets, key, given, conditions))
        image, known = conditions["image"], conditions["known"]
        whole = whole_patches(known, self.tokenizer.code_shape).reshape(n, -1)
        given = jnp.where(whole, encoded(self.tokenizer, nets, image), given)
        drawn = decoded(self.tokenizer, nets, self.complete(nets, key, given, conditions))
        return jnp.where(known, image, drawn)

    def complete(self, nets: Nets, key: PRNGKey, given: Int[Array, "n l"], conditions: Batch) -> Int[Array, "n l"]:
        """Draws the masked codes of `given`, those that are `codebook_size`, in `steps` passes (section 3.2)."""
        vocabulary = self.tokenizer.codebook_size
        logits_of = self._logits_of(nets, conditions)
        noise_share = jnp.reshape(conditions.get("choice_temperature", self.choice_temperature), (-1, 1))
        at_start = jnp.sum(given == vocabulary, axis=1)

        def step(state: tuple[Array, Array], i: Int[Array, ""]) -> tuple[tuple[Array, Array], None]:
            given, _ = state
            logits = logits_of(given)
            noise = Noise.drawn(jax.random.fold_in(key, i), logits.shape)
            progress = (i + 1) / self.steps
            left = jnp.floor(at_start * masked_share(self.masks, progress, at_start))
            return unmasked(logits, given, left, noise_share * (1 - progress), noise), None

        (_, codes), _ = jax.lax.scan(step, (given, given), jnp.arange(self.steps))
        return codes

    def _logits_of(self, nets: Nets, conditions: Batch) -> Callable[[Int[Array, "n l"]], Float[Array, "n l v"]]:
        """Returns the function from codes to logits under the conditions, guided where these say so."""
        of, told = codes_of(self.tokenizer), conditioning_of(self, conditions)
        temperature = jnp.reshape(conditions.get("temperature", 1.0), (-1, 1, 1))
        if "guidance" not in conditions:
            return lambda given: self.network.apply(nets["prior"], given, of, told) / temperature
        both = both_conditionings(told)

        def logits_of(given: Int[Array, "n l"]) -> Float[Array, "n l v"]:
            logits = self.network.apply(nets["prior"], with_unconditional(given), of, both)
            return guided(logits, conditions["guidance"]) / temperature

        return logits_of

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for guidance without dropped labels, temperatures out of range, and no hole to complete."""
        check_code_guidance(self, conditions)
        check_decoding(conditions, self.tokenizer.codebook_size)
        noise = np.asarray(conditions.get("choice_temperature", 0.0))
        if (noise < 0).any():
            raise ValueError(f"choice_temperature={noise.min()}: must be at least 0, which masks what is least sure")
        check_completion(conditions, self.image_shape)
        if "known" in conditions and len(self.tokenizer.code_shape) != 2:
            raise ValueError(
                f"'known' given, but codes of shape {tuple(self.tokenizer.code_shape)} have no rows and columns that "
                "pixels belong to: use a tokenizer with a code a patch"
            )


# --- masks -----------------------------------------------------------------------------------------------------------


def masked_share(
    masks: Masks, progress: Float[Array, "*b"] | Scalar, codes: Int[Array, "*b"] | int
) -> Float[Array, "*b"]:
    """Returns gamma, the share of so many `codes` that is masked at a `progress` from 0 to 1 (section 3.3, Table 3).

    As in the authors' code it is at least 1e-6; there the exponential one has log_2 of the number of codes, too.
    """
    if masks == "cosine":
        share = jnp.cos(math.pi / 2 * progress)
    elif masks == "exponential":
        share = 1 - jnp.exp2(-jnp.log2(codes) * (1 - progress))
    elif masks == "logarithmic":
        share = -jnp.log2(progress) / jnp.log2(codes)
    else:
        share = 1 - progress ** POWERS[masks]
    return jnp.clip(share, 1e-6, 1.0)


def ranks(values: Float[Array, "b l"]) -> Int[Array, "b l"]:
    """Returns how many values of a row are less than each."""
    return jnp.argsort(jnp.argsort(values, axis=1), axis=1)


def whole_patches(known: Bool[Array, "b h w 1"], grid: tuple[int, ...]) -> Bool[Array, "b hh ww"]:
    """Tells which patches of a grid are wholly known: [B H W 1] -> [B HH WW]."""
    rows, columns = grid
    b, h, w, _ = known.shape
    return known.reshape(b, rows, h // rows, columns, w // columns).all(axis=(2, 4))


# --- a pass of decoding ----------------------------------------------------------------------------------------------


class Noise(NamedTuple):
    """Standard Gumbel noise of one pass."""

    codes: Float[Array, "b l v"]
    choice: Float[Array, "b l"]

    @classmethod
    def drawn(cls, key: PRNGKey, shape: tuple[int, ...]) -> Noise:
        """Draws the noise for logits of a shape."""
        codes, choice = jax.random.split(key)
        return cls(jax.random.gumbel(codes, shape), jax.random.gumbel(choice, shape[:-1]))


def unmasked(
    logits: Float[Array, "b l v"],
    given: Int[Array, "b l"],
    left: Float[Array, " b"],
    choice_temperature: Scalar | Float[Array, "#b 1"],
    noise: Noise,
) -> tuple[Int[Array, "b l"], Int[Array, "b l"]]:
    """Draws the codes of `given` that are masked, V, and masks those again that are least sure (section 3.2, 1 to 4).

    Returns the codes with `left` of them masked, at least one and fewer than before, and the codes without masks. How
    sure a code is: its log p plus `choice_temperature` times noise.
    """
    vocabulary = logits.shape[-1]
    unknown = given == vocabulary
    drawn = jnp.where(unknown, jnp.argmax(logits + noise.codes, axis=-1), given)
    log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.minimum(drawn, vocabulary - 1)[..., None], axis=-1)
    sure = jnp.where(unknown, log_p[..., 0] + choice_temperature * noise.choice, np.inf)
    left = jnp.maximum(1, jnp.minimum(unknown.sum(axis=1) - 1, left))
    again = unknown & (ranks(sure) < left[:, None])
    return jnp.where(again, vocabulary, drawn), drawn
