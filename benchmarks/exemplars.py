"""Style transfer and textures from single pictures: how near they come, what they copy, and how long they take.

    python benchmarks/exemplars.py --data DATA --pictures FOLDER
    python benchmarks/exemplars.py --data DATA --pictures FOLDER --parts texture --side 256

Styles: two photographs of scikit-learn, 256 pixels high and wide, with the style of other pictures, five pairs, by the
command's defaults. The Gram distance is measured in the layers that are optimised and in four that are not, before,
after, and between the halves of the style itself; SSIM to the content is of grey pictures. Textures: five exemplars,
each of 128 pixels, made to 128 or 256 by patches over scales and by quilting, by the Gram distance in five layers and
the share of 16x16 patches that the exemplar holds as they are. How many of five pass has Wilson's interval of 95 %,
means over five pictures have Student's. `--data` holds MobileNetV1's weights, EuroSAT's and the facades' zips. Pictures
are written as contact sheets. Writes benchmarks/results/style.json, texture.json and texture_256.json.
"""

from __future__ import annotations

import argparse
import io
import pathlib
import time
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from machine import write_result
from PIL import Image
from scipy import stats
from sklearn.datasets import load_sample_image

from imagegen_jax.core import compile as compiling
from imagegen_jax.core.arrays.image import to_float, to_uint8
from imagegen_jax.data.pictures.output import write_picture
from imagegen_jax.editing.exemplars.neighbours import Neighbours, grown
from imagegen_jax.editing.exemplars.quilting import Quilting, quilted
from imagegen_jax.editing.exemplars.style import LAYERS, OTHER_LAYERS, Transfer, transferred
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.scores.interval import proportion_interval
from imagegen_jax.metrics.scores.similarity import ssim
from imagegen_jax.metrics.scores.textures import distance_of_halves, gram_distance, verbatim_share

JUDGES = (0, 1, 3, 5, 8)
CELL = 256  # pixels of a picture in a contact sheet


def zipped(place: pathlib.Path, word: str, number: int) -> np.ndarray:
    """One picture of a zip: of those whose names hold a word, in order."""
    with zipfile.ZipFile(place) as file:
        names = sorted(name for name in file.namelist() if word in name and name.lower().endswith((".jpg", ".png")))
        return np.asarray(Image.open(io.BytesIO(file.read(names[number]))).convert("RGB"))


def exemplars_of(data: pathlib.Path) -> dict[str, np.ndarray]:
    """Five pictures that are more or less textures."""
    china, flower = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
    satellite = next((data / "eurosat_rgb64").glob("*.zip"))
    return {
        "foliage": china[299:427, 380:508],
        "petals": flower[150:278, 250:378],
        "houses": zipped(satellite, "Residential", 12),
        "fields": zipped(satellite, "PermanentCrop", 9),
        "facade": zipped(data / "facades" / "facades_128.zip", "train", 5)[:, :128],
    }


def squared(picture: np.ndarray, side: int = CELL) -> np.ndarray:
    """A picture resized to a square."""
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS))


def mean_of(values: list[float]) -> list[float]:
    """The mean and Student's interval of 95 %."""
    mean, half = float(np.mean(values)), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return [round(x, 3) for x in (mean, mean - half, mean + half)]


def summary(rows: dict[str, dict[str, float]], passes: Callable[[dict[str, float]], bool]) -> dict[str, Any]:
    """The rows, how many pass, and the mean of each column."""
    passed, n = sum(passes(row) for row in rows.values()), len(rows)
    names = next(iter(rows.values()))
    return {
        "rows": {name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()},
        "passed": [passed, n],
        "share passed [low, high]": [round(x, 2) for x in proportion_interval(passed / n, n)],
        "mean [low, high]": {key: mean_of([row[key] for row in rows.values()]) for key in names},
    }


