"""The autoencoder of latent diffusion (Rombach et al. 2022, arXiv 2112.10752, section 3.1), regularised by a KL term.

VQGAN's networks and losses, with a normal posterior in place of codes. As in the authors' code, CompVis/
latent-diffusion, the reconstruction's term is a negative log-likelihood, a sum over values, not a mean; its variance
may be learned.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagegen_jax.autoencoders.adversary import Adversary, Likeness, by_last_layer, last_kernel, linearised
from imagegen_jax.autoencoders.tokenizer import AnyPatchDecoder, AnyPatchEncoder, divided, psnr
from imagegen_jax.autoencoders.vae import kl_to_prior
from imagegen_jax.core.arrays.random import normal_rows
from imagegen_jax.core.capabilities import Moments
from imagegen_jax.core.config.bounds import Count, NonNegative, Shape
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
from imagegen_jax.nn.precision import Dtype, compute_dtype

SD_LEVELS = (1, 2, 4, 4)  # Stable Diffusion's multipliers
LOWEST, HIGHEST = -30.0, 20.0  # of a posterior's log-variance

LatentGrid = Float[Array, "b hh ww d"]


class KLNetwork(nn.Module):
    """Encoder, a 1x1 convolution to mean and log-variance, a 1x1 convolution of latents, and decoder.

    Without `pointwise` there are no such convolutions, as in the autoencoders of Stable Diffusion 3 and Flux. The
    encoder makes twice as many features as there are channels of latents.
    """

    encoder: AnyPatchEncoder = ConvEncoder(multipliers=SD_LEVELS, features=8)
    decoder: AnyPatchDecoder = ConvDecoder(multipliers=SD_LEVELS)
    latent_channels: Count = 4
    pointwise: bool = True
    dtype: Dtype = "auto"

    def setup(self) -> None:
        self.pre = self._convolution(2 * self.latent_channels)
        self.post = self._convolution(self.latent_channels)

    def __call__(self, x: Image) -> Float[Array, "b h w c"]:
        """Reconstructs images from the means of their latents: [B H W C] -> [B H W C], not clipped"""
        return self.decode(self.encode(x)[0], x.shape[-1])

    def encode(self, x: Image) -> tuple[LatentGrid, LatentGrid]:
        """Returns mean and log-variance of the latents of images: [B H W C] -> [B H/factor W/factor D], twice"""
        found = self.encoder(x)
        if self.pointwise:
            found = self.pre(found)
        elif found.shape[-1] != 2 * self.latent_channels:
            raise ValueError(
                f"network.encoder makes {found.shape[-1]} features, but mean and log-variance of latent_channels="
                f"{self.latent_channels} are {2 * self.latent_channels}: set encoder.features to that, or pointwise"
            )
        mu, log_var = jnp.split(found.astype(jnp.float32), 2, axis=-1)
        return mu, jnp.clip(log_var, LOWEST, HIGHEST)

    def decode(self, z: LatentGrid, channels: int) -> Float[Array, "b h w c"]:
        """Decodes latents: [B H/factor W/factor D] -> [B H W channels], not clipped"""
        return self.decoder(self.post(z) if self.pointwise else z, channels)

    def _convolution(self, features: int) -> nn.Conv:
        return nn.Conv(features, (1, 1), dtype=compute_dtype(self.dtype))


@dataclasses.dataclass(frozen=True)
class AutoencoderKL:
    """Autoencoder with a posterior over a grid of latents; the defaults are those of Stable Diffusion, f = 8.

    It draws reconstructions; a diffusion model over its latents draws new images. With `learned_variance` the network
    "likelihood" holds the log-variance of the reconstruction, a single number. Without it that is 0: so it stayed in
    the authors' code, whose optimizer does not have it.
    """

    image_shape: Shape = (256, 256, 3)
    network: KLNetwork = KLNetwork()
    likeness: Likeness = Likeness()
    adversary: Adversary | None = Adversary(start=50_001, weight=0.5)  # None: likeness and the KL term alone
    kl_weight: NonNegative = 1e-6
    learned_variance: bool = True

    def __post_init__(self) -> None:
        divided(self.image_shape, self.network.encoder.factor)
        last_kernel(self.network.decoder)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """The height, width and channels of an image's latents."""
        return *divided(self.image_shape, self.network.encoder.factor), self.network.latent_channels

    @property
    def condition_rows(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns what images are made from: others."""
        return {"image": jax.ShapeDtypeStruct(self.image_shape, np.uint8)}

    @property
    def frozen(self) -> tuple[str, ...]:
        """The network of the perceptual distance, where there is one."""
        return self.likeness.frozen

    def init(self, key: PRNGKey, batch: Batch) -> Nets:
        """Initialises the networks. Raises ValueError where the images have another shape, or one they cannot have."""
        check_images(self, batch)
        autoencoder_key, discriminator_key, perceptual_key = jax.random.split(key, 3)
        image = jnp.zeros((1, *self.image_shape))
        return {
            "autoencoder": self.init_autoencoder(autoencoder_key),
            **self._init_discriminator(discriminator_key, image),
            **({"likelihood": {"params": {"log_variance": jnp.zeros(())}}} if self.learned_variance else {}),
            **self.likeness.init(perceptual_key, image),
        }

    def _init_discriminator(self, key: PRNGKey, image: Image) -> dict[str, Variables]:
        if self.adversary is None:
            return {}
        return {"discriminator": self.adversary.discriminator.init(key, image, train=False)}

    def init_autoencoder(self, key: PRNGKey) -> Variables:
        """Makes fresh weights of the network that encodes and decodes."""
        return self.network.init(key, jnp.zeros((1, *self.image_shape)))

    def stage(self, step: int) -> bool:
        """Tells whether the discriminator takes part in training step `step`."""
        return self.adversary is not None and step >= self.adversary.start

    def phases(self, stage: Hashable) -> tuple[Phase, ...]:
        """Returns the phases of a step: the autoencoder, then the discriminator where the `stage` has one."""
        trains = ("autoencoder", "likelihood") if self.learned_variance else ("autoencoder",)
        autoencoder = Phase(trains, functools.partial(self.autoencoder_loss, bool(stage)), "autoencoder")
        discriminator = Phase(("discriminator",), self.discriminator_loss, "discriminator")
        return (autoencoder, discriminator) if stage else (autoencoder,)

    def autoencoder_loss(self, judged: bool, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """-log p(x|z) + kl_weight KL(q(z|x) || p(z)), and where `judged` + weight lambda L_GAN   (Eq. 25)

        -log p(x|z) = N (L_rec / exp(s) + s) with N values an image and s the learned log-variance, z a draw from q(z|x)
        by the row's key.
        """
        x = inputs.batch["image"]

        def reconstruct(variables: Variables) -> tuple[Image, tuple[LatentGrid, LatentGrid]]:
            mu, log_var = self.network.apply(variables, x, method="encode")
            z = mu + jnp.exp(0.5 * log_var) * normal_rows(inputs.keys, self.latent_shape)
            return self.network.apply(variables, z, x.shape[-1], method="decode"), (mu, log_var)

        y, pull, posterior = by_last_layer(reconstruct, nets["autoencoder"], self.network.decoder)
        likeness, terms = linearised(functools.partial(self.likeness.loss, nets, x), y)
        s = nets["likelihood"]["params"]["log_variance"] if self.learned_variance else jnp.zeros(())
        values = x[0].size
        nll = values * (likeness.at(y) * jnp.exp(-s) + s)
        kl = jnp.mean(kl_to_prior(*(a.reshape(len(x), -1) for a in posterior)))
        loss = nll + self.kl_weight * kl
        metrics = {**terms, "psnr": psnr(x, y), "kl": kl, "log_variance": s}
        if judged and self.adversary is not None:
            gradient = values * jnp.exp(-s) * likeness.gradient
            adversarial, found = self.adversary.judged(nets, x, y, pull, gradient)
            loss, metrics = loss + adversarial, metrics | found
        return loss, Aux(metrics, {}, y)

    def discriminator_loss(self, nets: Nets, inputs: Inputs) -> tuple[Scalar, Aux]:
        """Returns the discriminator's loss for images and what is decoded of draws of their latents."""
        assert self.adversary is not None
        x = inputs.batch["image"]
        mean, std = self.encode(nets, x)
        z = mean + std * normal_rows(inputs.keys, self.latent_shape)
        return self.adversary.loss(nets, x, self._decode(nets, z))

    def encode(self, nets: Nets, image: Image) -> Moments:
        """Returns mean and deviation of the latents of images in [-1, 1]: [B *image_shape] -> [B *latent_shape]."""
        mu, log_var = self.network.apply(nets["autoencoder"], image, method="encode")
        return Moments(mu, jnp.exp(0.5 * log_var))

    def decode(self, nets: Nets, latents: LatentGrid) -> Image:
        """Turns latents into images in [-1, 1]: [B *latent_shape] -> [B *image_shape]."""
        return jnp.clip(self._decode(nets, latents), -1.0, 1.0)

    def sample(self, nets: Nets, key: PRNGKey, n: int, conditions: Batch) -> Image:
        """Reconstructs the `n` images `conditions["image"]` from the means of their latents, in [-1, 1]."""
        return self.decode(nets, self.encode(nets, conditions["image"]).mean)

    def _decode(self, nets: Nets, latents: LatentGrid) -> Float[Array, "b h w c"]:
        return self.network.apply(nets["autoencoder"], latents, self.image_shape[-1], method="decode")
