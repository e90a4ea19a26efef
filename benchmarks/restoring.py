"""Test images that a trained diffusion model restores: holes filled, enlarged four times, coloured, redrawn.

    python benchmarks/restoring.py runs/ddpm_mnist --images 64

For each task a grid of eight rows (the test image, what is given of it, what the model makes of that) and the mean PSNR
and SSIM against the test image, with standard errors; beside them those of the plain answer: a grey hole, the means of
4x4 pixels as squares, grey. A model does not know which of all possible images was meant, so its sharp answers may
have less PSNR than blurred ones. Redrawing (SDEdit) is measured by how far it goes at each strength. Writes
benchmarks/results/restoring_NAME.json and .png.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core.model import Image, PRNGKey
from imagegen_jax.data import to_float
from imagegen_jax.data.grid import grid, write_png
from imagegen_jax.data.image import to_uint8
from imagegen_jax.diffusion import editing, inverse
from imagegen_jax.diffusion.denoiser import Denoise
from imagegen_jax.diffusion.solver import Path
from imagegen_jax.metrics.similarity import psnr, ssim

FACTOR = 4
STRENGTHS = (0.2, 0.4, 0.6)
SHOWN = 8  # images of each task in the picture
CHUNK = 32  # images at a time


class Task(NamedTuple):
    """The plain answer to what is left of images, and the model's, which sees nothing else of them."""

    plain: Callable[[Image], Image]
    restore: Callable[[Path, Denoise, Image, PRNGKey], Image]


def tasks(shape: tuple[int, int, int]) -> dict[str, Task]:
    """Those that images of this shape allow."""
    h, w, channels = shape
    known = np.ones((h, w, 1), bool)
    known[h // 4 : h - h // 4, w // 4 : w - w // 4] = False
    pooled, grey = inverse.pooled(FACTOR), inverse.grey(channels)

    def fill(path: Path, denoise: Denoise, x: Image, key: PRNGKey) -> Image:
        return editing.inpaint(editing.RePaint(), denoise, path.sigmas, jnp.where(known, x, 0), known, key)

    def by_pseudoinverse(operator: inverse.Linear) -> Task:
        def restore(path: Path, denoise: Denoise, x: Image, key: PRNGKey) -> Image:
            return path.draw(inverse.pigdm(denoise, operator.forward(x), operator), x.shape, key)

        return Task(lambda x: operator.inverse(operator.forward(x)), restore)

    def redraw(strength: float) -> Task:
        def restore(path: Path, denoise: Denoise, x: Image, key: PRNGKey) -> Image:
            return jnp.clip(editing.sdedit(path.solver, denoise, path.sigmas, x, strength, key), -1, 1)

        return Task(lambda x: x, restore)

    found = {"inpainting": Task(lambda x: jnp.where(known, x, 0), fill), "super-resolution": by_pseudoinverse(pooled)}
    if channels > 1:
        found["colourisation"] = by_pseudoinverse(grey)
    return found | {f"redrawn at {strength}": redraw(strength) for strength in STRENGTHS}


def answers(run: ig.Run, task: Task, images: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N H W C] -> the plain answers and the model's, uint8."""
    model = editing.denoising_model(run.experiment.model)

    @jax.jit
    def both(nets: Any, x: Image, label: jax.Array | None, key: PRNGKey) -> tuple[jax.Array, jax.Array]:
        denoise = model.denoiser(nets, {} if label is None else {"label": label})
        return to_uint8(task.plain(x)), to_uint8(task.restore(model.path, denoise, x, key))

    found = []
    for i, start in enumerate(range(0, len(images), CHUNK)):
        rows = slice(start, start + CHUNK)
        label = None if labels is None else jnp.asarray(labels[rows])
        found.append(both(run.nets, to_float(jnp.asarray(images[rows])), label, jax.random.key(i)))
    plain, made = (np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*found, strict=True))
    return plain, made


def closeness(images: np.ndarray, made: np.ndarray) -> dict[str, list[float]]:
    """Mean and standard error of PSNR in decibels and of SSIM."""
    scores = {"psnr": psnr(images, made, (0, 255)), "ssim": ssim(images, made, (0, 255))}
    return {
        name: [round(float(of.mean()), 3), round(float(of.std(ddof=1) / len(of) ** 0.5), 3)]
        for name, of in scores.items()
    }


def main() -> None:
    """Restores, measures and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="folder of a diffusion model's run, whose data have a test split")
    parser.add_argument("--images", type=int, default=64, help="test images (default: 64)")
    options = parser.parse_args()
    run = ig.load(options.run)
    data = dataclasses.replace(run.experiment.data, split="test").open()
    images = data.images[: options.images]
    labels = data.labels[: options.images] if run.experiment.num_classes else None
    result: dict[str, Any] = {"run": pathlib.Path(options.run).name, "images": len(images)}
    pictures = []
    for name, task in tasks(run.experiment.model.image_shape).items():
        plain, made = answers(run, task, images, labels)
        result[name] = {"model": closeness(images, made)}
        if name.startswith("redrawn"):
            pictures.append(made[:SHOWN])
        else:
            result[name]["plain"] = closeness(images, plain)
            pictures += [images[:SHOWN], plain[:SHOWN], made[:SHOWN]]
        print(name, result[name], flush=True)
    write_result(f"restoring_{run.experiment.name}", result)
    write_png(RESULTS / f"restoring_{run.experiment.name}.png", grid(np.concatenate(pictures), SHOWN))


if __name__ == "__main__":
    main()
