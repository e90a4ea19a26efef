"""Random weights that follow from their names alone: torch and the tests draw the same ones, and no file holds them."""

from __future__ import annotations

import zlib

import numpy as np


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns N(0, 1) in float64; NumPy promises that `RandomState` draws the same forever."""
    return np.asarray(np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape))


def weight(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """Returns the weight of that name: N(0, scale^2), or for a variance a number above it."""
    drawn = scale * normal(name, shape)
    return scale + np.abs(drawn) if name.endswith("_var") else drawn


def direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the direction in which the gradient of that weight is compared."""
    return normal(f"{name}, direction", shape)
