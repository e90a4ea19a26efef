"""Distances between images by the names that the command line uses; differentiable, for a search to descend."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jaxtyping import Array, Float

from imagegen_jax.core.model import Image, Nets
from imagegen_jax.metrics.features import lpips
from imagegen_jax.metrics.features.choose import EXTRACTORS, extractor_of
from imagegen_jax.metrics.features.classifier import Classifier, ClassifierFeatures
from imagegen_jax.metrics.features.extractor import Features, Network

DISTANCES = f"lpips:alex,TOWER_FILE,HEADS_FILE (or vgg), {EXTRACTORS}"
LARGEST = 256  # pixels of the images that LPIPS sees (Karras et al. 2020, arXiv 1912.04958, appendix D)

Distances = Float[Array, " n"]


def distance_of(word: str, image_shape: tuple[int, int, int], source: Any, quiet: bool = False) -> Partial:
    """Makes the distance that `word` names: (images, images) in [-1, 1] of `image_shape` -> float32 [N].

    It is LPIPS, or the mean squared difference between features of an extractor of `metrics.features.choose`; features
    that average over positions do not see where things are. The result binds its weights. `source` is the data that a
    classifier is trained on. Raises ValueError for another word and images that it cannot take, and as `extractor_of`
    and `lpips.load` do.
    """
    name, _, rest = word.partition(":")
    if name == "pixels":
        return Partial(_of_pixels)
    if name == "lpips":
        return _lpips(word, rest.split(","), image_shape)
    if name != "classifier" and image_shape[2] not in (1, 3):
        raise ValueError(f"distance {word!r} is of colour or grey images, and these have {image_shape[2]} channels")
    extractor = extractor_of(word, None, source, quiet)
    if isinstance(extractor, ClassifierFeatures):
        return Partial(functools.partial(_of_classifier, extractor.model), extractor.nets, extractor.scale)
    assert isinstance(extractor, Network)
    return Partial(functools.partial(_of_network, extractor.forward, extractor.size), extractor.weights)


def _lpips(word: str, parts: Any, image_shape: tuple[int, int, int]) -> Partial:
    if len(parts) != 3:
        raise ValueError(f"distance {word!r}: must be lpips:alex,TOWER_FILE,HEADS_FILE, or with vgg")
    loaded = lpips.load(*parts)
    smallest = lpips.SMALLEST[loaded.tower]
    if min(image_shape[:2]) < smallest or image_shape[2] not in (1, 3):
        raise ValueError(
            f"images of {image_shape}: LPIPS on {loaded.tower} is of {smallest} pixels or more, 1 or 3 channels"
        )
    return Partial(functools.partial(_of_lpips, loaded.tower), loaded.weights)


def _of_pixels(a: Image, b: Image) -> Distances:
    return jnp.mean((a - b) ** 2, axis=(1, 2, 3))


def _of_lpips(tower: str, weights: lpips.Weights, a: Image, b: Image) -> Distances:
    factor = max(1, min(a.shape[1:3]) // LARGEST)
    a, b = (_coloured(_reduced(x, factor)) for x in (a, b))
    return lpips.distance(tower, weights, a, b)


def _of_classifier(model: Classifier, nets: Nets, scale: float, a: Image, b: Image) -> Distances:
    of_a, of_b = (scale * model.apply(nets, x)["features"] for x in (a, b))
    return jnp.mean((of_a - of_b) ** 2, axis=1)


def _of_network(forward: Callable[[Any, Image], Features], size: int, weights: Any, a: Image, b: Image) -> Distances:
    of_a, of_b = (jnp.asarray(forward(weights, _resized(_coloured(x), size))["features"]) for x in (a, b))
    return jnp.mean((of_a - of_b) ** 2, axis=1)


def _coloured(x: Image) -> Image:
    return jnp.repeat(x, 3, axis=3) if x.shape[3] == 1 else x


def _reduced(x: Image, factor: int) -> Image:
    """Averages squares of `factor` x `factor` pixels, and crops the rest at the edge."""
    n, h, w, c = x.shape[0], x.shape[1] // factor, x.shape[2] // factor, x.shape[3]
    return x[:, : h * factor, : w * factor].reshape(n, h, factor, w, factor, c).mean(axis=(2, 4))


def _resized(x: Image, size: int) -> Image:
    """Resizes without the rounding of `metrics.features.resize`, which has no gradient."""
    return jax.image.resize(x, (x.shape[0], size, size, x.shape[3]), "cubic")
