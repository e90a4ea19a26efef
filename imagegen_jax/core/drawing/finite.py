"""Samples that are not finite numbers: found on the device, where images turn into bytes, and refused here."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt8

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.checkpoints.fingerprint import is_finite
from imagegen_jax.core.model import Image, Nets
from imagegen_jax.core.reporting.not_finite import NonFiniteError

Latents = Float[Array, "b h w c"]  # in no range


def to_bytes(images: Image) -> tuple[UInt8[Array, "b h w c"], Bool[Array, " b"]]:
    """Returns images as uint8, and for each whether all its values were finite: as bytes, NaN is black."""
    return to_uint8(images), _finite(images)


def as_drawn(latents: Latents) -> tuple[Latents, Bool[Array, " b"]]:
    """Returns latents as float32, and for each whether all its values are finite."""
    return latents.astype(jnp.float32), _finite(latents)


def _finite(samples: Latents) -> Bool[Array, " b"]:
    return jnp.isfinite(samples).all(axis=(1, 2, 3))


def check_finite_images(images: Any, nets: Nets) -> None:
    """Raises NonFiniteError, with the likely cause, where images [n ...] are not all finite, or flags [n] not all true.

    `nets` are the networks that made them.
    """
    array = np.asarray(images)
    flags = array if array.dtype == np.bool_ else np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if flags.all():
        return
    lost = [name for name, variables in nets.items() if not all(map(is_finite, jax.tree.leaves(variables)))]
    if lost:
        why = f"the weights of {', '.join(map(repr, lost))} are not finite: take an earlier checkpoint (step=, --step)"
    else:
        why = "the weights are finite: use weaker guidance (guidance=, --guidance), or other sampler options"
    raise NonFiniteError(f"{(~flags).sum()} of {len(flags)} images are not finite numbers, so none is written; {why}")
