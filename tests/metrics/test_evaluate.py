"""Evaluation: sets of images, kept features, cards, leaderboards, the classifier, the command line."""

import dataclasses
import io
import json
import subprocess
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import imagegen_jax as ig
from experiments import dcgan_mnist
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.files.claim import Lock
from imagegen_jax.data import Digits
from imagegen_jax.metrics.card import Card, leaderboard, print_table, text_table
from imagegen_jax.metrics.evaluate import evaluate
from imagegen_jax.metrics.extraction import features_of
from imagegen_jax.metrics.features import classifier
from imagegen_jax.metrics.features.classifier import ClassifierFeatures, classifier_experiment
from imagegen_jax.metrics.features.extractor import Function, Pixels
from imagegen_jax.metrics.features.moments import Moments
from imagegen_jax.metrics.scale import DISTANCE, SHARE, Scale
from imagegen_jax.metrics.scores.frechet import frechet_distance
from imagegen_jax.metrics.scores.interval import proportion_interval
from imagegen_jax.metrics.sets import ArraySet, SampleSet

GAN = ig.override(dcgan_mnist.experiment, dcgan_mnist.smoke | {"mesh": MeshShape(data=1)})
RANDOM = np.random.default_rng(0)
DARK, LIGHT = (RANDOM.integers(low, low + 100, (600, 3, 3, 1), np.uint8) for low in (0, 150))


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("IMAGEGEN_CACHE", str(tmp_path / "cache"))


def mean_pixel(images):
    return np.asarray(images, np.float32).mean((1, 2))


# --- sets and features -----------------------------------------------------------------------------------------------


def test_a_set_is_known_by_its_content():
    images = np.concatenate([DARK, LIGHT])  # more than are hashed at a time
    changed = images.copy()
    changed[-1, -1, -1] -= 1
    assert ArraySet("a", images).fingerprint == ArraySet("b", images.copy()).fingerprint
    assert ArraySet("a", changed).fingerprint != ArraySet("a", images).fingerprint
    with pytest.raises(ValueError, match="float32.*uint8"):
        ArraySet("floats", DARK.astype(np.float32))


@pytest.mark.slow
def test_a_run_draws_the_same_images_from_any_chunk_on(tmp_path):
    run = ig.fit(GAN, tmp_path, quiet=True)
    samples = SampleSet(run, n=40, chunk=16)
    whole = np.concatenate(list(samples.batches(16)))
    np.testing.assert_array_equal(np.concatenate(list(samples.batches(16, start=16))), whole[16:])
    assert len(whole) == 40 and not np.array_equal(whole[:16], whole[16:32])
    other = dataclasses.replace(run, state=run.state.replace(params=jax.tree.map(lambda x: x + 1, run.state.params)))
    assert SampleSet(other, n=40, chunk=16).fingerprint != samples.fingerprint


def test_an_interrupted_extraction_goes_on_where_it_stopped():
    seen = []

    def fails_at_third(images):
        if len(seen) == 2:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(images))
        return mean_pixel(images)

    extractor, images = Function("mean", fails_at_third, "1"), ArraySet("dark", DARK)
    with pytest.raises(KeyboardInterrupt):
        features_of(images, extractor, quiet=True)
    found = features_of(images, extractor, quiet=True)["features"]
    assert len(seen) == 4  # two batches, the one that failed, and that one again: none twice
    np.testing.assert_allclose(found, mean_pixel(DARK), rtol=1e-6)
    features_of(images, extractor, quiet=True)
    assert len(seen) == 4
    features_of(images, dataclasses.replace(extractor, version="2"), quiet=True)
    assert len(seen) == 7


