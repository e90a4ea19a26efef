"""What a run says of itself in Python: its metrics as curves, a short text, a card with a picture, scores, a page."""

import json

import numpy as np
import pytest
from toys import Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.arrays.shard import MeshShape
from imagegen_jax.core.drawing.grid import write_png
from imagegen_jax.core.optim import Adam
from imagegen_jax.core.reporting.curves import curves_of, read_curves
from imagegen_jax.data import from_arrays
from imagegen_jax.metrics.of_run import Cards


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = ig.Experiment(
        name="toy", model=Regression(), data=ToyData(), optim={"network": Adam(3e-3)}, batch_size=16, steps=6,
        sample_every=0, log_every=2, samples=4, mesh=MeshShape(data=1),
    )  # fmt: skip
    return ig.fit(experiment, tmp_path_factory.mktemp("run"), quiet=True)


def test_metrics_are_those_of_the_file(run):
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    curve = run.metrics["regress/loss"]
    np.testing.assert_array_equal(curve.steps, [2, 4, 6])
    np.testing.assert_array_equal(curve.values, [line["regress/loss"] for line in lines])
    assert run.metrics["loss"].last == run.metrics["regress/loss"].last == lines[-1]["regress/loss"]


def test_a_metric_that_is_not_there_is_answered_with_the_nearest(run):
    with pytest.raises(KeyError, match=r"no metric 'regress/los'; it has regress/loss"):
        run.metrics["regress/los"]
    ambiguous = curves_of([{"step": 1, "a/loss": 1.0, "b/loss": None}])
    assert np.isnan(ambiguous["b/loss"].values[0])
    with pytest.raises(KeyError, match="several end so: a/loss, b/loss"):
        type(run.metrics)(ambiguous)["loss"]


def test_a_run_without_metrics_has_none(tmp_path):
    assert len(read_curves(tmp_path)) == 0 and "none yet" in repr(read_curves(tmp_path))


def test_the_text_of_a_run_is_short_and_says_what_it_is(run):
    text = repr(run)
    assert len(text.encode()) < 2_000
    assert all(word in text for word in ("toy (Regression on ToyData)", "6 of 6", "network 20", "regress/loss"))
    assert str(run.workdir) in text


def test_a_notebook_shows_the_newest_picture(run, tmp_path):
    assert "data:image/png" in run._repr_html_()
    other = type(run)(run.experiment, run.state, tmp_path / "a<b")
    assert "<img" not in other._repr_html_() and "a&lt;b" in other._repr_html_()
    (tmp_path / "a<b" / "samples").mkdir(parents=True)
    write_png(tmp_path / "a<b" / "samples" / "1.png", np.zeros((2_000, 2_000, 3), np.uint8))
    assert 0 < other._repr_html_().index("<img") < len(other._repr_html_()) < 5_000


def test_a_picture_of_samples_holds_as_many_as_asked(run):
    picture = run.show(9)
    assert picture.size == (16 * (3 * 4 + 2),) * 2  # 2 x 2 pixels and 2 white ones each, magnified by 16


def test_scores_are_kept_in_the_folder_and_found_by_name(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 2, 2, 1), np.uint8)
    toy = ig.Experiment("toy", Regression(), from_arrays(images), {"network": Adam(1e-3)}, batch_size=8, steps=1,
                        samples=4, mesh=MeshShape(data=1))  # fmt: skip
    run = ig.fit(toy, tmp_path, quiet=True)
    cards = run.evaluate("fid", n=16, extractor="pixels", quiet=True)
    assert isinstance(cards, Cards)
    assert cards["FD-pixels"].value == cards[0].value > 0 and "FD-pixels" in repr(cards)
    kept = [json.loads(line) for line in (tmp_path / "evaluations.jsonl").read_text().splitlines()]
    assert [line["value"] for line in kept] == [cards[0].value]
    with pytest.raises(KeyError, match="there are FD-pixels"):
        cards["FID"]
    with pytest.raises(ValueError, match="nonsense"):
        run.evaluate("nonsense")
    assert "FD-pixels" in run.report().read_text()
