"""Networks that grow while they train, from small images to large ones (Karras et al. 2018, 1710.10196, section 2).

Level 0 is the smallest size, and each further level twice the one before. A level is held, then the next one is faded
in, and so on to the full size. `progress` is the level as a number: at 2.25, level 3 is faded in by a quarter.

All weights exist from the start, as in the authors' code. Weights that a level does not use have a gradient of 0, and
Adam with fresh moments leaves them as they are.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from imagegen_jax.core.config.bounds import Count, Natural
from imagegen_jax.core.model import Image, Scalar
from imagegen_jax.nn.resample import upsample_nearest
from imagegen_jax.nn.upfirdn import Taps, downsample

BOX: Taps = (1.0, 1.0)  # the mean of 2x2 pixels


class Stage(NamedTuple):
    """A span of training at one size."""

    level: int
    fading: bool  # whether `level` is being faded in

    @property
    def levels(self) -> range:
        """Returns the levels that have images: this one and, while it is faded in, the one before."""
        return range(self.level - self.fading, self.level + 1)


@dataclasses.dataclass(frozen=True)
class Growth:
    """Schedule of doublings. The defaults are the paper's 600,000 images, in batches of 16 (appendix A.1)."""

    hold: Count = 37_500  # steps at a level; the last one takes all that are left
    fade: Count = 37_500  # steps while the next level is faded in
    first: Natural = 0  # the level that training begins with

    def __post_init__(self) -> None:
        for name, least in (("hold", 1), ("fade", 1), ("first", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"growth.{name}={getattr(self, name)}: must be at least {least}")

    def check(self, levels: int) -> None:
        """Raises ValueError where the first level is beyond the last of `levels`."""
        if self.first >= levels:
            raise ValueError(f"growth.first={self.first}: images of this size have levels 0 to {levels - 1}")

    def stage(self, step: int, levels: int) -> Stage:
        """Returns the stage of a training step."""
        cycles, at = divmod(step, self.hold + self.fade)
        fading = at >= self.hold
        level = self.first + cycles + fading
        return Stage(level, fading) if level < levels else Stage(levels - 1, False)

    def progress(self, step: Int[Array, ""], levels: int) -> Scalar:
        """Returns the level at a step, plus the share of the next one: alpha is 0 in the first step of a fade."""
        cycles, at = jnp.divmod(step, self.hold + self.fade)
        alpha = jnp.maximum(at - self.hold, 0) / self.fade
        return jnp.minimum(jnp.float32(self.first + cycles + alpha), levels - 1)


def fade(
    coarse: Float[Array, "b h w c"], fine: Float[Array, "b h w c"], progress: Scalar, level: int
) -> Float[Array, "b h w c"]:
    """Returns (1 - alpha) coarse + alpha fine, where alpha in [0, 1] is how far `level` is faded in   (Figure 2)"""
    alpha = jnp.clip(progress - (level - 1), 0, 1)
    return ((1 - alpha) * coarse + alpha * fine).astype(fine.dtype)


def at_stage(image: Image, stage: Stage, progress: Scalar, levels: int) -> Image:
    """Makes the data's images fit a stage: averaged down and, while it fades in, mixed with those a level below."""
    for _ in range(levels - 1 - stage.level):
        image = downsample(image, BOX)
    if not stage.fading:
        return image
    return fade(upsample_nearest(downsample(image, BOX)), image, progress, stage.level)


def enlarged(image: Image, stage: Stage, levels: int) -> Image:
    """Enlarges images of a stage to the full size, as square pixels."""
    for _ in range(levels - 1 - stage.level):
        image = upsample_nearest(image)
    return image


def stretch(stage: Stage, levels: int) -> float:
    """Returns the norm of a gradient for a stage's pixels, over its norm for the full image's.

    One pixel of a stage is the mean of s x s pixels of the full image. Each of these s^2 has 1 / s^2 of its
    derivative, so that their norm is 1 / s of the pixel's. Penalties use gradients for full images, as in the authors'
    code: otherwise the norm would halve at each doubling, and the penalty jump.

    With the mean of s x s pixels for one, each of their s^2 derivatives is 1 / s^2 of its: their norm is 1 / s of its.
    Penalties are of gradients with respect to full images, as in the authors' code: a norm would halve at each doubling
    otherwise, and a penalty jump.
    """
    return 2.0 ** (levels - 1 - stage.level)
