"""Membership by the loss: a model that knows its images by heart gives them away, one that learned none does not."""

from __future__ import annotations

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import Game

from imagegen_jax.cli.evaluate import _plan
from imagegen_jax.core.model import Aux, Phase
from imagegen_jax.metrics.evaluate import check_metrics, evaluate
from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.losses import DRAWS
from imagegen_jax.metrics.membership import auc, found_at
from imagegen_jax.metrics.sets import ArraySet, SampleSet

RANDOM = np.random.default_rng(0)
TRAIN, TEST = (RANDOM.integers(0, 256, (n, 2, 2, 1), np.uint8) for n in (90, 70))


@dataclasses.dataclass(frozen=True)
class Remembering:
    """A model whose loss is the distance to the nearest of its weights, the images it was trained on."""

    weight: float = 1.0
    image_shape: tuple[int, int, int] = (2, 2, 1)

    def init(self, key, batch):
        return {"network": {"params": {"images": jnp.asarray(TRAIN, jnp.float32) / 127.5 - 1}}}

    def phases(self, stage):
        return (Phase(("network",), self.loss, "remember"),)

    def loss(self, nets, inputs):
        image, known = inputs.batch["image"], nets["network"]["params"]["images"]
        distance = jnp.min(jnp.mean((known - image) ** 2, axis=(1, 2, 3)))
        return self.weight * distance, Aux({})

    def sample(self, nets, key, n, conditions):
        raise AssertionError("no image is drawn to look at losses")


def run_of(model):
    nets = model.init(jax.random.key(0), {"image": jnp.zeros((1, 2, 2, 1))})
    return types.SimpleNamespace(
        experiment=types.SimpleNamespace(model=model, num_classes=0), nets=nets, step=3, workdir="runs/toy"
    )


def measured(weight):
    sets = ArraySet("train", TRAIN), ArraySet("test", TEST)
    images = SampleSet(run_of(Remembering(weight)), 4)
    vars(images)["fingerprint"] = "known"
    cards = evaluate(images, sets[0], Pixels(), ["membership"], quiet=True, held_out=sets[1])
    return {card.metric: card for card in cards}


@pytest.fixture(autouse=True)
def nameless(monkeypatch):
    monkeypatch.setattr(SampleSet, "class_names", ())


def test_what_is_known_by_heart_is_given_away_and_the_control_is_not() -> None:
    found = measured(1.0)
    assert found["membership AUC"].value > 0.99 and found["membership AUC"].low > 0.95
    assert found["membership found at 1 % false"].value > 0.9
    control = found["membership AUC, control"]
    assert control.low < 0.5 < control.high and control.samples == 70
    assert found["membership AUC"].samples == 90 and found["membership AUC"].held_out == "test"


def test_a_loss_that_knows_nothing_gives_nothing_away() -> None:
    found = measured(0.0)
    assert found["membership AUC"].value == 0.5 and found["membership found at 1 % false"].value == 0


def test_the_area_is_the_share_of_pairs() -> None:
    members, others = RANDOM.normal(size=40).round(1), RANDOM.normal(size=30).round(1)
    pairs = members[:, None] < others, members[:, None] == others
    assert auc(members, others) == pytest.approx(pairs[0].mean() + pairs[1].mean() / 2)
    assert auc(members, members) == 0.5 and found_at(members - 9, others) == 1 and DRAWS > 1


def test_what_has_no_loss_of_an_image_is_said() -> None:
    train, test = ArraySet("train", TRAIN), ArraySet("test", TEST)
    with pytest.raises(ValueError, match="membership: it reads a run's loss .*: give the run"):
        check_metrics(["membership"], train, train, Pixels(), test)
    with pytest.raises(ValueError, match="membership: a Game is trained by . losses, and none is an image's own"):
        check_metrics(["membership"], SampleSet(run_of(Game()), 4), train, Pixels(), test)
    with pytest.raises(ValueError, match="membership: there are no held-out data"):
        check_metrics(["membership"], SampleSet(run_of(Remembering()), 4), train, Pixels())


def test_what_is_measured_is_said_without_images_that_nobody_draws():
    images = SampleSet(run_of(Remembering(1.0)), 4)
    said = _plan(images, ArraySet("train", TRAIN), Pixels(), ["membership"])
    assert said == "membership: losses of runs/toy at step 3 for training images and for held-out ones; draws none"
    assert "4 images drawn from runs/toy" in _plan(images, ArraySet("train", TRAIN), Pixels(), ["membership", "fid"])