# --- cards -----------------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_card_holds_the_distance_and_what_it_takes_to_repeat_it(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm")
    extractor = Function("FD-mean", mean_pixel, "1")
    (card,) = evaluate(ArraySet("dark", DARK), ArraySet("light", LIGHT), extractor, ["fid"], seed=3, quiet=True)
    expected = frechet_distance(Moments.of(mean_pixel(DARK)), Moments.of(mean_pixel(LIGHT)))
    assert card.value == pytest.approx(expected, rel=1e-6) and card.low < card.value < card.high
    assert (card.samples, card.references, card.images, card.reference) == (600, 600, "dark", "light")
    assert (card.metric, card.weights, card.seed) == ("FD-mean", extractor.fingerprint[:16], 3)
    assert json.loads(json.dumps(card.to_dict()))["versions"]["jax"]
    table = text_table([card])
    words = ("FD-mean", "dark", "light", "bootstrap", card.weights)
    assert all(word in table for word in words)
    print_table([card])
    assert capsys.readouterr().out == table + "\n"
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    print_table([card])
    assert all(word in terminal.getvalue() for word in words) and "\x1b[1mmetric" in terminal.getvalue()


def test_equal_sets_score_as_equal():
    halves = ArraySet("a", DARK[:300]), ArraySet("b", DARK[300:])
    cards = evaluate(*halves, Pixels(), ["fid", "kid", "prdc", "authpct"], quiet=True)
    scores = {card.metric: card for card in cards}
    assert scores["KID x 1000"].low < 0 < scores["KID x 1000"].high
    assert scores["precision"].value > 0.8 and scores["coverage"].value > 0.8
    assert scores["density"].low is None and 30 < scores["AuthPct"].value < 80


def test_statistics_of_another_extractor_are_refused(tmp_path):
    one, other = Function("FD-mean", mean_pixel, "1"), Function("FD-mean", mean_pixel, "2")
    Moments.of(mean_pixel(LIGHT), fingerprint=one.fingerprint).save(tmp_path / "light.npz")
    saved, dark = Moments.load(tmp_path / "light.npz"), ArraySet("dark", DARK)
    assert evaluate(dark, saved, one, ["fid"], quiet=True)[0].references == 600
    with pytest.raises(ValueError, match=f"{one.fingerprint}.*{other.fingerprint}"):
        evaluate(dark, saved, other, ["fid"], quiet=True)
    with pytest.raises(ValueError, match="mean and covariance alone"):
        evaluate(dark, saved, one, ["prdc"], quiet=True)


@pytest.mark.parametrize(
    ("metrics", "message"), [(["fod"], "no metric 'fod'.*fid"), (["is"], "no logits"), ([], "kid")]
)
def test_metrics_that_cannot_be_had_are_named(metrics, message):
    with pytest.raises(ValueError, match=message):
        evaluate(ArraySet("a", DARK), ArraySet("b", LIGHT), Pixels(), metrics, quiet=True)


def card(value, low, high, metric="FD-mean", scale=DISTANCE):
    return Card(metric, value, low, high, "", 10, "a", 10, "b", "FD-mean", "0", "none", 0, scale=scale)


def test_a_leaderboard_is_sorted_and_bold_where_intervals_lie_apart():
    apart = leaderboard({"far": [[card(9, 8, 10)]], "near": [[card(1, 0.5, 1.5)]]}).splitlines()
    assert apart[2] == "| near | 1 | **1** [0.5, 1.5] |" and apart[3] == "| far | 1 | 9 [8, 10] |"
    assert "**" not in leaderboard({"far": [[card(2, 1, 3)]], "near": [[card(1, 0.5, 1.5)]]})
    neither = "AuthPct", Scale("neither")
    assert "**" not in leaderboard({"a": [[card(9, 8, 10, *neither)]], "b": [[card(1, 0, 2, *neither)]]})
    higher = leaderboard({"a": [[card(0.2, 0.1, 0.3, "recall", SHARE)]], "b": [[card(0.8, 0.7, 0.9, "recall", SHARE)]]})
    assert higher.splitlines()[2].startswith("| b | 1 | **0.8**")


def test_a_leaderboard_takes_means_over_seeds():
    line = leaderboard({"a": [[card(11, 0, 9)], [card(12, 0, 9)], [card(13, 0, 9)]]}).splitlines()[2]
    half = 4.303 / np.sqrt(3)  # Student's t with 2 degrees of freedom, times a deviation of 1
    assert line == f"| a | 3 | 12 [{12 - half:.4g}, {12 + half:.4g}] |"


def test_a_share_has_wilsons_interval():
    assert proportion_interval(0.5, 100) == pytest.approx((0.5, 0.403832, 0.596168), abs=1e-6)
    assert proportion_interval(0.0, 10) == pytest.approx((0.0, 0.0, 0.277533), abs=1e-6)


