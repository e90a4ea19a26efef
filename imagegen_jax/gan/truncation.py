"""Truncation: a condition of sampling, one value a row, that trades variety for quality: images nearer to the mean."""

from __future__ import annotations

import numpy as np

from imagegen_jax.core.model import Batch


def check_truncation(conditions: Batch) -> None:
    """Raises ValueError where `conditions["truncation"]` is outside [0, 1], or not a number."""
    truncation = np.asarray(conditions.get("truncation", 1.0), np.float64)
    wrong = truncation[~((truncation >= 0) & (truncation <= 1))]
    if wrong.size:
        raise ValueError(f"truncation {wrong.ravel()[0]}: must be from 0 (images of the mean) to 1 (not truncated)")
