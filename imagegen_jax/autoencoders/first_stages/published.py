"""The autoencoders that others have published weights of, as values for a space: `Latents(0.18215, autoencoder=...)`.

    name     images to latents     parameters    of
    sd       f8, 4 channels        83,653,863    Stable Diffusion 1, 2 and XL; latent diffusion's KL-f8
    sd3      f8, 16 channels       83,819,683    Stable Diffusion 3 and Flux
    kl_f4    f4, 3 channels        55,312,063    latent diffusion
    kl_f16   f16, 16 channels      69,610,963    latent diffusion
    mar      f16, 16 channels      66,456,019    MAR, whose decoder has attention in the middle only
    kl_f32   f32, 64 channels     103,880,131    latent diffusion
    vq_f4    f4, 3 channels        55,322,782    latent diffusion, quantised as it decodes
    taesd    f8, 4 channels         2,445,063    previews of latents of Stable Diffusion

The scales go with the weights: 0.18215 of Stable Diffusion 1 and 2, 0.13025 of XL; 1.5305 with shift 0.0609 of 3.
"""

from __future__ import annotations

from typing import Any

from imagegen_jax.autoencoders.first_stages.tiny import TinyAutoencoder
from imagegen_jax.autoencoders.first_stages.unquantised import Unquantised
from imagegen_jax.autoencoders.kl import SD_LEVELS, AutoencoderKL, KLNetwork
from imagegen_jax.core.capabilities import EncodesLatents, first_stage_for
from imagegen_jax.nn.backbones.autoencoder import ConvDecoder, ConvEncoder


def _kl(multipliers: tuple[int, ...], channels: int, attention: tuple[int, ...] = (), **fields: Any) -> AutoencoderKL:
    levels: dict[str, Any] = {"multipliers": multipliers, "attention_levels": attention}
    network = KLNetwork(ConvEncoder(**levels, features=2 * channels), ConvDecoder(**levels), channels, **fields)
    return AutoencoderKL(network=network, adversary=None, learned_variance=False)


PUBLISHED: dict[str, EncodesLatents] = {
    "sd": _kl(SD_LEVELS, 4),
    "sd3": _kl(SD_LEVELS, 16, pointwise=False),
    "kl_f4": _kl((1, 2, 4), 3),
    "kl_f16": _kl((1, 1, 2, 2, 4), 16, (4,)),
    "mar": AutoencoderKL(
        network=KLNetwork(ConvEncoder(attention_levels=(4,), features=32), ConvDecoder(), latent_channels=16),
        adversary=None,
        learned_variance=False,
    ),
    "kl_f32": _kl((1, 1, 2, 2, 4, 4), 64, (4, 5)),
    "vq_f4": Unquantised(),
    "taesd": TinyAutoencoder(),
}


def published(name: str, image_shape: tuple[int, int, int] = (256, 256, 3)) -> Any:
    """Returns a published autoencoder for images of a shape. Raises ValueError for an unknown name or such a shape."""
    if name not in PUBLISHED:
        raise ValueError(f"there is no published autoencoder {name!r}: use one of {', '.join(PUBLISHED)}")
    return first_stage_for(PUBLISHED[name], image_shape)
