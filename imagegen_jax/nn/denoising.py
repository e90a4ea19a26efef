"""The networks that a diffusion model may have, all called alike, and what makes one fit."""

from __future__ import annotations

from typing import TypeVar

import flax.linen as nn

from imagegen_jax.nn.adm import ADM
from imagegen_jax.nn.dit import DiT
from imagegen_jax.nn.edm2 import EDM2UNet
from imagegen_jax.nn.song import SongUNet
from imagegen_jax.nn.unet import UNet

AnyNetwork = UNet | ADM | SongUNet | EDM2UNet | DiT

Network = TypeVar("Network", bound=nn.Module)


def check_channels(network: AnyNetwork, image_shape: tuple[int, int, int]) -> None:
    """Raises ValueError where `network` puts out a variance beside its prediction, or other channels than images have.

    Checked by `init`, and not when the model is made: another network is chosen first, then its fields.
    """
    channels = image_shape[2]
    if isinstance(network, ADM) and network.learned_variance:
        raise ValueError(
            "model.network.learned_variance=True: only ImprovedDDPM learns a variance; for this model set it to False"
        )
    if isinstance(network, DiT) and network.out_channels not in (None, channels):
        raise ValueError(
            f"model.network.out_channels={network.out_channels}: images have {channels} channels, and so has what is "
            "predicted; leave it at None"
        )


def forward_differentiable(network: Network) -> Network:
    """`network` with an attention that forward mode goes through, which fused kernels refuse."""
    return network.clone(attention="xla") if hasattr(network, "attention") else network
