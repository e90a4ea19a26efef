"""Evaluation while a run trains: when it happens, which checkpoints stay, what a resumed run makes of it."""

import dataclasses
import json

import numpy as np
import pytest
from toys import Game, ToyData

import imagegen_jax as ig
from experiments import dcgan_mnist
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.checkpoints.stored import Best, CheckpointError
from imagegen_jax.core.config.override import override
from imagegen_jax.core.ema import HalfLife
from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.core.optim import Adam
from imagegen_jax.metrics.card import Card, append
from imagegen_jax.metrics.during import Evaluate
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.features.extractor import Pixels
from imagegen_jax.metrics.sets import SampleSet, source_set


@dataclasses.dataclass(frozen=True)
class Distance:
    """Scores that are best at one step, and what the images say."""

    every: int = 4
    best_at: int = 8
    higher: bool = False

    def open(self, experiment, workdir, quiet):
        return Measured(self)


class Measured:
    def __init__(self, settings):
        self.settings, self.best = settings, Best("distance", settings.higher)

    def __call__(self, draw, step):
        images = draw(6, None, 0)
        assert images.shape == (6, 2, 2, 1) and images.dtype == np.uint8
        distance = abs(step - self.settings.best_at)
        return {"mean": float(images.mean()), "distance": float(-distance if self.settings.higher else distance)}


EXPERIMENT = ig.Experiment(
    name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(1e-2), "critic": Adam(1e-2)},
    averages={"ema": HalfLife(100.0)}, batch_size=16, steps=22, checkpoint_every=7, keep_checkpoints=2, log_every=5,
    samples=4, mesh=MeshShape(data=1), evaluation=Distance(),
)  # fmt: skip


def change(**fields):
    return dataclasses.replace(EXPERIMENT, **fields)


def evaluations(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["evaluation/mean"] for line in lines if "evaluation/mean" in line}


def checkpoints(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run to its end; its folder."""
    return ig.fit(EXPERIMENT, tmp_path_factory.mktemp("whole"), quiet=True).workdir


def test_the_best_checkpoint_stays_beside_the_newest(whole):
    assert list(evaluations(whole)) == [4, 8, 12, 16, 20, 22], "every fourth step and the last"
    assert checkpoints(whole) == [8, 21, 22]
    assert ig.load(whole, experiment=EXPERIMENT, step="best").step == 8
    assert ig.load(whole, experiment=EXPERIMENT, step=21).step == 21
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 9; it has \[8, 21, 22\]"):
        ig.load(whole, experiment=EXPERIMENT, step=9)


def test_a_high_score_can_be_the_best(tmp_path):
    ig.fit(change(steps=12, evaluation=Distance(higher=True, best_at=4)), tmp_path, quiet=True)
    assert checkpoints(tmp_path) == [4, 8, 12]
    assert ig.load(tmp_path, experiment=EXPERIMENT, step="best").step == 4


@pytest.mark.parametrize("stop", [8, 10])
def test_a_resumed_run_measures_and_keeps_the_same(whole, tmp_path, stop):
    ig.fit(change(steps=stop, evaluation=None), tmp_path, quiet=True)
    ig.fit(change(steps=stop), tmp_path / "other", quiet=True)
    ig.fit(EXPERIMENT, tmp_path / "other", resume_with_changes=True, quiet=True)
    wanted = {step: mean for step, mean in evaluations(whole).items()} | evaluations(tmp_path / "other")
    assert evaluations(tmp_path / "other") == wanted, "one more at the end of the shorter run"
    assert ig.load(tmp_path / "other", experiment=EXPERIMENT, step="best").step == 8
    with pytest.raises(RunFolderError, match="has no evaluation"):
        ig.load(tmp_path, experiment=EXPERIMENT, step="best")


@pytest.mark.slow
def test_an_evaluation_gives_the_cards_of_the_command_line(tmp_path):
    settings = Evaluate(every=4, metrics=("kid", "prdc"), samples=20, extractor="pixels", best="coverage")
    recipe = override(dcgan_mnist.experiment, {**dcgan_mnist.smoke, "evaluation": settings, "log_every": 4})
    ig.fit(recipe, tmp_path, quiet=True)
    kept = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [card["metric"] for card in kept] == 2 * ["KID x 1000", "precision", "recall", "density", "coverage"]
    run = ig.load(tmp_path, step=4)
    cards = evaluate(SampleSet(run, 20), source_set(recipe.data), Pixels(), ("kid", "prdc"), quiet=True)
    for card, line in zip(cards, kept[:5], strict=True):
        assert (card.metric, card.value, card.images) == (line["metric"], line["value"], line["images"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["evaluation/KID x 1000"] == cards[0].value


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": ("fdi",)}, "no metric 'fdi'"),
        ({"metrics": ("psnr",)}, "psnr compares image by image"),
        ({"every": 0}, "every=0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Evaluate(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"best": "FID"}, "evaluation.best='FID': kid give KID x 1000"),
        ({"metrics": ("is",)}, "is: FD-pixels gives no logits"),
        ({"metrics": ("fid_per_class",)}, "the samples have no labels"),
        ({"extractor": "nothing"}, "no extractor 'nothing'"),
    ],
)
def test_an_evaluation_is_checked_before_training(tmp_path, settings, message):
    wanted = {"metrics": ("kid",), "samples": 20, "extractor": "pixels"} | settings
    recipe = override(dcgan_mnist.experiment, {**dcgan_mnist.smoke, "evaluation": Evaluate(**wanted)})
    with pytest.raises(ValueError, match=message):
        ig.fit(recipe, tmp_path, quiet=True)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_the_same_measurement_takes_the_place_of_the_old_one(tmp_path):
    card = Card("FD", 1.0, None, None, "none", 10, "a", 20, "b", "FD", "0", "none", 0)
    path = tmp_path / "evaluations.jsonl"
    append([card, dataclasses.replace(card, metric="IS")], path)
    with path.open("a") as file:
        file.write('{"metric": "half')
    append([dataclasses.replace(card, value=2.0)], path)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["metric"], line["value"]) for line in found] == [("IS", 1.0), ("FD", 2.0)]


def test_scores_that_are_no_numbers_are_never_the_best():
    best = Best("distance", higher=True)
    assert best.loss({"distance": 3.0}) == -3
    assert best.loss({"distance": float("nan")}) == best.loss({}) == float("inf")


def test_an_evaluation_must_have_its_parts():
    with pytest.raises(ValueError, match="evaluation=.*needs `every` and `open`"):
        change(evaluation=3)
