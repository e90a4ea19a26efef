"""Random flips of images inside `jit`."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from imagegen_jax import moved
from imagegen_jax.core.arrays.random import bernoulli_rows
from imagegen_jax.core.config.bounds import Share
from imagegen_jax.core.model import Batch, PRNGKeys

__getattr__ = moved.attributes(__name__)


@dataclasses.dataclass(frozen=True)
class HorizontalFlip:
    """Mirrors each image left to right with a probability, inside `jit`, from the key of its own row.

    An image's source, where it has one, is mirrored with it.
    """

    probability: Share = 0.5

    def __call__(self, batch: Batch, keys: PRNGKeys) -> Batch:
        flip = bernoulli_rows(keys, self.probability)[:, None, None, None]
        there = [name for name in ("image", "source") if name in batch]
        return {**batch, **{name: jnp.where(flip, batch[name][:, :, ::-1], batch[name]) for name in there}}
