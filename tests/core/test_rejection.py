"""Rejection by a classifier: which of more samples are kept, told by sorting all of them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Affine, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.drawing.rejection import Rejection, check_rejectable
from imagegen_jax.core.optim import SGD
from imagegen_jax.core.run import Run
from imagegen_jax.core.state import create
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.gan.dcgan import DCGAN
from imagegen_jax.gan.translation.cyclegan import CycleGAN
from imagegen_jax.metrics.features.classifier import Classifier, ClassifierNet

LABELS = np.repeat([0, 2, 3], [7, 3, 5])
FITS = np.random.default_rng(0).integers(0, 6, 1000).astype(np.float64)  # with ties


def numbered(chunk):
    """Draws images of which each is its own number, and counts what was drawn."""
    seen = []

    def draw(labels, start):
        assert start % chunk == 0
        for at in range(start, len(labels), chunk):
            rows = np.arange(at, min(at + chunk, len(labels)))
            seen.extend(rows)
            yield np.stack([rows % 256, labels[rows]], axis=1).astype(np.uint8).reshape(-1, 1, 1, 2)

    return draw, seen


def fits(images):
    """How well an image is of its class, by its number; much better of another class."""
    number, label = images.reshape(-1, 2).T
    found = np.full((len(images), 4), 100.0)
    found[np.arange(len(images)), label] = FITS[number]
    return found


def best(labels, share):
    """The numbers of what is to be kept of each class, by sorting everything."""
    begin, found = 0, {}
    for k, count in zip(*np.unique(labels, return_counts=True), strict=True):
        rows = np.arange(begin, begin + int(np.ceil(round(count / share, 6))))
        order = sorted(rows, key=lambda row: (-FITS[row], row))[:count]
        found[k], begin = sorted(order), begin + len(rows)
    queues = {k: iter(rows) for k, rows in found.items()}
    return [next(queues[k]) for k in labels], begin


@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
@pytest.mark.parametrize("share", [0.1, 0.3, 1.0])
def test_the_likeliest_of_each_class_are_kept(share, chunk):
    """In the order of drawing; with classes in any order; and from any row on, without drawing earlier classes."""
    reject = Rejection(share, fits)
    for labels in (LABELS, np.random.default_rng(1).permutation(LABELS)):
        wanted, total = best(labels, share)
        assert reject.total(labels) == total
        for start in (0, 1, 8, 14):
            draw, seen = numbered(chunk)
            kept = np.concatenate(list(reject.chunks(labels, chunk, draw, start)))[:, 0, 0]
            assert kept.tolist() == [[n, k] for n, k in zip(wanted, labels, strict=True)][start:]
            if labels is LABELS:
                first = {0: 0, 1: 0, 8: reject.drawn(7), 14: reject.drawn(7) + reject.drawn(3)}[start]
                assert seen[0] == first // chunk * chunk and seen[-1] == total - 1


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="must be above 0, and at most 1"):
        Rejection(share, fits)


def test_a_classifier_of_fewer_classes_is_refused():
    draw, _ = numbered(4)
    reject = Rejection(0.5, lambda images: np.zeros((len(images), 3)))
    with pytest.raises(ValueError, match=r"gives \[4, 3\] numbers for 4 images of class 3 .*know all classes"):
        list(reject.chunks(np.array([3, 3]), 4, draw))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (DCGAN(), "a DCGAN knows no classes"),
        (dataclasses.replace(Diffusion(num_classes=3), space=Latents()), "what this Diffusion draws are latents"),
        (Diffusion(num_classes=3, source_shape=(8, 8, 1)), "has a 'source' of its own"),
        (CycleGAN(), "a CycleGAN knows no classes"),
    ],
)
def test_models_whose_samples_cannot_be_chosen_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        check_rejectable(model)


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Noise(Regression):
    """Draws noise, whatever its class."""

    network: Affine = Affine(4)
    num_classes: int = 3
    optional_conditions: ClassVar[tuple[str, ...]] = ("guidance",)

    def sample(self, nets, key, n, conditions):
        return jax.random.uniform(key, (n, 2, 2, 1), minval=-1.0) * conditions.get("guidance", jnp.ones(1))[0]


def run_of(model, folder):
    nets = model.init(jax.random.key(0), ToyData().open().batch(0, 2))
    experiment = ig.Experiment("noise", model, ToyData(), {"network": SGD(1e-3)}, batch_size=8)
    return Run(experiment, create(nets, experiment.optim, {}), folder)


def test_a_run_keeps_what_the_classifier_of_another_run_finds_likeliest(tmp_path):
    run, judge = run_of(Noise(), tmp_path), run_of(Classifier((2, 2, 1), 3, ClassifierNet(4, 8)), tmp_path)
    labels = np.array([0, 0, 0, 1, 1, 2])
    every = run.sample(18, np.repeat([0, 1, 2], [9, 6, 3]), seed=3, chunk=8)
    scores = judge.classify(every)
    assert scores.shape == (18, 3)
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    rows = [sorted(np.argsort(-scores[a:b, k], kind="stable")[:m] + a) for k, a, b, m in
            ((0, 0, 9, 3), (1, 9, 15, 2), (2, 15, 18, 1))]  # fmt: skip
    kept = run.sample(6, labels, seed=3, chunk=8, reject=Rejection(1 / 3, judge.classify))
    np.testing.assert_array_equal(kept, every[np.concatenate(rows)])
    with pytest.raises(ValueError, match="give one label an image"):
        run.sample(6, labels[:5], reject=Rejection(0.5, judge.classify))
    with pytest.raises(ValueError, match="0 labels for 6 images"):
        run.sample(6, reject=Rejection(0.5, judge.classify))
    with pytest.raises(ValueError, match="each image of this Noise has a 'guidance' of its own"):
        run.sample(6, labels, reject=Rejection(0.5, judge.classify), guidance=np.ones(6))
    with pytest.raises(TypeError, match="a Noise tells no classes of images"):
        run.classify(every)
    with pytest.raises(ValueError, match=r"images of \(2, 2, 3\), but the classifier knows uint8 ones of \(2, 2, 1\)"):
        judge.classify(np.zeros((2, 2, 2, 3), np.uint8))
