"""VAR (Tian et al. 2024, arXiv 2404.02905): all codes of a scale at once, from those of the coarser scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Annotated, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.autoregressive.codes import (
    both_conditionings,
    check_code_guidance,
    check_label_dropout,
    codes_in,
    decoded,
    for_other_images,
    guided,
    init_over_codes,
    smoothed_nll,
    with_unconditional,
)
from imagegen_jax.autoregressive.decoding import DECODING, check_decoding, draw
from imagegen_jax.core.arrays.random import streams
from imagegen_jax.core.capabilities import TokenizingByScale
from imagegen_jax.core.config.bounds import BelowOne, Natural
from imagegen_jax.core.config.choices import Choices
from imagegen_jax.core.model import Aux, Batch, Image, Inputs, Nets, Phase, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn.backbones.conditioning import Conditioning, Rates, conditioning_of, drop_conditions
from imagegen_jax.nn.backbones.transformers.code_network import AnyScaleNetwork, ScaleCodes
from imagegen_jax.nn.backbones.transformers.next_scale import NextScale

AnyScaleTokenizer = Annotated[
    TokenizingByScale,
    Choices("imagegen_jax.autoencoders.vqvae:VQVAE", "imagegen_jax.autoencoders.vqgan:VQGAN"),
]


@dataclasses.dataclass(frozen=True)
class VAR:
    """Transformer that predicts the codes of one scale after the other; the defaults are those of the authors' d16.

    Its tokenizer has codes at several scales, such as a `MultiScaleCodebook` makes. The networks are "tokenizer", which
    is frozen, and "prior". Raises ValueError for a tokenizer with codes at a single scale, and for a dropout of labels
    that are not there.
    """

    tokenizer: AnyScaleTokenizer
    network: AnyScaleNetwork = NextScale()
    num_classes: Natural = 1000  # 0: unconditional
    label_dropout: BelowOne = 0.1  # share of images whose label is dropped, for guidance
    label_smoothing: BelowOne = 0.0

    frozen: ClassVar[tuple[str, ...]] = ("tokenizer",)
    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance", *DECODING)

    def __post_init__(self) -> None:
        if not (isinstance(self.tokenizer, TokenizingByScale) and self.tokenizer.code_sizes):
            raise ValueError(
                f"model.tokenizer: this {type(self.tokenizer).__name__} has codes at a single scale, of shape "
                f"{tuple(self.tokenizer.code_shape)}, but VAR goes from scale to scale: use one with a "
                "MultiScaleCodebook, or a model that goes from code to code, such as CodePrior"
            )
        check_label_dropout(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of images."""
        return self.tokenizer.image_shape

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> VAR:
        """Returns this model for images of a shape and so many classes. Raises ValueError as its tokenizer does."""
        return for_other_images(self, image_shape, num_classes)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where images, codes, labels or heads do not fit."""
        rows, codes = len(next(iter(batch.values()))), self._codes
        inputs = jnp.zeros((rows, codes.length - codes.counts[0], self.tokenizer.code_dim))
        return init_over_codes(self, key, batch, lambda key, told: self.network.init(key, inputs, codes, told))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step, which trains the prior."""
        return (Phase(("prior",), self.loss, "prior"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log p(r_1, ..., r_K | class), a mean over codes in nats (Eq. 2), with smoothed labels.

        The metric `nats_per_code` is without the smoothing.
        """
        label_keys, dropout_keys = streams(inputs.keys, 2)
        whole = conditioning_of(self, inputs.batch)._replace(keys=dropout_keys)
        told = drop_conditions(whole, Rates(self.label_dropout), label_keys)
        codes = codes_in(self.tokenizer, nets, inputs.batch)
        logits = self._logits(nets, codes, told)
        loss, nats = (jnp.mean(smoothed_nll(logits, codes, share)) for share in (self.label_smoothing, 0.0))
        return loss, Aux({"nats_per_code": nats})

    def nats(self, nets: Nets, batch: Batch, keys: PRNGKeys) -> Float[Array, " b"]:
        """Returns -log p(codes | class) over the number of codes, of each image; `keys` are not read: it is exact."""
        codes = codes_in(self.tokenizer, nets, batch)
        return jnp.mean(smoothed_nll(self._logits(nets, codes, conditioning_of(self, batch)), codes), axis=1)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1], scale after scale, each in one pass; keys and values of earlier ones are kept.

        `conditions` may have "temperature", "top_k" and "top_p" of `decoding`, and "guidance" (1: follows labels). As
        in the authors' code, whose cfg is 1 less, it grows evenly with the scale, from 1 at the coarsest. Raises
        ValueError where the model has classes and `conditions` no "label".
        """
        return decoded(self.tokenizer, nets, self.sample_codes(nets, key, n, conditions))

    def sample_codes(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Int[Array, "n l"]:
        """Draws the codes of `n` images, from coarse to fine: [N L]."""
        of, tokenizer, scale = self._codes, self.tokenizer, conditions.get("guidance")
        told = conditioning_of(self, conditions)
        told = told if scale is None else both_conditionings(told)
        variables, codes = nets["prior"], jnp.zeros((n, 0), jnp.int32)
        for i, count in enumerate(of.counts):
            inputs = tokenizer.next_inputs(nets, codes)[:, -count:] if i else jnp.zeros((n, 0, tokenizer.code_dim))
            inputs = inputs if scale is None else with_unconditional(inputs)
            logits, cache = self.network.apply(variables, inputs, of, told, i, mutable=["cache"])
            variables = {**variables, **cache}
            if scale is not None:
                logits = guided(logits, 1 + (scale - 1) * i / max(1, len(of.sizes) - 1))
            codes = jnp.concatenate([codes, _draw(jax.random.fold_in(key, i), logits, conditions)], axis=1)
        return codes

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for a temperature, top_k, top_p or guidance that nothing can be drawn by."""
        check_decoding(conditions, self.tokenizer.codebook_size)
        check_code_guidance(self, conditions)

    @property
    def _codes(self) -> ScaleCodes:
        return ScaleCodes(self.tokenizer.codebook_size, tuple(self.tokenizer.code_sizes))

    def _logits(self, nets: Nets, codes: Int[Array, "b l"], told: Conditioning) -> Float[Array, "b l v"]:
        """Returns the logits of all codes, each scale given the true ones before it."""
        inputs = jax.lax.stop_gradient(self.tokenizer.next_inputs(nets, codes))
        return self.network.apply(nets["prior"], inputs, self._codes, told)


def _draw(key: PRNGKey, logits: Float[Array, "n l v"], conditions: Batch) -> Int[Array, "n l"]:
    """Draws the codes of a scale, by conditions that are numbers, or one for each image."""
    n, places, vocabulary = logits.shape
    each = {name: jnp.asarray(conditions[name]) for name in DECODING if name in conditions}
    each = {name: jnp.repeat(values, places) if values.ndim else values for name, values in each.items()}
    return draw(key, logits.reshape(-1, vocabulary), each).reshape(n, places)
