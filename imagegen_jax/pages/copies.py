"""The page of samples beside the training images nearest to them, for a run's report: what may be copies first."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imagegen_jax.core.drawing.grid import magnified
from imagegen_jax.core.provenance.origin import Origin, origin_of
from imagegen_jax.core.reporting.log import write_json
from imagegen_jax.core.run import Run
from imagegen_jax.metrics.copies import ranked_copies
from imagegen_jax.metrics.sets import SampleSet, source_set
from imagegen_jax.pages.markup import text
from imagegen_jax.pages.play.pictures import url_of

SHOWN = 24  # samples on the page, the most suspicious
FILE = "copies.json"


def look_for_copies(run: Run, n: int, seed: int = 0, classes: tuple[int, ...] = ()) -> pathlib.Path:
    """Draws `n` samples of a run, ranks them by their nearest training images, and keeps the first for its report.

    They are of `classes`, or of all. Returns the file, copies.json in the run's folder. Raises ValueError for runs that
    draw no images, or were trained on none, and where the data are not at hand.
    """
    training = source_set(run.experiment.data)
    images = SampleSet(run, n, seed, classes=classes)
    if images.image_shape != training.image_shape:
        raise ValueError(
            f"{run.workdir} draws images of {images.image_shape}, but its data are of {training.image_shape} (height, "
            "width, channels): they cannot be compared pixel by pixel"
        )
    drawn = images.images
    found = ranked_copies(drawn, np.asarray(training.images))
    nearer = int((found.ratios < 1).sum())
    said = origin_of(run.workdir, run.experiment.name, run.step, seed, command="imagegen report", edited=True)
    pairs = [
        {
            "sample": int(row), "training": int(near), "distance": round(float(distance), 5),
            "ratio": round(float(ratio), 4), "picture": _picture(drawn[row], training.images[near], said),
        }
        for row, near, distance, ratio in list(zip(*found, strict=True))[:SHOWN]
    ]  # fmt: skip
    path = run.workdir / FILE
    write_json(
        path,
        {"step": run.step, "samples": n, "seed": seed, "training": len(training), "nearer": nearer, "pairs": pairs},
    )
    return path


def _picture(sample: np.ndarray, near: np.ndarray, said: Origin) -> str:
    """Returns both images side by side, as a data URL."""
    return url_of(magnified(np.concatenate([sample, near], axis=1), sample.shape[0]), said)


def copies_of(found: Mapping[str, Any]) -> str:
    """Makes the section of a report; nothing where nobody has looked."""
    if not found:
        return ""
    pairs: Sequence[Mapping[str, Any]] = found["pairs"]
    figures = "".join(
        f'<figure class="pixels"><img src="{text(pair["picture"])}" alt="sample {pair["sample"]} and training image '
        f'{pair["training"]}"><figcaption>{pair["ratio"]:.2f} ({pair["distance"]:.3f})<br>sample {pair["sample"]:,}, '
        f"image {pair['training']:,}</figcaption></figure>"
        for pair in pairs
    )
    return (
        '<section id="copies"><h2>Nearest training images</h2><p class="note">'
        f"{found['nearer']:,} of {found['samples']:,} samples of step {found['step']:,} are nearer, in pixels, to one "
        f"of {found['training']:,} training images than that is to any other one: a copy has 0.00, and fresh data have "
        "such samples too. Each sample is to the left of its nearest training image, with the ratio of these distances "
        "(and the root mean square difference of values from 0 to 1); the most suspicious come first.</p>"
        f'<div style="display:flex;flex-wrap:wrap;gap:1em">{figures}</div></section>'
    )
