"""How well the mark of `imagegen watermark` is found, and how often where there is none, with Wilson's intervals.

    python benchmarks/watermark.py facades=facades_128.zip@0:128 cifar10=cifar10/test.npz --clean 10000

Each SET is NAME=PLACE, a folder or .zip of images of one size or an .npz; "@0:128" takes these columns of each image.
Marked images are looked at as they are and after what pictures go through; those without a mark likewise, by the
threshold of the package, so that every count of theirs is a false positive.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from machine import write_result
from PIL import Image

from imagegen_jax.data.pictures.watermark import THRESHOLD, add_mark, find_mark
from imagegen_jax.metrics.scores.interval import proportion_interval


def jpeg(quality: int) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """Returns what a JPEG of a quality leaves of an image."""

    def attack(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file).convert("RGB"))

    return attack


def cropped(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Cuts three quarters of each side out of an image, anywhere."""
    height, width = (side * 3 // 4 for side in image.shape[:2])
    y, x = random.integers(image.shape[0] - height + 1), random.integers(image.shape[1] - width + 1)
    return image[y : y + height, x : x + width]


def halved(image: np.ndarray, _: np.random.Generator) -> np.ndarray:
    """Makes an image half as large, and as large as before."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // 2, height // 2), Image.Resampling.BICUBIC)
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


ATTACKS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "none": lambda image, _: image,
    "JPEG 75": jpeg(75),
    "crop to 3/4": cropped,
    "half size and back": halved,
    "mirrored": lambda image, _: image[:, ::-1],
    "upside down": lambda image, _: image[::-1],
    "crop to 3/4, mirrored, JPEG 75": lambda image, random: jpeg(75)(
        np.ascontiguousarray(cropped(image, random)[:, ::-1]), random
    ),
}


def main() -> None:
    """Marks, attacks, looks and counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--n", type=int, default=600, help="images of each set that are marked and attacked, at most")
    parser.add_argument("--clean", type=int, default=10_000, help="of each set that are looked at unmarked, at most")
    options = parser.parse_args()
    rows = []
    for word in options.sets:
        name, _, place = word.partition("=")
        rows += measured(name, images_of(place, max(options.n, options.clean)), options.n)
    write_result("watermark", {"threshold": THRESHOLD, "rows": rows})


def measured(name: str, images: list[np.ndarray], n: int) -> list[dict[str, Any]]:
    """Returns the rows of one set: the share of images in which the mark is found."""
    few, random = images[:n], np.random.default_rng(0)
    marked = [add_mark(image) for image in few]
    errors = np.array([((a.astype(float) - b) ** 2).mean() for a, b in zip(few, marked, strict=True)])
    psnr = 10 * np.log10(255**2 / errors)
    size = "x".join(map(str, images[0].shape[:2]))
    shared = {"set": name, "size": size}
    rows = [{**shared, "what": "PSNR", "mean": round(float(psnr.mean()), 3), "least": round(float(psnr.min()), 3)}]
    for attack, change in ATTACKS.items():
        for what, given in (("marked", marked), ("clean", images if attack == "none" else few)):
            rows.append({**shared, "what": what, "after": attack, **counted([change(x, random) for x in given])})
            print(rows[-1], flush=True)
    return rows


def counted(images: list[np.ndarray]) -> dict[str, Any]:
    """Returns in which share of images the mark is found, with its interval."""
    scores = np.array([find_mark(image).score for image in images])
    share = proportion_interval(float((scores > THRESHOLD).mean()), len(scores))
    quantiles = dict(zip(("1 %", "50 %", "99 %", "99.9 %"), np.quantile(scores, (0.01, 0.5, 0.99, 0.999)), strict=True))
    return {
        "n": len(scores), "found": round(share.value, 5), "low": round(share.low, 5), "high": round(share.high, 5),
        "scores": {name: round(float(value), 2) for name, value in quantiles.items()},
    }  # fmt: skip


def images_of(word: str, n: int) -> list[np.ndarray]:
    """Reads RGB images of a .zip or an .npz in a random order, at most `n`, those of one size."""
    place, _, columns = word.partition("@")
    cut = slice(*(int(end) for end in columns.split(":"))) if columns else slice(None)
    random = np.random.default_rng(0)
    if place.endswith(".npz"):
        with np.load(place) as arrays:
            images = arrays[arrays.files[0]]
        return [image[:, cut] for image in images[random.permutation(len(images))[:n]]]
    with zipfile.ZipFile(place) as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith((".jpg", ".jpeg", ".png")))
        random.shuffle(names)
        return [np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))[:, cut] for name in names[:n]]


if __name__ == "__main__":
    main()
