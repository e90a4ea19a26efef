"""Models of one data source beside two anchors: real images that were not trained on, and a mixture fitted to pixels.

    python benchmarks/leaderboard_mnist.py tfds:mnist runs/vae_mnist --samples 5000 --out evaluation_mnist
    python benchmarks/leaderboard_mnist.py tfds:mnist runs/dcgan_mnist --size 32 --samples 5000 --out evaluation_mnist
    python benchmarks/leaderboard_mnist.py digits runs/ddpm_digits --samples 297 --components 10 --dimensions 32 \
        --out evaluation_digits

Each is scored by the same number of images, against the images of the training split, with the features of a
classifier trained on these: no score can be compared with one of another source, size or number of images. A run scores
as in `imagegen evaluate RUN`. Prints a Markdown table; the cards replace those of the same metric, images, reference
and number in benchmarks/results/OUT.jsonl.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib

from machine import RESULTS
from pixel_mixture import COMPONENTS, DIMENSIONS, PixelMixture

import imagegen_jax as ig
from imagegen_jax.data import Source, parse_source
from imagegen_jax.metrics.card import append, leaderboard
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.classifier import trained_classifier
from imagegen_jax.metrics.sets import ArraySet, ImageSet, SampleSet, source_set

METRICS = ("fid", "kid", "prdc", "authpct")
COLUMNS = ("FD-classifier", "precision", "recall", "coverage", "AuthPct", "agreement")


def anchors(source: Source, n: int, components: int, dimensions: int) -> dict[str, ImageSet]:
    """`n` images of the test split, and `n` of a pixel mixture fitted to the source."""
    mixture = PixelMixture.fit(source.open().images, components, dimensions)
    name = f"pixel mixture of {source}, {components} components in {dimensions} dimensions"
    return {
        "test images": source_set(dataclasses.replace(source, split="test"), n),
        "pixel mixture": ArraySet(name, mixture.sample(n)),
    }


def main() -> None:
    """Evaluates the anchors and each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="digits or a TFDS name with the splits train and test")
    parser.add_argument("runs", nargs="*", help="folders of runs trained on it")
    parser.add_argument("--size", type=int, help="height and width, where the runs have another than the source")
    parser.add_argument("--samples", type=int, default=5000, help="images of each (default: 5,000)")
    parser.add_argument("--components", type=int, default=COMPONENTS, help="of the pixel mixture")
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS, help="of the pixel mixture")
    parser.add_argument("--out", help="the name of a file in benchmarks/results/, without .jsonl")
    options = parser.parse_args()
    channels = 1 if options.size else None  # as dcgan_mnist has it: the classifier in the cache is then that of the run
    source = parse_source(options.source, options.size, channels, "train")
    extractor, reference = trained_classifier(source), source_set(source)
    sets = anchors(source, options.samples, options.components, options.dimensions)
    sets |= {pathlib.Path(run).name: SampleSet(ig.load(run), options.samples) for run in options.runs}
    found = {}
    for name, images in sets.items():
        labelled = ("agreement",) if images.labels is not None else ()  # of samples, the classes asked for
        found[name] = evaluate(images, reference, extractor, METRICS + labelled)
    if options.out:
        append([card for cards in found.values() for card in cards], RESULTS / f"{options.out}.jsonl")
    print(leaderboard({name: [[c for c in cards if c.metric in COLUMNS]] for name, cards in found.items()}), end="")


if __name__ == "__main__":
    main()
