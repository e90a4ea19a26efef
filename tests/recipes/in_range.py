"""Samplers that tell images beyond [-1, 1] as they tell what is not finite, so that drawing them is refused."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

from imagegen_jax.core.drawing import draw, finite


def refuse_beyond(patch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Has the samplers that are traced from now on tell them; returns the shapes of what they draw, as it grows.

    No program is compiled for it: bytes, which have no range, are made in that of the sampler.
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
    return drawn
