"""How well a trained tokenizer gives back images that it was not trained on, and how much of its codebook they use.

    python -m experiments.vqvae_mnist --workdir runs/vqvae_mnist
    python benchmarks/reconstructions.py runs/vqvae_mnist
    python benchmarks/reconstructions.py runs/vqgan_cifar10 --step 1200 --name vqgan_cifar10_before --mobilenet FOLDER

Of the test split of the run's own source: the mean over images of the PSNR in dB, its standard error, the number of
codes that any image uses, and their perplexity; with --mobilenet also the FD-MobileNet of the reconstructions to the
images themselves. Writes benchmarks/results/reconstructions_NAME.json, and a picture of images beside what became of
them.
"""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.capabilities import Tokenizing
from imagegen_jax.core.drawing.grid import grid, magnified, write_png
from imagegen_jax.core.model import Nets
from imagegen_jax.data import to_float
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.sets import ArraySet


def measured(run: ig.Run, images: np.ndarray, batch: int = 500) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the scores of uint8 images [n h w c], and their reconstructions, likewise."""
    model = run.experiment.model

    def one(nets: Nets, rows: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        x = to_float(rows)
        codes = model.encode(nets, x)
        y = model.decode(nets, codes)
        return codes, jnp.mean((y - x) ** 2, axis=(1, 2, 3)), to_uint8(y)

    compiled = compiling.jit(one)
    codes, errors, decoded = [], [], []
    for start in range(0, len(images), batch):
        index = np.arange(start, start + batch) % len(images)  # the last batch is filled up, and cut again
        found = [np.asarray(part)[: len(images) - start] for part in compiled(run.nets, images[index])]
        codes.append(found[0].reshape(-1))
        errors.append(found[1])
        decoded.append(found[2])
    psnr = 10 * np.log10(4 / np.concatenate(errors))
    shares = np.bincount(np.concatenate(codes), minlength=model.codebook_size) / sum(map(len, codes))
    entropy = -np.sum(shares[shares > 0] * np.log(shares[shares > 0]))
    scores = {
        "images": len(images),
        "psnr_db": round(float(psnr.mean()), 2),
        "standard_error_db": round(float(psnr.std(ddof=1) / len(psnr) ** 0.5), 3),
        "codes_used": int((shares > 0).sum()),
        "codebook_size": model.codebook_size,
        "perplexity": round(float(np.exp(entropy)), 1),
    }
    return scores, np.concatenate(decoded)


def distance(images: np.ndarray, decoded: np.ndarray, folder: str) -> float:
    """FD-MobileNet of reconstructions to their images, both uint8 [n h w c]."""
    sets = ArraySet("reconstructions", decoded, keep=False), ArraySet("images", images, keep=False)
    (card,) = evaluate(*sets, mobilenet(folder, "clean"), ["fid"], quiet=True)
    return float(card.value)


def main() -> None:
    """Loads a run, measures, writes and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run's folder")
    parser.add_argument("--split", default="test", help="the split of the run's own source")
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("--name", help="of the result (default: the experiment's)")
    parser.add_argument("--mobilenet", help="folder of MobileNet's weights")
    options = parser.parse_args()
    run = ig.load(options.run, step=options.step)
    if not isinstance(run.experiment.model, Tokenizing):
        parser.error(f"{options.run} is a run of {type(run.experiment.model).__name__}, which makes no codes")
    images = dataclasses.replace(run.experiment.data, split=options.split).open().images
    scores, decoded = measured(run, images)
    if options.mobilenet:
        scores["fd_mobilenet"] = round(distance(images, decoded, options.mobilenet), 2)
    name = options.name or run.experiment.name
    pairs = np.stack([images[:40], decoded[:40]], axis=1).reshape(-1, *images.shape[1:])
    write_png(RESULTS / f"{name}.png", magnified(grid(pairs, 16), pairs.shape[1]))
    write_result(f"reconstructions_{name}", {"steps": run.step, "split": options.split, **scores})


if __name__ == "__main__":
    main()
