"""The metrics by name: what each prints, what it needs of a pair of sets, and whether a pair has that.

Needs are checked before anything is extracted, on an `Offer`, which knows counts, labels and shapes. The metrics
themselves are computed from a `Pair`, which has the features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from imagegen_jax.metrics.membership import NO_RUN, membership
from imagegen_jax.metrics.scale import DISTANCE, ESTIMATE, LEAK, SHARE, Scale
from imagegen_jax.metrics.scores import of_pair as scores
from imagegen_jax.metrics.scores import shares as of_shares
from imagegen_jax.metrics.scores import usefulness
from imagegen_jax.metrics.scores.classes import Classes, listed, paired_classes
from imagegen_jax.metrics.scores.pair import Pair, Score
from imagegen_jax.metrics.scores.similarity import SMALLEST_MS_SSIM, WINDOW, ms_ssim, psnr, ssim

Shape = tuple[int, int, int]  # height, width, channels


class Offer(NamedTuple):
    """All that is known of a pair of sets before anything is extracted."""

    samples: int
    references: int
    extractor: str = "this extractor"  # its name
    gives: tuple[str, ...] | None = None  # the names of its features; None: it does not say
    labels: np.ndarray | None = None  # int [samples]
    reference_labels: np.ndarray | None = None  # int [references]
    class_names: tuple[str, ...] = ()  # of the samples' labels; () where they have no names
    reference_names: tuple[str, ...] = ()
    held_out: int = 0  # images that were not trained on
    held_out_labels: np.ndarray | None = None
    held_out_shape: Shape | None = None
    shape: Shape | None = None
    reference_shape: Shape | None = None
    no_losses: str | None = NO_RUN  # None: it has
    paired: bool = False  # whether both sides have stored images, to compare row by row


class Metric(NamedTuple):
    """A metric of the table."""

    names: tuple[str, ...]  # the scores that it always prints; "{}" stands for the extractor's name
    compute: Callable[[Pair], list[Score]]
    about: str  # half a line, for --help
    scales: tuple[Scale, ...]  # the direction and range of each name's score
    # "features", "logits", "spatial", "labels", "held_out", "images", "pixels", "losses"
    reads: tuple[str, ...] = ("features",)
    may_read: tuple[str, ...] = ()  # data that add a score where they are there
    least: int = 2  # samples on each side
    reason: Callable[[Offer], str | None] = lambda offer: None  # another reason why an offer does not suffice

    @property
    def trains(self) -> bool:
        """Tells whether it trains classifiers, or compiles losses: it has to be asked for by its name."""
        return "pixels" in self.reads or "losses" in self.reads

    @property
    def of_pixels(self) -> bool:
        """Tells whether it takes the images themselves, without an extractor: row by row ("images"), or all."""
        return not {"images", "pixels", "losses"}.isdisjoint(self.reads)

    @property
    def wants_held_out(self) -> bool:
        """Tells whether it uses held-out data."""
        return "held_out" in self.reads + self.may_read


def printed(metrics: Sequence[str], extractor_name: str) -> dict[str, Scale]:
    """Returns the names of the cards that these metrics always give, in order, each with its scale.

    Some metrics add more cards, of classes or held-out data, on the scale of their first.
    """
    found = [METRICS[metric] for metric in metrics]
    return {
        name.format(extractor_name): scale
        for metric in found
        for name, scale in zip(metric.names, metric.scales, strict=True)
    }


def check_names(metrics: Sequence[str]) -> None:
    """Raises ValueError for a name that is not in the table, and where no name is given."""
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ValueError(f"no metric {unknown[0]!r}: there are {', '.join(METRICS)}")
    if not metrics:
        raise ValueError(f"no metric is named: there are {', '.join(METRICS)}")


def refusal(metric: str, offer: Offer) -> str | None:
    """Says why this metric cannot be computed from an offer, with the remedy; None: it can be."""
    found = METRICS[metric]
    return _missing(found.reads, found.least, offer) or found.reason(offer)


# --- needs -----------------------------------------------------------------------------------------------------------


def _missing(reads: Sequence[str], least: int, offer: Offer) -> str | None:
    """Says why a metric that `reads` these fields of a pair, and `least` samples a side, cannot be computed.

    Returns None where it can be.

    The reason names the remedy.
    """
    if min(offer.samples, offer.references) < least:
        return f"{offer.samples} samples against {offer.references}: it needs at least {least} on each side"
    for kind, words, remedy in (
        ("logits", "logits", "use the classifier or inception"),
        ("spatial", "spatial features", "use inception with its tap 'spatial'"),
    ):
        if kind in reads and offer.gives is not None and not any(name.startswith(kind) for name in offer.gives):
            return f"{offer.extractor} gives no {words}: {remedy}"
    if "labels" in reads and (reason := _without_classes(offer)):
        return reason
    if "held_out" in reads and not offer.held_out:
        return (
            "there are no held-out data: name some with `imagegen evaluate --held-out` (in Python, `held_out` of "
            "`evaluate`); the test split of a data set is taken by itself where its split 'train' is the reference and "
            "the test split is not what is measured"
        )
    return _unpaired(offer) if "images" in reads else None


def _too_few(count: int, least: int) -> str | None:
    return f"{count} samples: it needs at least {least}" if count < least else None


def _unlabelled(offer: Offer) -> str | None:
    """Says which side has no labels, with the remedy; None: both have them."""
    if offer.labels is None:
        return "the samples have no labels: draw them from a class-conditional run, or give labelled images"
    if offer.reference_labels is None:
        return "the reference has no labels: compare with labelled images"
    return None


def _classes(offer: Offer) -> Classes | str:
    """Returns the classes that both sides have, or says why there are none to compare, with the remedy."""
    if reason := _unlabelled(offer):
        return reason
    assert offer.labels is not None and offer.reference_labels is not None
    found = paired_classes(offer.labels, offer.reference_labels, offer.class_names, offer.reference_names)
    if not found.names:
        return (
            f"no class of the samples ({listed(found.alone)}) is one of the reference's ({listed(found.unused)}): "
            "give both the same class names"
        )
    if found.numbered and found.alone:  # equal numbers alone do not show that the others are the same classes
        return f"class {found.alone[0]} has 0 references: give labels of the same classes on both sides"
    return found


def _without_shared(offer: Offer) -> str | None:
    found = _classes(offer)
    return found if isinstance(found, str) else None


def _without_classes(offer: Offer) -> str | None:
    """Says why there is no distance class by class; None: there is one."""
    found = _classes(offer)
    if isinstance(found, str):
        return found
    for place, name in enumerate(found.names):
        for side, labels in (("samples", found.samples), ("references", found.references)):
            if (count := int((labels == place).sum())) < 2:
                return f"class {name} has {count} {side}: a covariance needs at least 2 on each side"
    return None


def _untrainable(offer: Offer) -> str | None:
    """Says why no classifier could be trained on these sets and tested on held-out data; None: one could be."""
    found = _classes(offer)
    if isinstance(found, str):
        return found
    if len(found.names) < 2:
        return f"{len(found.names)} class on both sides: a classifier needs at least 2"
    if offer.held_out_labels is None:
        return "the held-out data have no labels to test by: name some that have, --held-out"
    if not offer.shape == offer.reference_shape == offer.held_out_shape:
        shapes = ", ".join(str(shape) for shape in (offer.shape, offer.reference_shape, offer.held_out_shape))
        return f"images of {shapes} (height, width, channels): one classifier takes images of one shape alone"
    return None


def _unpaired(offer: Offer, smallest: int = 1) -> str | None:
    """Says why images cannot be compared row by row, or have sides below `smallest`; None: they can be compared."""
    if not offer.paired:
        return "it compares two stored sets image by image, and a run's samples have no partners: give two sets"
    if offer.samples != offer.references or offer.shape != offer.reference_shape:
        return (
            f"it compares image by image, and these are {offer.samples} of {offer.shape} and {offer.references} of "
            f"{offer.reference_shape} (height, width, channels): give equally many of one shape"
        )
    if offer.shape and min(offer.shape[:2]) < smallest:
        return f"images of {offer.shape[0]} x {offer.shape[1]}: it needs {smallest} pixels or more on each side"
    return None


# --- the table -------------------------------------------------------------------------------------------------------

METRICS: dict[str, Metric] = {
    "fid": Metric(("{}",), scores.frechet, "Fréchet distance of the extractor's features", (DISTANCE,)),
    "sfid": Metric(
        ("s{}",), scores.spatial_frechet, "the same of spatial features (inception)", (DISTANCE,), ("spatial",)
    ),
    "fid_infinity": Metric(
        ("{} infinity",), scores.frechet_at_infinity, "FID at infinitely many samples, by a line", (ESTIMATE,), least=20
    ),
    "fid_per_class": Metric(
        ("{}, mean of classes",), scores.frechet_per_class, "FID of each class, and their mean (labels)", (DISTANCE,),
        ("features", "labels"),
    ),
    "kid": Metric(
        ("KID x 1000",), scores.kernel, "kernel distance by (x.y / d + 1)^3, unbiased", (ESTIMATE,), least=4
    ),
    "cmmd": Metric(
        ("MMD-Gaussian x 1000 ({})",), scores.gaussian_kernel, "CMMD's kernel distance, of this extractor's features",
        (DISTANCE,), least=4,
    ),
    "is": Metric(
        ("IS",), scores.inception, "Inception Score (logits)", (Scale("higher", 1.0),), ("logits",),
        reason=lambda offer: _too_few(offer.samples, scores.IS_SPLITS),
    ),
    "prdc": Metric(
        ("precision", "recall", "density", "coverage"), scores.manifold,
        f"precision, recall, density, coverage; neighbour {scores.NEIGHBOURS}",
        (SHARE, SHARE, Scale("higher"), SHARE), least=scores.NEIGHBOURS + 1,
    ),
    "modes": Metric(
        ("modes covered", "reverse KL"), scores.modes, "classes that samples fall in, and how evenly (logits)",
        (Scale("higher"), DISTANCE), ("logits",),
    ),
    "shares": Metric(
        ("classes of other shares",), of_shares.shares, "share of each class against the data's (logits)", (DISTANCE,),
        ("logits",),
    ),
    "prdc_per_class": Metric(
        ("precision, lowest of classes", "recall, lowest of classes"), of_shares.manifold_per_class,
        "precision and recall of each class, and the lowest (labels)", (SHARE, SHARE), ("features", "labels"),
        least=of_shares.NEIGHBOURS + 1,
    ),
    "agreement": Metric(
        ("agreement",), scores.agreement, "share that the classifier puts in the class asked for (labels)", (SHARE,),
        ("logits",), reason=_without_shared,
    ),
    "authpct": Metric(
        ("AuthPct",), scores.authentic_share, "share that is no copy, beside that of held-out data",
        (Scale("neither", 0.0, 100.0),), may_read=("held_out",),
    ),
    "c_t": Metric(
        ("C_T",), scores.copying, "test of copying (held-out data)", (Scale("neither", -math.inf),),
        ("features", "held_out"), least=scores.CELL_SAMPLES,
    ),
    "nearest": Metric(
        ("nearest distance ratio",), scores.nearest_ratio,
        "median distance to training images over that of held-out data", (Scale("neither"),), ("features", "held_out"),
    ),
    "membership": Metric(
        ("membership AUC", "membership found at 1 % false", "membership AUC, control"), membership,
        "whether the loss tells training images from held-out ones (a run)", (LEAK, LEAK, LEAK),
        ("losses", "held_out"), reason=lambda offer: offer.no_losses,
    ),
    "psnr": Metric(
        ("PSNR",), scores.by_image("PSNR", psnr), "in dB, row by row of two sets", (Scale("higher"),), ("images",)
    ),
    "ssim": Metric(
        ("SSIM",), scores.by_image("SSIM", ssim), "structural similarity, row by row of two sets",
        (Scale("higher", -1.0, 1.0),), ("images",), reason=lambda offer: _unpaired(offer, WINDOW),
    ),
    "ms_ssim": Metric(
        ("MS-SSIM",), scores.by_image("MS-SSIM", ms_ssim),
        f"the same at five scales, of {SMALLEST_MS_SSIM} pixels or more", (SHARE,), ("images",),
        reason=lambda offer: _unpaired(offer, SMALLEST_MS_SSIM),
    ),
    "cas": Metric(
        ("CAS", "CAS of real images", "CAS, generated minus real"), usefulness.classification_accuracy,
        "accuracy of classifiers trained on samples alone (labels, held-out)", (SHARE, SHARE, usefulness.DIFFERENCE),
        ("pixels", "held_out"), reason=_untrainable,
    ),
    "augmentation": Metric(
        tuple(f"augmentation, {way}" for way in ("generated", "shifts", "shifts and mirroring")),
        usefulness.augmentation, "gain of classifiers by samples beside real images (labels, held-out)",
        (usefulness.DIFFERENCE,) * 3, ("pixels", "held_out"), reason=_untrainable,
    ),
}  # fmt: skip
