"""A prior over the codes of a frozen tokenizer, one after another: taming's second stage, and LlamaGen.

Esser et al. 2021 (arXiv 2012.09841, section 3.2) and Sun et al. 2024 (arXiv 2406.06525).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.autoregressive.codes import (
    AnyTokenizer,
    check_code_guidance,
    check_label_dropout,
    codes_in,
    codes_of,
    for_other_images,
    init_over_codes,
    smoothed_nll,
)
from imagegen_jax.autoregressive.decoding import DECODING, check_decoding, draw_in_order
from imagegen_jax.core.arrays.random import streams, uniform_rows
from imagegen_jax.core.config.bounds import BelowOne, Natural
from imagegen_jax.core.model import Aux, Batch, Image, Inputs, Nets, Phase, PRNGKey, PRNGKeys, Scalar
from imagegen_jax.nn.backbones.conditioning import Conditioning, Rates, conditioning_of, drop_conditions
from imagegen_jax.nn.backbones.transformers.code_network import AnyCausalNetwork
from imagegen_jax.nn.backbones.transformers.gpt import GPT


@dataclasses.dataclass(frozen=True)
class CodePrior:
    """A network that predicts each code of an image from its class and the codes before, row by row.

    The tokenizer's weights are the frozen network "tokenizer": `pretrained={"tokenizer": FromRun("runs/vqvae")}`. With
    `label_dropout` above 0 the network also learns to do without labels, and samples can then be guided. Raises
    ValueError for a dropout of labels that are not there.
    """

    tokenizer: AnyTokenizer
    network: AnyCausalNetwork = GPT()
    num_classes: Natural = 0  # 0: unconditional
    label_dropout: BelowOne = 0.0  # share of images whose label is dropped
    replaced: BelowOne = 0.0  # share of codes that the network sees as random ones: 1 - pkeep of taming's code

    frozen: ClassVar[tuple[str, ...]] = ("tokenizer",)
    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance", *DECODING)

    def __post_init__(self) -> None:
        check_label_dropout(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of the images that the tokenizer makes."""
        return self.tokenizer.image_shape

    def for_images(self, image_shape: tuple[int, int, int], num_classes: int) -> CodePrior:
        """Returns this model for images of a shape and so many classes. Raises ValueError as its tokenizer does."""
        return for_other_images(self, image_shape, num_classes)

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises both networks. Raises ValueError where the images, codes or labels of `batch` do not fit."""
        codes = codes_of(self.tokenizer)
        before = jnp.zeros((len(next(iter(batch.values()))), codes.length - 1), jnp.int32)
        return init_over_codes(self, key, batch, lambda key, told: self.network.init(key, before, codes, told))

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the only phase of a step, which trains the prior."""
        return (Phase(("prior",), self.loss, "prior"),)

    def loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log p(codes | class), a mean over codes in nats   (Eq. 9 of arXiv 2012.09841)"""
        codes = codes_in(self.tokenizer, nets, inputs.batch)
        label_keys, dropout_keys, replaced_keys = streams(inputs.keys, 3)
        whole = conditioning_of(self, inputs.batch)._replace(keys=dropout_keys)
        told = drop_conditions(whole, Rates(self.label_dropout), label_keys)
        costs = self._costs(nets, codes, self._replace_some(codes, replaced_keys), told)
        loss = jnp.mean(costs)
        bits = jnp.mean(jnp.sum(costs, axis=1)) / math.log(2)
        return loss, Aux({"nats_per_code": loss, "bits_per_image": bits})

    def nats(self, nets: Nets, batch: Batch, keys: PRNGKeys) -> Float[Array, " b"]:
        """Returns -log p(codes | class) over the number of codes, of each image; `keys` are not read: it is exact."""
        codes = codes_in(self.tokenizer, nets, batch)
        return jnp.mean(self._costs(nets, codes, codes, conditioning_of(self, batch)), axis=1)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Draws `n` images in [-1, 1]: codes one after another, then the tokenizer's decoder.

        `conditions` may have "temperature", "top_k" and "top_p" of `decoding`, and "guidance" (1: follows labels; 0:
        ignores them). Raises ValueError where the model has classes and `conditions` no "label".
        """
        return self.tokenizer.decode(nets, self.sample_codes(nets, key, n, conditions))

    def sample_codes(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Int[Array, "n ..."]:
        """Draws the codes of `n` images: [N *code_shape]."""
        told, codes = conditioning_of(self, conditions), codes_of(self.tokenizer)
        return draw_in_order(self.network, nets["prior"], codes, told, key, n, conditions)

    def check_conditions(self, conditions: Batch) -> None:
        """Raises ValueError for a temperature, top_k, top_p or guidance that nothing can be drawn by."""
        check_decoding(conditions, self.tokenizer.codebook_size)
        check_code_guidance(self, conditions)

    def _costs(
        self, nets: Nets, codes: Int[Array, "b l"], seen: Int[Array, "b l"], told: Conditioning
    ) -> Float[Array, "b l"]:
        """Returns -log p of each code in nats, where the network sees `seen` of those before it."""
        return smoothed_nll(self.network.apply(nets["prior"], seen[:, :-1], codes_of(self.tokenizer), told), codes)

    def _replace_some(self, codes: Int[Array, "b l"], keys: PRNGKeys) -> Int[Array, "b l"]:
        """Puts codes that are drawn uniformly in the place of a share of them."""
        if not self.replaced:
            return codes
        whether, which = (uniform_rows(stream, shape=codes.shape[1:]) for stream in streams(keys, 2))
        others = jnp.int32(jnp.floor(which * self.tokenizer.codebook_size))
        return jnp.where(whether < self.replaced, others, codes)
