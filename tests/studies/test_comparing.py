"""Comparisons of made-up runs: how they are grouped, what differs, what is tested, and how it is shown."""

import json
import math

import numpy as np
import pytest

from imagegen_jax.core.files.claim import RunFolderError
from imagegen_jax.studies.comparing import compare

EXPERIMENT = {
    "class": "imagegen_jax.core.experiment:Experiment", "name": "toy", "steps": 100, "log_every": 10,
    "model": {"class": "m:Model", "weighting": {"class": "m:Uniform"}}, "optim": {"network": {"lr": 1e-3}},
}  # fmt: skip


def run_of(folder, seed, values, lr=1e-3, name="network/loss", steps=None, scores=(), **changes):
    folder.mkdir(parents=True)
    experiment = {**EXPERIMENT, "seed": seed, "optim": {"network": {"lr": lr}}, "name": folder.name, **changes}
    (folder / "experiment.json").write_text(json.dumps(experiment))
    steps = range(10, 10 * len(values) + 1, 10) if steps is None else steps
    lines = [json.dumps({"step": step, "time": 0.0, name: value}) for step, value in zip(steps, values, strict=True)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    cards = [json.dumps({"metric": "FID", "time": time, "value": value}) for time, value in scores]
    (folder / "evaluations.jsonl").write_text("\n".join(cards) + '\n{"half')
    return folder


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for lr, level in ((1e-3, 1.0), (1e-2, 0.5)):
        for seed in range(3):
            values = level * np.exp(-np.arange(10) / 5) + level + 0.01 * rng.normal(size=10)
            found.append(run_of(tmp_path / f"lr{lr}_{seed}", seed, list(values), lr))
    return found


def test_seeds_are_one_group_and_what_differs_is_named(runs):
    found = compare(runs)
    assert [(group.label, group.seeds) for group in found.groups] == [("lr=0.001", (0, 1, 2)), ("lr=0.01", (0, 1, 2))]
    assert found.groups[0].fields == {"optim.network.lr": 0.001}
    (test,) = found.tests
    assert test.verdict == "differ" and test.p < 0.01 and test.difference.value == pytest.approx(-0.57, abs=0.05)
    steps, band = found.curves["network/loss"]["lr=0.01"]
    assert list(steps) == list(range(10, 101, 10)) and (band.low < band.mean).all()


def test_the_value_of_a_loss_is_its_mean_at_the_end(tmp_path):
    one = run_of(tmp_path / "a", 0, [9.0] * 8 + [1.0, 3.0])
    assert compare([one], last=0.2).summaries[0].values == (2.0,)
    assert compare([one]).summaries[0].values == (3.0,)
    with pytest.raises(ValueError, match="last=0"):
        compare([one], last=0)


def test_equal_groups_are_not_told_apart_and_it_is_said_what_could_be(tmp_path):
    rng = np.random.default_rng(1)
    folders = [
        run_of(tmp_path / f"{lr}_{s}", s, list(1 + 0.1 * rng.normal(size=10)), lr) for lr in (1, 2, 3) for s in range(3)
    ]
    found = compare(folders)
    assert len(found.tests) == 3 and all(test.verdict == "not told apart" for test in found.tests)
    assert all(test.p >= test.difference.p for test in found.tests)
    said = " ".join(found.notes)
    assert "3 tests, Welch's t-test, p corrected for their number (Holm)" in said
    assert said.count("not told apart does not mean equal") == 1 and "(lr=1 and lr=2); " in said


def test_a_seed_alone_is_not_tested(tmp_path):
    found = compare([run_of(tmp_path / "a", 0, [1.0]), run_of(tmp_path / "b", 0, [2.0], 1.0)])
    assert math.isnan(found.tests[0].p) and "at least 2 seeds" in found.tests[0].verdict
    assert any("One seed alone" in note for note in found.notes)


def test_seeds_are_paired_where_that_is_asked_for(runs, tmp_path):
    assert compare(runs, pairs=True).tests[0].difference.degrees == 2
    with pytest.raises(ValueError, match=r"seeds \[0, 1, 2\] and \[0, 1\] cannot be paired"):
        compare(runs[:-1], pairs=True)


def test_scores_go_before_losses_and_the_newest_counts(tmp_path):
    scores = [("2026-01-02", 5.0), ("2026-01-01", 9.0)]
    folders = [run_of(tmp_path / f"{lr}", 0, [1.0, 2.0], lr, scores=scores) for lr in (1, 2)]
    found = compare(folders)
    assert [summary.metric for summary in found.summaries] == ["FID", "FID"] and found.summaries[0].values == (5.0,)
    assert list(found.curves) == ["network/loss"]
    evaluated = run_of(tmp_path / "e", 0, [8.0, 7.0], 3, name="evaluation/FID", scores=scores)
    assert compare([evaluated]).summaries[0].values == (7.0,)
    assert [s.metric for s in compare(folders, ["loss"]).summaries] == ["network/loss"] * 2
    with pytest.raises(KeyError, match="none of these runs has no metric 'nothing'"):
        compare(folders, ["nothing"])


def test_scores_that_were_not_measured_alike_are_compared_apart(tmp_path):
    few, many = ({"metric": "FID", "samples": n, "reference": "digits", "time": "2026"} for n in (2_000, 50_000))
    kept = {1: [{**few, "value": 9.0}, {**many, "value": 4.0}], 2: [{**few, "value": 8.0, "images": "b", "seed": 1}]}
    for lr, cards in kept.items():
        folder = run_of(tmp_path / f"{lr}", 0, [1.0], lr)
        (folder / "evaluations.jsonl").write_text("".join(f"{json.dumps(card)}\n" for card in cards))
    for found in (compare([tmp_path / "1", tmp_path / "2"]), compare([tmp_path / "1", tmp_path / "2"], ["FID"])):
        values = [(summary.metric, summary.values) for summary in found.summaries]
        assert values == [
            ("FID [samples 2000]", (9.0,)), ("FID [samples 2000]", (8.0,)), ("FID [samples 50000]", (4.0,)),
        ]  # fmt: skip
        assert [test.metric for test in found.tests] == ["FID [samples 2000]"]
        assert "in several ways" in found.notes[0] and not any("value of a loss" in note for note in found.notes)


def test_what_cannot_be_compared_is_named(runs, tmp_path):
    with pytest.raises(ValueError, match="are one experiment with one seed, 0"):
        compare([runs[0], run_of(tmp_path / "again", 0, [1.0])])
    with pytest.raises(RunFolderError, match="no run folder"):
        compare([tmp_path])
    with pytest.raises(ValueError, match="no runs"):
        compare([])
    longer = run_of(tmp_path / "long", 7, [1.0] * 12)
    assert any("not all runs are equally far" in note.lower() for note in compare([*runs, longer]).notes)


def test_groups_have_labels_that_tell_them_apart(tmp_path):
    def model(weighting, width=8):
        return {"class": "m:Model", "width": width, "weighting": {"class": f"m:{weighting}", "k": 5}}

    classes = [run_of(tmp_path / w, 0, [1.0], model=model(w)) for w in ("Uniform", "MinSNR")]
    assert [group.label for group in compare(classes).groups] == ["weighting=Uniform", "weighting=MinSNR"]
    both = [*classes, run_of(tmp_path / "wide", 0, [1.0], model=model("MinSNR", 16))]
    assert len({group.label for group in compare(both).groups}) == 3


def test_it_is_shown_as_text_in_notebooks_and_as_a_page(runs, tmp_path):
    odd = run_of(tmp_path / "odd", 0, [1.0], model={"class": "m:Model", "name": "<b>&"})
    found = compare([*runs, odd])
    text = repr(found)
    assert "What differs" in text and "optim.network.lr" in text and "differ" in text
    page = found.save(tmp_path / "page" / "c.html").read_text()
    assert page.count("<svg") == 1 and page.count("<polygon") == 2 and page.count("<polyline") == 2
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page
    assert "training steps" in page and "prefers-color-scheme: dark" in page and "http" not in page
    assert "<svg" in found._repr_html_()
