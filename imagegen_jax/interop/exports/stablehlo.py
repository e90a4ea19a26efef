"""A sampler as StableHLO: one file with its weights that JAX alone runs, on any of its platforms."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.arrays.space import space_of
from imagegen_jax.core.drawing.draw import check_conditions
from imagegen_jax.core.model import Generative, condition_rows, num_classes, optional_conditions
from imagegen_jax.core.run import Run

FILE, INPUTS = "sampler.stablehlo", "inputs.json"
NUMBERS = {"guidance", "truncation"}  # conditions that are one number
PLATFORMS = ("cpu", "cuda", "tpu")


def export_sampler(run: Run, folder: pathlib.Path, n: int) -> dict[str, Any]:
    """Writes a sampler of `n` images, and inputs.json, which says what it takes in turn; returns the latter.

    Raises ValueError for a model that draws nothing, or from more than a label: a text, another image.
    """
    model = run.experiment.model
    if not isinstance(model, Generative):
        raise ValueError(f"a {type(model).__name__} draws no images: --to safetensors writes its weights")
    if condition_rows(model):
        raise ValueError(
            f"each image of this {type(model).__name__} is made from {', '.join(condition_rows(model))}, which no "
            "sampler here is given: --to safetensors writes its weights"
        )
    nets, draws_images = jax.device_get(run.nets), space_of(model).draws_images

    def sample(seed: Any, conditions: Mapping[str, Any]) -> Any:
        key = jax.random.fold_in(jax.random.key(seed), 0)  # as the first chunk of `Run.sample`
        held = jax.tree.map(jnp.asarray, nets)  # arrays of NumPy cannot be looked up by codes that are traced
        x = model.sample(held, key, n, conditions)
        return to_uint8(x) if draws_images else x

    inputs = _inputs(run, n)
    shapes = {name: jax.ShapeDtypeStruct(*row) for name, row in inputs.items()}
    made = export.export(jax.jit(sample), platforms=PLATFORMS)(jax.ShapeDtypeStruct((), jnp.uint32), shapes)
    (folder / FILE).write_bytes(made.serialize())
    described = {name: {"shape": list(shape), "dtype": np.dtype(dtype).name} for name, (shape, dtype) in inputs.items()}
    found = {"seed": {"shape": [], "dtype": "uint32"}, "conditions": described, "platforms": list(PLATFORMS)}
    (folder / INPUTS).write_text(json.dumps(found, indent=1) + "\n")
    return found


def _inputs(run: Run, n: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Returns shape and type of each condition: labels, and numbers that the model was trained for."""
    model = run.experiment.model
    found: dict[str, tuple[tuple[int, ...], Any]] = {"label": ((n,), jnp.int32)} if num_classes(model) else {}
    for name in sorted(NUMBERS & set(optional_conditions(model))):
        example = {"label": np.zeros(n, np.int32)} if found else {}
        with contextlib.suppress(ValueError):  # guidance of a model that never dropped a label
            check_conditions(model, n, {**example, name: np.float32(1)})
            found[name] = ((), jnp.float32)
    return found
