"""A small denoiser to play with, never trained."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from latent_models import filled

from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet

DENOISER = Diffusion(
    network=UNet(width=8, multipliers=(1,), blocks=1, attention_at=()),
    levels=Karras(4), solver=DPMSolver(2), image_shape=(8, 8, 3), num_classes=3, label_dropout=0.1, clip=True,
)  # fmt: skip


@functools.cache
def denoiser_nets() -> dict[str, Any]:
    """Networks of `DENOISER`, with small random weights."""
    batch = {"image": jnp.zeros((1, 8, 8, 3)), "label": jnp.zeros(1, jnp.int32)}
    return jax.tree.map(lambda leaf: 0.2 * leaf, filled(DENOISER.init, jax.random.key(0), batch))
