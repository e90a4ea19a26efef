"""Measures one set of images against another: extracts features once, then computes each metric's cards."""

from __future__ import annotations

import datetime
import functools
import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from imagegen_jax.core.config.given import check_seed
from imagegen_jax.core.platform.packages import version
from imagegen_jax.data.remedy import Remedy, SettingError
from imagegen_jax.metrics.card import Card
from imagegen_jax.metrics.catalog import METRICS, Offer, check_names, printed, refusal
from imagegen_jax.metrics.extraction import features_of
from imagegen_jax.metrics.features.classifier import ClassifierFeatures
from imagegen_jax.metrics.features.extractor import Extractor, Network, Pixels
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.losses import losses_of, no_losses
from imagegen_jax.metrics.measure import measured
from imagegen_jax.metrics.scores.of_pair import distance_to
from imagegen_jax.metrics.scores.pair import Pair, Score
from imagegen_jax.metrics.sets import ArraySet, ImageSet, ReconstructionSet, SampleSet


def evaluate(
    images: ImageSet,
    reference: ImageSet | Moments,
    extractor: Extractor,
    metrics: Sequence[str] = ("fid", "kid", "prdc"),
    seed: int = 0,
    quiet: bool = False,
    held_out: ImageSet | None = None,
) -> list[Card]:
    """Measures `images` against `reference`; returns the cards of `metrics`, named as in METRICS.

    `held_out` is data like the reference that was not trained on; tests of copying compare with it. Saved statistics
    as reference allow "fid" alone, and must be of the same extractor. A metric that fails does not stop the others: its
    cards say why (`Card.failed`), and their value is NaN. Raises ValueError for an unknown metric, and for one that the
    features or the sets do not allow, before anything is extracted.
    """
    check_seed(seed)
    check_metrics(metrics, images, reference, extractor, held_out)
    shared = _details(images, reference, extractor, seed)
    if isinstance(reference, Moments):
        rows = features_of(images, extractor, quiet)["features"]
        found = measured(printed(["fid"], extractor.name), lambda: [distance_to(reference, rows, extractor.name, seed)])
        return [_card(score, shared) for score in found]
    pair = _pair(images, reference, extractor, metrics, seed, quiet, held_out)
    return [card for name in metrics for card in _cards(name, pair, images, reference, extractor, held_out, shared)]


def _cards(
    name: str,
    pair: Pair,
    images: ImageSet,
    reference: ImageSet,
    extractor: Extractor,
    held_out: ImageSet | None,
    shared: Mapping[str, Any],
) -> list[Card]:
    """Computes the cards of one metric; where it fails, they say why."""
    metric, details = METRICS[name], dict(shared)
    if metric.of_pixels:
        details |= {"extractor": "none: the pixels", "weights": "", "resize": "none"}
    if metric.wants_held_out and held_out is not None:
        details["held_out"] = held_out.name
    cards = []
    for score in measured(printed([name], extractor.name), functools.partial(metric.compute, pair)):
        of: dict[str, Any] = {
            "samples": score.samples or len(images),
            "references": score.references or len(reference),
        }
        if score.of_held_out and held_out is not None:
            of |= {"samples": len(held_out), "images": held_out.name}
        cards.append(_card(score, details | of))
    return cards


def applicable(
    images: ImageSet, reference: ImageSet | Moments, extractor: Extractor, held_out: ImageSet | None = None
) -> tuple[list[str], dict[str, str]]:
    """Returns the names of all metrics that these sets and this extractor allow, and the reason against each other one.

    An extractor that does not say which features it gives, such as a function, is taken to give "features" alone.
    """
    if isinstance(reference, Moments):
        return ["fid"], {name: "saved statistics hold mean and covariance alone" for name in METRICS if name != "fid"}
    offer = _offer(images, reference, extractor, held_out)
    offer = offer._replace(gives=offer.gives or ("features",))
    reasons = {name: reason for name in METRICS if (reason := refusal(name, offer))}
    long = "it trains classifiers or computes losses, which takes minutes: ask for it by its name"
    reasons |= {name: reasons.get(name, long) for name, metric in METRICS.items() if metric.trains}
    return [name for name in METRICS if name not in reasons], reasons


