"""VQGAN (Esser et al. 2021, arXiv 2012.09841): a VQ-VAE whose reconstructions a discriminator of patches judges.

As in the authors' code, CompVis/taming-transformers: the absolute difference and a perceptual distance in place of the
squared error, and a discriminator that starts when the autoencoder is good already.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable

import jax
import jax.numpy as jnp

from imagegen_jax.autoencoders.adversary import Adversary, Likeness, by_last_layer, last_kernel, linearised
from imagegen_jax.autoencoders.quantise import Codebook, Quantised
from imagegen_jax.autoencoders.tokenizer import Tokenizer, psnr, trained_call
from imagegen_jax.autoencoders.tokenizing import TokenizesImages
from imagegen_jax.core.config.bounds import NonNegative, Shape
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
)
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder

F16 = Tokenizer(
    encoder=ConvEncoder(attention_levels=(4,)),
    quantiser=Codebook(codebook_size=1024, dim=256, swapped=True),
    decoder=ConvDecoder(attention_levels=(4,)),
    post_features=256,
)


@dataclasses.dataclass(frozen=True)
class VQGAN(TokenizesImages):
    """Autoencoder with quantised latents and a discriminator; the defaults are the paper's for ImageNet, f = 16.

    It draws reconstructions; a prior over its codes draws new images.
    """

    image_shape: Shape = (256, 256, 3)
    network: Tokenizer = F16
    likeness: Likeness = Likeness()
    adversary: Adversary = Adversary()
    codebook_weight: NonNegative = 1.0  # of the quantiser's loss

    def __post_init__(self) -> None:
        self.network.code_shape(self.image_shape)
        last_kernel(self.network.decoder)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network of the perceptual distance, where there is one."""
        return self.likeness.frozen

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where the images have another shape, or one they cannot have."""
        check_images(self, batch)
        tokenizer_key, discriminator_key, perceptual_key = jax.random.split(key, 3)
        image = jnp.zeros((1, *self.image_shape))
        return {
            "tokenizer": self.init_tokenizer(tokenizer_key),
            "discriminator": self.adversary.discriminator.init(discriminator_key, image, train=False),
            **self.likeness.init(perceptual_key, image),
        }

    def stage(self, step: int) -> bool:
        """Tells whether the discriminator takes part in training step `step`."""
        return step >= self.adversary.start

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the autoencoder, then the discriminator where the `stage` has one."""
        autoencoder = Phase(("tokenizer",), functools.partial(self.autoencoder_loss, bool(stage)), "autoencoder")
        discriminator = Phase(("discriminator",), self.discriminator_loss, "discriminator")
        return (autoencoder, discriminator) if stage else (autoencoder,)

    def autoencoder_loss(self, judged: bool, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """|x - y| + d(x, y) + codebook_weight L_VQ, and where `judged` + weight lambda L_GAN   (Eqs. 4 to 7)"""
        x = inputs.batch["image"]

        def reconstruct(variables: Variables) -> tuple[Image, tuple[Quantised, Variables]]:
            y, quantised, stats = trained_call(self.network, variables, x, inputs.key)
            return y, (quantised, stats)

        y, pull, (quantised, stats) = by_last_layer(reconstruct, nets["tokenizer"], self.network.decoder)
        likeness, terms = linearised(functools.partial(self.likeness.loss, nets, x), y)
        loss = likeness.at(y) + self.codebook_weight * quantised.loss
        metrics = {**terms, "psnr": psnr(x, y), **quantised.metrics}
        if judged:
            adversarial, found = self.adversary.judged(nets, x, y, pull, likeness.gradient)
            loss, metrics = loss + adversarial, metrics | found
        return loss, Aux(metrics, {"tokenizer": stats}, y)

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """discriminator_weight (E[max(0, 1 - D(x))] + E[max(0, 1 + D(y))]), with the default objective   (Eq. 5)"""
        x = inputs.batch["image"]
        y, _ = self.network.apply(nets["tokenizer"], x)
        return self.adversary.loss(nets, x, y)
