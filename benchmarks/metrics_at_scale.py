"""Fréchet statistics of a whole data set with MobileNet, and precision to coverage of 50,000 features against 50,000.

    python benchmarks/metrics_at_scale.py --mobilenet FOLDER --data tfds:cifar10

The first part extracts the features of all images, as `imagegen evaluate` does, and their moments. At every eighth
batch the network alone is timed too, on the same images resized before: what all else adds is the overhead. The second
part scores random float32 features of Inception's width and reports how far the memory of the process rose.
"""

from __future__ import annotations

import argparse
import resource
import time
from typing import Any

import jax
import numpy as np
from machine import write_result

from imagegen_jax.core.arrays.image import to_float
from imagegen_jax.core.compile import jit
from imagegen_jax.data import parse_source
from imagegen_jax.metrics.extraction import BATCH
from imagegen_jax.metrics.features.extractor import Network, stream
from imagegen_jax.metrics.features.mobilenet import mobilenet
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.features.resize import resize
from imagegen_jax.metrics.scores.manifold import manifold_scores
from imagegen_jax.metrics.sets import source_set

EVERY = 8  # batches between two that the network alone is timed on


def statistics(network: Network, word: str, most: int | None) -> dict[str, Any]:
    """Seconds of reading, resizing, forward pass and moments together, and of the forward pass alone."""
    forward, weights = jit(network.forward), jax.device_put(network.weights)
    prepare = jit(lambda images: to_float(resize(images, network.size, network.resize)))

    def alone(images: np.ndarray) -> float:
        ready = jax.block_until_ready(prepare(images))
        start = time.perf_counter()
        jax.block_until_ready(forward(weights, ready))
        return time.perf_counter() - start

    images = source_set(parse_source(word), most)
    first = next(iter(images.batches(BATCH)))
    network(first), alone(first)  # which compiles
    paused, seconds, batches, features = 0.0, [], 0, []
    start = time.perf_counter()
    for batch in stream(network, images.batches(BATCH)):
        features.append(batch["features"])
        batches += 1
        if batches % EVERY == 0:
            at = (batches - 1) * BATCH
            pause = time.perf_counter()
            seconds.append(alone(images.images[at : at + BATCH]))
            paused += time.perf_counter() - pause
    extraction = time.perf_counter() - start - paused
    start = time.perf_counter()
    moments = Moments.of(np.concatenate(features))
    of_moments = time.perf_counter() - start
    forward_pass = float(np.mean(seconds)) * batches
    return {
        "images": images.name,
        "count": moments.count,
        "extractor": network.name,
        "batches": batches,
        "seconds": {"extraction": extraction, "moments": of_moments, "forward_alone": forward_pass},
        "overhead_over_forward": (extraction + of_moments) / forward_pass - 1,
    }


def manifold(samples: int, width: int) -> dict[str, Any]:
    """Seconds and memory of all four scores of `samples` against as many."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((samples, width), np.float32) for _ in range(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    scores = manifold_scores(x, 1.01 * y)
    return {
        "samples_a_side": samples,
        "width": width,
        "seconds": time.perf_counter() - start,
        "features_mib": (x.nbytes + y.nbytes) / 2**20,
        "memory_rise_mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10,
        "scores": scores._asdict(),
    }


def main() -> None:
    """Both parts; the second first, since the memory of a process never falls."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mobilenet", required=True, help="a folder with MobileNetV1's weights, or the .npz itself")
    parser.add_argument("--data", default="tfds:cifar10")
    parser.add_argument("--most", type=int, help="images at most (default: all)")
    parser.add_argument("--samples", type=int, default=50_000, help="of the second part, on each side")
    parser.add_argument("--width", type=int, default=2048)
    options = parser.parse_args()
    pairs = manifold(options.samples, options.width)
    found = statistics(mobilenet(options.mobilenet), options.data, options.most)
    write_result("metrics_at_scale", {"manifold": pairs, "statistics": found})


if __name__ == "__main__":
    main()