def check_metrics(
    metrics: Sequence[str],
    images: ImageSet,
    reference: ImageSet | Moments,
    extractor: Extractor | None,
    held_out: ImageSet | None = None,
) -> None:
    """Raises ValueError where these metrics cannot be computed from these sets.

    `extractor` None is one that is yet to be made: its features are not checked.
    """
    check_names(metrics)
    if isinstance(reference, Moments):
        _check_statistics(metrics, images, reference, extractor)
        return
    offer = _offer(images, reference, extractor, held_out)
    for name in metrics:
        if reason := refusal(name, offer):
            raise ValueError(f"{name}: {reason}")
    if held_out is not None and held_out.fingerprint == reference.fingerprint:
        raise ValueError(f"the held-out data are the reference, {reference.name}: give data that was not trained on")
    if extractor is not None and any(not METRICS[name].of_pixels for name in metrics):
        sets = [images, reference, *([held_out] if held_out is not None else [])]
        check_shapes(sets, reference.image_shape, extractor)


def _check_statistics(
    metrics: Sequence[str], images: ImageSet, reference: Moments, extractor: Extractor | None
) -> None:
    if set(metrics) != {"fid"}:
        raise ValueError(f"saved statistics hold mean and covariance alone: ask for fid, not {', '.join(metrics)}")
    if len(images) < 2:
        raise ValueError(f"fid: {len(images)} samples: it needs at least 2")
    if extractor is None:
        return
    if reference.fingerprint not in (None, extractor.fingerprint):
        raise ValueError(
            f"the saved statistics are of features {reference.fingerprint}, these are of {extractor.fingerprint} "
            f"({extractor.name}, resize {extractor.resize}): another extractor, weights or resize cannot be compared"
        )
    check_shapes([images], images.image_shape, extractor)
    width = _width(extractor, images.image_shape)
    if width not in (None, len(reference.mean)):
        raise ValueError(
            f"the saved statistics are of {len(reference.mean)} features, but {extractor.name} gives {width}: compare "
            "with the extractor that they were computed with"
        )


def _width(extractor: Extractor, shape: tuple[int, int, int]) -> int | None:
    """Returns how many features an extractor gives for images of this shape, without running it; None: not known."""
    if isinstance(extractor, Network):
        side = (extractor.size, extractor.size) if extractor.resize != "none" else shape[:2]
        image = jax.ShapeDtypeStruct((1, *side, 3), np.float32)
        return int(jax.eval_shape(extractor.forward, extractor.weights, image)["features"].shape[-1])
    if isinstance(extractor, Pixels) and extractor.resize == "none":
        return math.prod(shape)
    return extractor.model.network.features if isinstance(extractor, ClassifierFeatures) else None


def check_shapes(sets: Sequence[ImageSet], wanted: tuple[int, int, int], extractor: Extractor | None) -> None:
    """Raises ValueError for images that the extractor does not take, or that it cannot compare with `wanted` ones.

    `extractor` None is a classifier that is yet to be trained on images of the shape `wanted`.
    """
    name = "FD-classifier" if extractor is None else extractor.name
    if isinstance(extractor, ClassifierFeatures):
        wanted = extractor.model.image_shape
    for images in sets:
        shape = images.image_shape
        if isinstance(extractor, Network) and shape[2] not in (1, 3):
            problem = f"{images.name}: images of {shape[2]} channels: {extractor.name} takes 1 (grey) or 3: "
            remedies = [Remedy("take pixels as extractor"), Remedy("have them converted with {}", {"channels": 3})]
            raise SettingError(None, problem, remedies)
        of_one_shape = extractor is None or isinstance(extractor, (ClassifierFeatures, Pixels))
        if of_one_shape and not _comparable(shape, wanted, extractor):
            raise _shape_error(sets, images, wanted, name)


def _shape_error(
    sets: Sequence[ImageSet], images: ImageSet, wanted: tuple[int, int, int], extractor: str
) -> SettingError:
    """Makes the error for images of another shape, with remedies.

    Drawn images stay as they are, so stored ones have to come to their shape; without drawn ones, all to `wanted`.
    """
    height, width, channels = next(
        (found.image_shape for found in sets if isinstance(found, SampleSet | ReconstructionSet)), wanted
    )
    settings = {"size": height} if images.image_shape[:2] != wanted[:2] else {}
    settings |= {"channels": channels} if images.image_shape[2] != wanted[2] else {}
    remedies = [Remedy("choose a network that resizes them, inception or random")]
    if height == width or "size" not in settings:  # sources cut out squares alone
        remedies.insert(0, Remedy("have all brought to one with {}", settings))
    problem = f"{images.name}: images of {images.image_shape}, but {extractor} compares with {wanted} "
    return SettingError(None, problem + "(height, width, channels): give images of one shape, or ", remedies)