def styles(data: pathlib.Path, weights: dict[str, jax.Array], pictures: pathlib.Path) -> None:
    """Five pictures with the style of others."""
    texture = exemplars_of(data)
    china, flower = (load_sample_image(f"{name}.jpg") for name in ("china", "flower"))
    temple, dahlia = squared(china[20:404, 40:424]), squared(flower[22:406, 122:506])
    pairs = {
        "temple, dahlia": (temple, dahlia),
        "temple, petals": (temple, texture["petals"]),
        "temple, houses": (temple, texture["houses"]),
        "dahlia, foliage": (dahlia, texture["foliage"]),
        "dahlia, facade": (dahlia, texture["facade"]),
    }
    rows, sheet = {}, []
    for name, (content, style) in pairs.items():
        begun, processor = time.monotonic(), time.process_time()
        steps = transferred(
            weights, *(to_float(jnp.asarray(x)) for x in (content, style)), Transfer(), jax.random.key(0)
        )
        for step in steps:
            image = step.image
        found = np.asarray(to_uint8(image))
        took = time.monotonic() - begun, time.process_time() - processor
        row: dict[str, float] = {"seconds": took[0], "processor seconds": took[1]}
        for layers, word in ((LAYERS, ""), (OTHER_LAYERS, ", other layers")):
            row |= {f"before{word}": gram_distance(weights, content, style, layers)}
            row |= {f"after{word}": gram_distance(weights, found, style, layers)}
            row |= {f"halves{word}": distance_of_halves(weights, style, layers)}
        grey = (np.asarray(Image.fromarray(x).convert("L"))[None, :, :, None] for x in (found, content))
        row["SSIM"] = float(ssim(*grey, (0, 255))[0])
        rows[name] = row
        sheet.append(np.concatenate([content, squared(style), found], axis=1))
        print(name, row, flush=True)
    write_picture(pictures / "style.webp", np.concatenate(sheet))

    def passes(row: dict[str, float]) -> bool:
        words = ("", ", other layers")
        return row["SSIM"] >= 0.4 and all(row[f"after{word}"] <= row[f"halves{word}"] for word in words)

    write_result("style", {"steps": Transfer().steps, **summary(rows, passes)})


def textures(data: pathlib.Path, weights: dict[str, jax.Array], pictures: pathlib.Path, side: int) -> None:
    """More of five pictures, in two ways."""
    ways = {
        "neighbours": lambda exemplar: grown(exemplar, (side, side), Neighbours(), 0),
        "quilting": lambda exemplar: quilted(exemplar, (side, side), Quilting(), 0),
    }
    found: dict[str, Any] = {}
    sheet = [np.concatenate([squared(x) for x in exemplars_of(data).values()], axis=1)]
    for way, make in ways.items():
        rows, line = {}, []
        for name, exemplar in exemplars_of(data).items():
            begun, processor = time.monotonic(), time.process_time()
            *_, image = make(exemplar)
            noise = np.random.default_rng(0).permutation(exemplar.reshape(-1, 3)).reshape(exemplar.shape)
            rows[name] = {
                "seconds": time.monotonic() - begun,
                "processor seconds": time.process_time() - processor,
                "gram": gram_distance(weights, image, exemplar, JUDGES),
                "halves": distance_of_halves(weights, exemplar, JUDGES),
                "shuffled pixels": gram_distance(weights, noise, exemplar, JUDGES),
                "verbatim": verbatim_share(image, exemplar),
            }
            line.append(squared(image))
            print(way, name, rows[name], flush=True)
        sheet.append(np.concatenate(line, axis=1))
        found[way] = summary(rows, lambda row: row["gram"] <= row["halves"] and row["verbatim"] <= 0.4)
    name = "texture" if side == 128 else f"texture_{side}"
    write_picture(pictures / f"{name}.webp", np.concatenate(sheet))
    write_result(name, {"side": side, **found})


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--pictures", type=pathlib.Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=("style", "texture"), default=["style", "texture"])
    parser.add_argument("--side", type=int, default=128, help="of textures")
    options = parser.parse_args()
    options.pictures.mkdir(parents=True, exist_ok=True)
    compiling.use_persistent_cache()
    network = mobilenet(options.data / "mobilenet_v1_1.0_224_tfjs")
    weights = {name: jnp.asarray(array) for name, array in network.weights.items()}
    if "style" in options.parts:
        styles(options.data, weights, options.pictures)
    if "texture" in options.parts:
        textures(options.data, weights, options.pictures, options.side)


if __name__ == "__main__":
    main()
