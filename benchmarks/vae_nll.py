"""The likelihood that a trained VAE gives to its test split, by importance sampling.

    python -m experiments.vae_mnist --workdir runs/vae_mnist
    python benchmarks/vae_nll.py runs/vae_mnist

Each image is observed once, with noise from a key of its own (for MNIST: binarised), and its -log p(x) is estimated
from `--samples` draws of the posterior (Burda et al. 2016, arXiv 1509.00519); the mean is an upper bound in
expectation. The standard error is that of the mean over images.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from machine import write_result

import imagegen_jax as ig
from imagegen_jax.autoencoders.vae import VAE
from imagegen_jax.autoencoders.vdvae import VDVAE
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.bits_per_dim import bits_per_dim
from imagegen_jax.core.model import Nets
from imagegen_jax.data import to_float


def estimates(model: VAE | VDVAE, nets: Nets, images: np.ndarray, samples: int, batch: int) -> Iterator[np.ndarray]:
    """For each batch of uint8 images [n h w c]: -log p(x), -ELBO and KL in nats, [n 3]; independent of `batch`."""

    def measure(nets: Nets, rows: jax.Array, index: jax.Array) -> jax.Array:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), index)
        elbo = model.elbo(nets, to_float(rows), keys)
        nll = model.nll(nets, to_float(rows), keys, samples)
        return jnp.stack([nll, elbo.reconstruction + elbo.kl, elbo.kl], axis=1)

    compiled = compiling.jit(measure)
    for start in range(0, len(images), batch):
        index = np.arange(start, start + batch) % len(images)  # the last batch is filled up, and cut again
        yield np.asarray(compiled(nets, images[index], index))[: len(images) - start]


def main() -> None:
    """Loads a run, measures, and writes what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--samples", type=int, default=200, help="importance samples for each image")
    parser.add_argument("--batch", type=int, default=500, help="images at a time")
    parser.add_argument("--split", default="test", help="the split of the run's own source")
    options = parser.parse_args()
    run = ig.load(options.run)
    if not isinstance(run.experiment.model, (VAE, VDVAE)):
        parser.error(f"{options.run} is a run of {type(run.experiment.model).__name__}, not of a VAE")
    source = dataclasses.replace(run.experiment.data, split=options.split)
    images = source.open().images
    start = time.perf_counter()
    found = np.concatenate(
        list(estimates(run.experiment.model, run.nets, images, options.samples, min(options.batch, len(images))))
    )
    nll, bound, kl = found.astype(np.float64).mean(0)
    result = {
        "experiment": run.experiment.name,
        "steps": run.step,
        "source": str(source),
        "images": len(images),
        "importance_samples": options.samples,
        "nll_nats": nll,
        "nll_standard_error_nats": found[:, 0].std(ddof=1) / math.sqrt(len(images)),
        "nll_bits_per_dim": bits_per_dim(nll, run.experiment.model.image_shape),
        "negative_elbo_nats": bound,
        "negative_elbo_bits_per_dim": bits_per_dim(bound, run.experiment.model.image_shape),
        "kl_nats": kl,
        "seconds": time.perf_counter() - start,
    }
    split = "" if options.split == "test" else f"_{options.split}"
    write_result(f"nll_{run.experiment.name}{split}", {key: _plain(value) for key, value in result.items()})


def _plain(value: object) -> object:
    """NumPy's numbers as Python's, which JSON can hold."""
    return round(float(value), 4) if isinstance(value, (float, np.floating)) else value


if __name__ == "__main__":
    main()