def _comparable(shape: Sequence[int], wanted: Sequence[int], extractor: Extractor | None) -> bool:
    """Tells whether images of these shapes give features of one width: resized ones may differ in size."""
    resized = extractor is not None and extractor.resize != "none"
    return shape[2] == wanted[2] and (resized or tuple(shape) == tuple(wanted))


def _offer(images: ImageSet, reference: ImageSet, extractor: Extractor | None, held_out: ImageSet | None) -> Offer:
    return Offer(
        samples=len(images),
        references=len(reference),
        extractor=extractor.name if extractor else "it",
        gives=_gives(extractor),
        labels=images.labels,
        reference_labels=reference.labels,
        class_names=images.class_names,
        reference_names=reference.class_names,
        held_out=0 if held_out is None else len(held_out),
        held_out_labels=None if held_out is None else held_out.labels,
        held_out_shape=None if held_out is None else held_out.image_shape,
        shape=images.image_shape,
        reference_shape=reference.image_shape,
        no_losses=no_losses(images),
        paired=isinstance(images, ArraySet | ReconstructionSet) and isinstance(reference, ArraySet),
    )


def _gives(extractor: Extractor | None) -> tuple[str, ...] | None:
    """Returns the names of the features that an extractor gives; None where it does not say."""
    if isinstance(extractor, ClassifierFeatures):
        return "features", "logits"
    if isinstance(extractor, Pixels):
        return ("features",)
    return extractor.taps if isinstance(extractor, Network) else None


def _pair(
    images: ImageSet,
    reference: ImageSet,
    extractor: Extractor,
    metrics: Sequence[str],
    seed: int,
    quiet: bool,
    held_out: ImageSet | None,
) -> Pair:
    """Makes the pair that these metrics read, without what none of them reads."""
    chosen = [METRICS[name] for name in metrics]
    extracts = any(not metric.of_pixels for metric in chosen)
    compares = any(metric.wants_held_out and not metric.of_pixels for metric in chosen)
    # samples are drawn and reconstructions made for it
    reads_images = any(not {"images", "pixels"}.isdisjoint(metric.reads) for metric in chosen)
    return Pair(
        features=features_of(images, extractor, quiet) if extracts else {},
        reference=features_of(reference, extractor, quiet) if extracts else {},
        extractor=extractor,
        seed=seed,
        labels=images.labels,
        reference_labels=reference.labels,
        held_out=features_of(held_out, extractor, quiet) if held_out is not None and compares else None,
        images=images.images if isinstance(images, ArraySet | ReconstructionSet | SampleSet) and reads_images else None,
        reference_images=reference.images if isinstance(reference, ArraySet) else None,
        held_out_images=held_out.images if isinstance(held_out, ArraySet) else None,
        held_out_labels=None if held_out is None else held_out.labels,
        class_names=images.class_names,
        reference_names=reference.class_names,
        losses=losses_of(images, reference, held_out, seed) if any("losses" in m.reads for m in chosen) else None,
        quiet=quiet,
    )


def _details(images: ImageSet, reference: ImageSet | Moments, extractor: Extractor, seed: int) -> dict[str, Any]:
    """Returns what all cards of an evaluation share."""
    if isinstance(reference, Moments):
        name, count = f"saved statistics {reference.fingerprint or 'made elsewhere'}", reference.count
    else:
        name, count = reference.name, len(reference)
    return {
        "samples": len(images),
        "images": images.name,
        "references": count,
        "reference": name,
        "extractor": extractor.name,
        "weights": extractor.fingerprint[:16],
        "resize": extractor.resize,
        "seed": seed,
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("imagegen_jax", "jax", "numpy")},
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _card(score: Score, details: Mapping[str, Any]) -> Card:
    low, high = (score.interval.low, score.interval.high) if score.interval else (None, None)
    said = {**details, "interval": score.how, "note": score.note, "failed": score.failed, "scale": score.scale}
    return Card(metric=score.metric, value=score.value, low=low, high=high, **said)
