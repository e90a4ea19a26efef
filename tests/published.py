"""Tiny networks of other libraries, as tests/reference/make_text_encoders.py and make_text_to_image.py store them."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import drawn_weights
import jax
import numpy as np
from official import parsed

# To compile takes nearly all of the time.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Case(NamedTuple):
    """A network, and what it made of its inputs."""

    tensors: dict[str, np.ndarray]  # by their published names
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]


def load(path: Any, name: str) -> Case:
    """Returns a case of a file."""
    with np.load(path) as arrays:
        found = {key.removeprefix(f"{name}/"): arrays[key] for key in arrays if key.startswith(f"{name}/")}
    tensors = {n: np.float32(drawn_weights.weight(n, *rest)) for n, *rest in map(parsed, found["weights"].tolist())}
    kinds = [{k.split("/")[1]: v for k, v in found.items() if k.startswith(kind)} for kind in ("input/", "output/")]
    return Case(tensors, *kinds)


def close(found: Any, wanted: np.ndarray, near: float = 1e-5) -> None:
    """Checks that nothing differs by more than `near` of the largest value."""
    np.testing.assert_allclose(found, wanted, rtol=0, atol=near * np.abs(wanted).max())


def count(network: Any, *inputs: Any) -> int:
    """Returns the number of a network's parameters, of which none is made."""
    shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))
