"""Bits per dimension that a trained diffusion model gives to its test split, by the flow or by its variational bound.

    python -m experiments.edm_mnist --workdir runs/edm_mnist
    python benchmarks/flow_nll.py runs/edm_mnist --images 500
    python benchmarks/flow_nll.py runs/vdm_cifar10 --by bound

Either way the mean over images, which the standard error is of, bounds the bits of 8-bit images from above in
expectation. `--by flow`, for any model with a denoiser: the convention is that of `core.arrays.bits_per_dim`, uniform
noise of one level's width makes the images continuous. The density is that of the flow at `--sigma-min`: any of them is
a density, so each bounds those bits; the higher it is, the smoother is what the network has to know, and the fewer
details are left in it. `--by bound`, for models that were trained on one (`ImprovedDDPM`, `VDM`): all of its terms.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.bits_per_dim import dequantize, mean_and_standard_error
from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.model import Nets
from imagegen_jax.diffusion.likelihood import FlowLikelihood
from imagegen_jax.diffusion.models.improved_ddpm import ImprovedDDPM
from imagegen_jax.diffusion.models.vdm import VDM
from imagegen_jax.editing.denoiser import Denoising, denoising_model
from imagegen_jax.nn.backbones.denoising import forward_differentiable

Conditions = dict[str, jax.Array]
Measure = Callable[[Nets, jax.Array, Conditions, jax.Array], jax.Array]  # uint8 rows -> bits of each


def by_flow(model: Denoising, likelihood: FlowLikelihood) -> Measure:
    """By the density of the flow."""
    model = dataclasses.replace(model, network=forward_differentiable(model.network))

    def measure(nets: Nets, rows: jax.Array, conditions: Conditions, key: jax.Array) -> jax.Array:
        noise_key, probe_key = jax.random.split(key)
        x = dequantize(rows, jax.random.split(noise_key, len(rows)), (-1.0, 1.0))
        return likelihood.bits_per_dim(model.denoiser(nets, conditions), x, probe_key)

    return measure


def by_bound(model: ImprovedDDPM | VDM) -> Measure:
    """By the model's own bound."""

    def measure(nets: Nets, rows: jax.Array, conditions: Conditions, key: jax.Array) -> jax.Array:
        return model.bits(nets, {"image": to_float(rows), **conditions}, key)

    return measure


def measure_of(model: Any, options: argparse.Namespace) -> Measure:
    """What the options ask for. Raises ValueError for a model without a bound, or without a denoiser."""
    if options.by == "flow":
        likelihood = FlowLikelihood(options.sigma_min, relative=options.tolerance, absolute=options.tolerance)
        return by_flow(denoising_model(model), likelihood)
    if isinstance(model, ImprovedDDPM | VDM):
        return by_bound(model)
    raise ValueError(f"a {type(model).__name__} has no bound: use --by flow")


def bits(measure: Measure, nets: Nets, images: np.ndarray, labels: np.ndarray | None, batch: int) -> np.ndarray:
    """Bits per dimension of each uint8 image [n h w c], `batch` of them at a time."""
    compiled = compiling.jit(measure)
    found = []
    for start in range(0, len(images), batch):
        rows = np.arange(start, start + batch) % len(images)  # the last batch is filled up, and cut again
        conditions = {} if labels is None else {"label": jnp.asarray(labels[rows])}
        made = compiled(nets, images[rows], conditions, jax.random.key(start))
        found.append(np.asarray(made)[: len(images) - start])
        print(f"{min(start + batch, len(images))} of {len(images)}: {np.concatenate(found).mean():.4f}", flush=True)
    return np.concatenate(found)


def main() -> None:
    """Loads a run, measures, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--by", choices=("flow", "bound"), default="flow", help="how (default: flow)")
    parser.add_argument("--images", type=int, default=500, help="of the split, drawn by seed 0 (default: 500)")
    parser.add_argument("--sigma-min", type=float, default=0.01, help="noise in the flow's density (default: 0.01)")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of the solver (default: 1e-4)")
    parser.add_argument("--batch", type=int, default=50, help="images at a time")
    parser.add_argument("--split", default="test", help="the split of the run's own source")
    options = parser.parse_args()
    run = ig.load(options.run)
    source = dataclasses.replace(run.experiment.data, split=options.split)
    data = source.open()
    drawn = data.batch(0, min(options.images, len(data)))  # by seed 0: the first rows may be of one class
    images, labels = drawn["image"], drawn["label"] if run.experiment.num_classes else None
    measure = measure_of(run.experiment.model, options)
    start = time.perf_counter()
    found = bits(measure, run.nets, images, labels, min(options.batch, len(images)))
    mean, error = mean_and_standard_error(found)
    result: dict[str, Any] = {
        "experiment": run.experiment.name,
        "run": pathlib.Path(options.run).name,
        "steps": run.step,
        "source": str(source),
        "images": len(images),
        "rows": "drawn by seed 0",
        "by": options.by,
        **({"sigma_min": options.sigma_min, "tolerance": options.tolerance} if options.by == "flow" else {}),
        "bits_per_dim": round(mean, 4),
        "standard_error": round(error, 4),
        "given_the_class": labels is not None,
        "seconds": round(time.perf_counter() - start, 1),
    }
    write_result(f"nll_{options.by}_{run.experiment.name}", result)


if __name__ == "__main__":
    main()
