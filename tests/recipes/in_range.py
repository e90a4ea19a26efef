"""Samplers that tell images beyond [-1, 1] as they tell what is not finite, so that drawing them is refused."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from imagegen_jax.core.drawing import draw, finite
from imagegen_jax.core.platform.target import cached_by_platform


def refuse_beyond(patch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Has all samplers tell them while the patch lasts; returns the shapes of what they draw, as it grows.

    No program is compiled for it: bytes, which have no range, are made in that of the sampler. Samplers are made anew,
    and none outlives the patch: a sampler that was made elsewhere, for an equal model, tells nothing.
    """
    drawn: list[tuple[int, ...]] = []

    def to_bytes(images):
        assert images.dtype == jnp.float32
        drawn.append(images.shape)
        kept, flags = finite.to_bytes(images)
        return kept, flags & (abs(images) <= 1).all(axis=(1, 2, 3))

    def as_drawn(latents):  # in no range
        assert latents.dtype == jnp.float32
        drawn.append(latents.shape)
        return finite.as_drawn(latents)

    patch.setattr(draw, "to_bytes", to_bytes)
    patch.setattr(draw, "as_drawn", as_drawn)
    patch.setattr(draw, "_sampler", cached_by_platform(draw._sampler.__wrapped__))
    return drawn
