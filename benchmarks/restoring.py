"""Test images that a trained diffusion model restores: holes filled, enlarged four times, deblurred, coloured, redrawn.

    python benchmarks/restoring.py runs/ddpm_mnist --images 64

For each task a grid of eight rows (the test image, what is given of it, what the model makes of that) and the mean PSNR
and SSIM against the test image, with standard errors; beside them those of the plain answer: a grey hole, the means of
4x4 pixels as squares, the blurred image as it is, grey. What is given is rounded to 8 bits, as a file would be. A model
does not know which of all possible images was meant, so its sharp answers may have less PSNR than blurred ones.
Redrawing (SDEdit) is measured by how far it goes at each strength. Writes benchmarks/results/restoring_NAME.json and
.png.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_uint8
from imagegen_jax.core.drawing.grid import grid, write_png
from imagegen_jax.core.model import Image
from imagegen_jax.data import to_float
from imagegen_jax.editing import denoiser as editing
from imagegen_jax.editing import inverse_problems as inverse
from imagegen_jax.editing import restoration
from imagegen_jax.metrics.scores.similarity import psnr, ssim

FACTOR = 4
SIGMA = 1.5  # pixels, of the blur
STRENGTHS = (0.2, 0.4, 0.6)
SHOWN = 8  # images of each task in the picture
CHUNK = 32  # images at a time


class Task(NamedTuple):
    """What is left of images, the plain answer to that, and the model's: `edit` given the one with `more` arrays."""

    left: Callable[[Image], Image]
    plain: Callable[[Image], Image]
    edit: restoration.Edit
    settings: dict[str, Any]
    more: dict[str, Any]


def tasks(shape: tuple[int, int, int]) -> dict[str, Task]:
    """Those that images of this shape allow."""
    h, w, channels = shape
    known = np.ones((h, w, 1), bool)
    known[h // 4 : h - h // 4, w // 4 : w - w // 4] = False
    hole, pooled, grey = inverse.masked(known), inverse.pooled(FACTOR), inverse.grey(channels)
    kernel = inverse.gaussian(SIGMA, (min(h, w) - 1) // 2 * 2 + 1).astype(np.float32)
    pigdm, noise = {"method": "pigdm"}, {"noise": np.float32(restoration.NOISE["pigdm"])}

    def same(x: Image) -> Image:
        return x

    found = {
        "inpainting": Task(hole.forward, same, restoration.inpainted, {"solver": editing.RePaint()}, {"known": known}),
        "super-resolution": Task(
            pooled.forward, pooled.inverse, restoration.enlarged, {"factor": FACTOR, **pigdm}, noise
        ),
        "deblurring": Task(
            inverse.blurred(kernel).forward, same, restoration.deblurred, pigdm, {"kernel": kernel, **noise}
        ),
    }
    if channels > 1:
        found["colourisation"] = Task(grey.forward, grey.inverse, restoration.coloured, pigdm, noise)
    redrawn = {f"redrawn at {s}": Task(same, same, restoration.redrawn, {"strength": s}, {}) for s in STRENGTHS}
    return found | redrawn


def answers(run: ig.Run, task: Task, images: np.ndarray, labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [N H W C] -> the plain answers and the model's to what is left of them at 8 bits, uint8."""
    program = restoration.program(task.edit, editing.denoising_model(run.experiment.model), **task.settings)
    look = compiling.jit(lambda x: to_float(to_uint8(task.left(to_float(x)))))
    found = []
    for i, start in enumerate(range(0, len(images), CHUNK)):
        rows = slice(start, start + CHUNK)
        left = look(images[rows])
        conditions = {} if labels is None else {"label": labels[rows]}
        made = program(run.nets, {"image": left, "conditions": conditions, **task.more}, jax.random.key(i))
        found.append((to_uint8(task.plain(left)), to_uint8(made)))
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
    parser.add_argument("--images", type=int, default=64, help="test images, drawn by seed 0 (default: 64)")
    options = parser.parse_args()
    run = ig.load(options.run)
    data = dataclasses.replace(run.experiment.data, split="test").open()
    drawn = data.batch(0, min(options.images, len(data)))  # by seed 0: the first rows may be of one class
    images, labels = drawn["image"], drawn["label"] if run.experiment.num_classes else None
    result: dict[str, Any] = {"run": pathlib.Path(options.run).name, "images": len(images), "rows": "drawn by seed 0"}
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
