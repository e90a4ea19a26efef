"""Inception score (Salimans et al. 2016, arXiv 1606.03498), from a classifier's logits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Shaped

from imagegen_jax.core.config.given import check_integer, check_seed
from imagegen_jax.metrics.features.blocks import checked


class InceptionScore(NamedTuple):
    """Mean and standard deviation (ddof 0) over the splits; from 1 to the number of classes, higher is better."""

    mean: float
    std: float


def inception_score(
    logits: Shaped[Array, "n c"] | np.ndarray, *, splits: int = 10, shuffle: bool = True, seed: int = 2020
) -> InceptionScore:
    """Computes exp E_x KL(p(y|x) || p(y)) for each split of `logits` [N classes] (Sec. 4), in float64.

    Splits and shuffling are torch-fidelity's: rows in the order of `RandomState(seed).permutation(N)`, cut at
    i N // splits. Images often lie sorted by class, where unshuffled splits score too low. Raises ValueError for NaN
    and for fewer samples than splits.
    """
    rows = checked(logits, "logits")
    check_seed(seed)
    if check_integer(splits, "splits") > len(rows):
        raise ValueError(f"splits={splits}: must be from 1 to the number of samples, {len(rows)}")
    order = np.random.RandomState(seed).permutation(len(rows)) if shuffle else np.arange(len(rows))
    scores = [
        _score(rows[order[i * len(rows) // splits : (i + 1) * len(rows) // splits]].astype(np.float64))
        for i in range(splits)
    ]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)))


def _score(logits: Float[np.ndarray, "n c"]) -> float:
    log_p = logits - _log_sum_exp(logits, axis=1)
    log_marginal = _log_sum_exp(log_p, axis=0) - np.log(len(logits))
    return float(np.exp(np.sum(np.exp(log_p) * (log_p - log_marginal), axis=1).mean()))


def _log_sum_exp(x: Float[np.ndarray, "n c"], axis: int) -> Float[np.ndarray, "_ _"]:
    """Computes log sum exp over an axis, which is kept; finite where every exponential vanishes."""
    most = x.max(axis=axis, keepdims=True)
    return most + np.log(np.exp(x - most).sum(axis=axis, keepdims=True))
