"""What tests play with: a place of given networks, and a small denoiser, never trained."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
from latent_models import filled

from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.diffusion.sampling.exponential import DPMSolver
from imagegen_jax.diffusion.sampling.levels import Karras
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.pages.play.places import Opened

DENOISER = Diffusion(
    network=UNet(width=8, multipliers=(1,), blocks=1, attention_at=()),
    levels=Karras(4), solver=DPMSolver(2), image_shape=(8, 8, 3), num_classes=3, label_dropout=0.1, clip=True,
)  # fmt: skip


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A place whose checkpoints are the same networks, the older ones weaker."""

    name: str
    model: Any
    nets: Any
    folder: pathlib.Path | None = None
    class_names: tuple[str, ...] = ()
    steps: tuple[int, ...] = (100, 200)

    def open(self, step: int | None = None) -> Opened:
        step = step or self.steps[-1]
        return Opened(self.model, jax.tree.map(lambda leaf: leaf * (step / self.steps[-1]), self.nets), step)


@functools.cache
def denoiser_nets() -> dict[str, Any]:
    """Networks of `DENOISER`, with small random weights."""
    batch = {"image": jnp.zeros((1, 8, 8, 3)), "label": jnp.zeros(1, jnp.int32)}
    return jax.tree.map(lambda leaf: 0.2 * leaf, filled(DENOISER.init, jax.random.key(0), batch))
