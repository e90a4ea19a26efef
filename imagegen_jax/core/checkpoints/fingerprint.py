"""Fingerprints of arrays, computed where they live: whether any bit of them changed, and whether they are finite."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, UInt32

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.reporting.not_finite import NonFiniteError

_BLOCK = 2**20  # words that NumPy weighs at a time


class Prints(NamedTuple):
    """What one pass over a tree finds out about each of its arrays."""

    words: UInt32[Array | np.ndarray, " leaves"]
    finite: Bool[Array | np.ndarray, " leaves"]


def prints(tree: Any) -> Prints:
    """Returns the fingerprint of each array, and whether it holds finite numbers alone."""
    arrays = jax.tree.leaves(tree)
    if all(_on_this_cpu(x) for x in arrays):  # compiling the program takes longer than NumPy does
        seen = [_seen_by_numpy(np.asarray(x)) for x in arrays]
        return Prints(np.asarray([words for words, _ in seen], np.uint32), np.asarray([good for _, good in seen], bool))
    return _program()(arrays)


def _on_this_cpu(x: Any) -> bool:
    if not isinstance(x, jax.Array):
        return True
    return x.is_fully_addressable and all(device.platform == "cpu" for device in x.devices())


def _seen_by_numpy(x: np.ndarray) -> tuple[int, bool]:
    """Returns the sum of an array's weighted words, and whether all its values are finite."""
    flat = np.ascontiguousarray(x).reshape(-1)
    words = flat if flat.dtype == np.bool_ else flat.view(f"uint{8 * flat.dtype.itemsize}")
    total = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK].astype(np.uint32)
        weights = 2 * np.arange(start, start + len(block), dtype=np.uint32) + np.uint32(1)
        total += int(np.sum(block * weights, dtype=np.uint32))
    return total % 2**32, not jnp.issubdtype(x.dtype, jnp.inexact) or bool(np.isfinite(flat).all())


def fingerprint(tree: Any) -> UInt32[Array | np.ndarray, " leaves"]:
    """Returns a number for each array that changes with any of its bits: odd weights times its words, modulo 2^32.

    Sums of integers do not depend on their order, so the numbers do not depend on how the arrays are sharded.
    """
    return prints(tree).words


def digest_of(variables: Mapping[str, Any], words: Sequence[int] | None = None) -> str:
    """Returns 16 letters that stand for a network: its arrays' paths, shapes, types and fingerprints.

    `words` are the fingerprints of its arrays, where they are known already.
    """
    leaves = jax.tree.leaves_with_path(dict(variables))
    words = jax.device_get(fingerprint(variables)) if words is None else words
    facts = [
        [jax.tree_util.keystr(path), list(x.shape), str(x.dtype), int(word)]
        for (path, x), word in zip(leaves, words, strict=True)
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def check_finite(tree: Any, what: str, remedy: str, finite: Bool[Array | np.ndarray, " leaves"] | None = None) -> None:
    """Raises NonFiniteError, naming the first array of `tree` that holds NaN or an infinity, where one does.

    `finite` is what `prints` found about it, if that was called already.
    """
    found = jax.device_get(prints(tree).finite if finite is None else finite)
    wrong = [path for (path, _), good in zip(jax.tree.leaves_with_path(tree), found, strict=True) if not good]
    if wrong:
        place = jax.tree_util.keystr(wrong[0], simple=True, separator="/")
        more = f" and {len(wrong) - 1:,} more arrays" if len(wrong) > 1 else ""
        raise NonFiniteError(f"{what}: {place}{more} hold NaN or infinities. {remedy}")


@functools.cache
def _program() -> Any:
    return compiling.jit(
        lambda arrays: Prints(jnp.stack([_word_sum(x) for x in arrays]), jnp.stack([is_finite(x) for x in arrays]))
    )


def is_finite(x: Array) -> Bool[Array, ""]:
    """Tells whether an array holds finite numbers alone; integers do."""
    return jnp.isfinite(x).all() if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.bool_(True)


def _word_sum(x: Array) -> UInt32[Array, ""]:
    words = x if x.dtype == jnp.bool_ else jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    words = words.astype(jnp.uint32).reshape(-1)
    weights = 2 * jnp.arange(len(words), dtype=jnp.uint32) + 1
    return jnp.sum(words * weights, dtype=jnp.uint32)