# --- the classifier --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_classifier_learns_by_the_loop_and_draws_nothing(tmp_path):
    train, test = Digits(split="train"), Digits(split="test").open()
    recipe = dataclasses.replace(classifier_experiment(train, train.open()), steps=150, mesh=MeshShape(data=1))
    run = ig.fit(recipe, tmp_path, quiet=True)
    extractor = ClassifierFeatures(recipe.model, run.nets)
    found = extractor(test.images)
    assert np.mean(np.argmax(found["logits"], axis=1) == test.labels) > 0.88
    assert found["features"].shape == (len(test), 128) and not list((tmp_path / "samples").iterdir())
    scaled = dataclasses.replace(extractor, scale=0.5)
    np.testing.assert_allclose(scaled(test.images)["features"], 0.5 * found["features"], rtol=1e-6)
    assert scaled.fingerprint != extractor.fingerprint
    with pytest.raises(TypeError, match="draws no images"):
        run.sample(4)
    with pytest.raises(ValueError, match="trained on"):
        extractor(DARK)


@pytest.mark.slow
def test_a_classifier_that_another_process_trains_is_waited_for(monkeypatch):
    """Two evaluations side by side train it once."""
    monkeypatch.setattr(classifier, "TRAINING_IMAGES", classifier.BATCH)
    source = Digits()
    folder = classifier._folder(classifier_experiment(source, source.open()), source.open())
    folder.mkdir(parents=True)
    lock, looks = Lock(folder), []

    def wait(seconds):
        looks.append(seconds)
        if len(looks) == 2:
            lock.release()

    monkeypatch.setattr(classifier, "time", SimpleNamespace(sleep=wait))
    assert classifier.trained_classifier(source, quiet=True).model.num_classes == 10
    assert looks == [classifier.WAIT_S] * 2


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def imagegen(root):
    def run(*arguments):
        command = [sys.executable, "-m", "imagegen_jax.cli", "evaluate", *map(str, arguments)]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=240)

    return run


@pytest.mark.slow
def test_two_files_are_compared_and_statistics_are_written(imagegen, tmp_path):
    np.savez(tmp_path / "dark.npz", DARK)
    np.savez(tmp_path / "light.npz", LIGHT)
    files = tmp_path / "dark.npz", tmp_path / "light.npz"
    done = imagegen(*files, "--extractor", "pixels", "--metrics", "fid,kid", "--json")
    cards = [json.loads(line) for line in done.stdout.splitlines()]
    assert [c["metric"] for c in cards] == ["FD-pixels", "KID x 1000"], done.stderr
    written = imagegen(files[1], "--extractor", "pixels", "--statistics", tmp_path / "light_statistics.npz")
    assert written.returncode == 0, written.stderr
    again = imagegen(files[0], tmp_path / "light_statistics.npz", "--extractor", "pixels", "--metrics", "fid", "--json")
    assert json.loads(again.stdout)["value"] == pytest.approx(cards[0]["value"], rel=1e-9)
    wrong = imagegen(*files, "--extractor", "pixel")
    assert wrong.returncode == 1 and "no extractor 'pixel'" in wrong.stderr


@pytest.mark.slow
def test_a_run_keeps_its_evaluations(imagegen, tmp_path):
    ig.fit(ig.override(GAN, {"seed": 1}), tmp_path / "game_1", quiet=True)
    ig.fit(ig.override(GAN, {"seed": 2}), tmp_path / "game_2", quiet=True)
    options = ("--extractor", "random", "--samples", "64", "--metrics", "kid")
    done = imagegen(tmp_path / "game_1", tmp_path / "game_2", *options, "--leaderboard", tmp_path / "table.md")
    assert done.returncode == 0, done.stderr
    assert "| game | 2 |" in (tmp_path / "table.md").read_text()
    kept = [json.loads(line) for line in (tmp_path / "game_1" / "evaluations.jsonl").read_text().splitlines()]
    assert [card["samples"] for card in kept] == [16, 16, 64], "two while it trained"
    assert "KID x 1000" in (tmp_path / "game_1" / "report.html").read_text()
