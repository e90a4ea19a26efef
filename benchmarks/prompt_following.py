"""Whether images are what their prompts ask for: `data.judged` reads colour, shape, size and place out of the pixels.

python benchmarks/prompt_following.py runs/shapes_text

For each guidance scale, images are drawn by captions of both splits of `data.Shapes`: of combinations of colour and
shape that training has shown, and of those that it never did. Intervals are Wilson's, of 95 %.
"""

from __future__ import annotations

import argparse
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from machine import RESULTS, write_result

import imagegen_jax as ig
from imagegen_jax.core.provenance.origin import origin_of
from imagegen_jax.core.run import Run
from imagegen_jax.data import Shapes, judged
from imagegen_jax.data.formats.shapes import CAPTIONS
from imagegen_jax.data.pictures.captions import by_prompt
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.metrics.scores.interval import proportion_interval

CHUNK = 64  # one program for all
SHOWN = (
    "a small red triangle on the left",
    "at the top there is a large circle in yellow",
    "cross, big and purple, in the middle",
    "an orange square at the bottom",
    "a small green cross",
    "a large red circle on the right",  # held out, as the next two
    "a small blue triangle at the top",
    "a green square in the middle",
)


def main() -> None:
    """Draws by prompts, judges and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--n", type=int, default=250, help="prompts of each split, for each scale")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 3.0, 7.0])
    parser.add_argument("--step", type=int, help="of the checkpoint (default: the newest)")
    parser.add_argument("--name", default="prompt_following", help="of the result and of the picture")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS, help="the folder of both")
    options = parser.parse_args()
    run = ig.load(options.run, step=options.step)
    rows = [
        {"prompts": split, "guidance": scale, **followed(run, split, scale, options.n)}
        for scale in options.guidance
        for split in ("train", "held_out")
    ]
    prompts = [prompt for prompt in SHOWN for _ in range(8)]
    picture = by_prompt(run.sample(prompts=prompts, guidance=3.0, chunk=CHUNK), prompts, 8)
    result = {"run": run.experiment.name, "step": run.step, "rows": rows}
    write_result(options.name, result, options.out)
    origin = origin_of(run.workdir, run.experiment.name, run.step, prompts=prompts)
    write_picture(options.out / f"{options.name}.png", picture, origin)
    for row in rows:
        print(in_words(row))


def followed(run: Run, split: str, guidance: float, n: int) -> dict[str, Any]:
    """Returns which share of `n` images has what their prompts name: all of it, and each property."""
    source = Shapes(n, split, seed=1)
    prompts = [source.caption(i, i % len(CAPTIONS)) for i in range(n)]
    start = time.process_time()
    images = run.sample(prompts=prompts, guidance=guidance, seed=1, chunk=CHUNK)
    seconds = time.process_time() - start
    wrong = [judgement.wrong for judgement in judged(images, prompts)]
    found = {"right": share([not of_image for of_image in wrong])}
    found["right but for size"] = share([not set(of_image) - {"size"} for of_image in wrong])
    found |= {
        name: share([name not in of_image for of_image in wrong]) for name in ("colour", "shape", "size", "place")
    }
    return {"images": n, **found, "cpu_seconds": round(seconds, 1)}


def in_words(row: dict[str, Any]) -> str:
    """Returns a row as a sentence."""
    share_right, low, high = row["right"]
    kind = "combinations that training showed" if row["prompts"] == "train" else "combinations that it never did"
    return (
        f"{share_right:.0f} % of {row['images']} images by prompts of {kind} have all that these ask for, at guidance "
        f"{row['guidance']:g} (95 % interval: {low:.0f} to {high:.0f} %)"
    )


def share(right: Sequence[bool]) -> list[float]:
    """Returns a share in percent, and the ends of its interval."""
    value = float(np.mean(right))
    return [round(100 * number, 1) for number in proportion_interval(value, len(right))]


if __name__ == "__main__":
    main()
