"""The ledger: what a figure was measured of is known, a changed recipe is seen, and a new run is compared."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "scripts")]

import reproduce  # noqa: E402
from evidence import entries, figures, ledger, summary  # noqa: E402
from evidence.experiments import changed, fingerprint, values_of  # noqa: E402
from evidence.summary import REDUCED  # noqa: E402
from seeds import missing  # noqa: E402

from imagegen_jax import override, recipe  # noqa: E402
from imagegen_jax.recipes.shipped import recipes  # noqa: E402

NAME = "gpt_digits"  # over the codes of vqvae_digits


def stored(name=NAME, **values):
    """As it comes back from a file."""
    return json.loads(json.dumps(dict(values_of(name)) | values))


def entry(seed=0, value=1.0, **fields):
    scores = {"FD-classifier": {"value": value, "low": value - 0.1, "high": value + 0.1}}
    return {"recipe": "toy", "experiment": "a", "seed": seed, "scores": scores, "changes": [], **fields}


@pytest.mark.parametrize(
    "changes",
    [{"seed": 3}, {"log_every": 7, "sample_every": 0, "checkpoint_every": 9}, {"evaluation": None}, {"name": "other"}],
)
def test_what_no_array_depends_on_is_no_other_experiment(changes):
    other = override(recipe(NAME), changes)
    assert fingerprint(values_of(NAME, other)) == fingerprint(values_of(NAME))
    assert not changed(stored(), NAME, other)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"steps": 7}, "gpt_digits.steps (500 then, 7 now)"),
        ({"model.network.dropout": 0.5}, "gpt_digits.model.network.dropout (0.3 then, 0.5 now)"),
    ],
)
def test_a_changed_recipe_is_another_experiment_and_says_what_has_changed(changes, named):
    other = override(recipe(NAME), changes)
    assert fingerprint(values_of(NAME, other)) != fingerprint(values_of(NAME))
    assert changed(stored(), NAME, other) == [named]


def test_a_change_of_the_recipe_that_weights_come_from_is_seen():
    first = stored("vqvae_digits")["vqvae_digits"]
    assert changed(stored(vqvae_digits={**first, "steps": 9}), NAME) == ["vqvae_digits.steps (9 then, 1500 now)"]
    assert changed({NAME: stored()[NAME]}, NAME) == ["vqvae_digits (was not trained first)"]


def test_a_field_that_came_later_is_no_change_at_its_default():
    values = stored()
    del values[NAME]["skip_norm"], values["vqvae_digits"]["microbatches"]
    assert not changed(values, NAME)


# --- intervals -------------------------------------------------------------------------------------------------------


def test_one_more_run_is_expected_where_students_prediction_interval_says():
    found = entries.expected([entry(seed, value) for seed, value in enumerate((1.0, 2.0, 3.0))], "FD-classifier")
    half = 4.302653 * (1 + 1 / 3) ** 0.5  # Student's t of 2 degrees; the deviation is 1
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.judged(2.0) == "within" and found.judged(2 + half + 0.25) == "outside, by 0.25"
    assert found.judged(2 - half - 0.5) == "outside, by 0.5"


def test_of_one_seed_its_own_interval_is_expected_and_of_none_nothing():
    assert entries.expected([entry()], "FD-classifier")[:2] == (0.9, 1.1)
    assert entries.expected([entry()], "recall") is None
    lines, well = reproduce.compared(entry(1, 1.5), [entry()])
    assert not well and "outside, by 0.4" in lines[0]
    assert reproduce.compared(entry(1, 1.5), []) == (["FD-classifier: 1.5; nothing to compare with yet"], True)


def test_an_entry_takes_the_place_of_one_of_the_same_seed(tmp_path):
    for seed, value in ((0, 1.0), (1, 2.0), (0, 3.0)):
        entries.append(entry(seed, value), tmp_path)
    assert [(of["seed"], of["scores"]["FD-classifier"]["value"]) for of in entries.read(tmp_path)] == [(1, 2), (0, 3)]


def test_runs_that_are_missing_are_those_of_todays_recipe(tmp_path):
    name = REDUCED["digits"][0]
    entries.append(entry(0, recipe=name, experiment=fingerprint(values_of(name))), tmp_path)
    entries.append(entry(1, recipe=name, experiment="of another day"), tmp_path)
    todo = list(missing(["digits"], 2, tmp_path))
    assert (name, 0) not in todo and (name, 1) in todo and len(todo) == 2 * len(REDUCED["digits"]) - 1
    assert {of for names in REDUCED.values() for of in names} <= set(recipes())


def test_an_entry_stays_when_fields_come_that_are_at_their_defaults(tmp_path):
    values = stored()
    del values[NAME]["skip_norm"]
    of = fingerprint(values)
    assert of != fingerprint(values_of(NAME))
    entries.append(entry(0, 1.0, recipe=NAME, experiment=of), tmp_path)
    entries.append(entry(0, 2.0, recipe=NAME, experiment=fingerprint(values_of(NAME))), tmp_path)
    assert [found["scores"]["FD-classifier"]["value"] for found in entries.of_experiment(NAME, folder=tmp_path)] == [2]
    entries.keep(values, of, tmp_path)
    entries.append(entry(1, 3.0, recipe=NAME, experiment=of), tmp_path)
    assert [found["seed"] for found in entries.of_experiment(NAME, folder=tmp_path)] == [0, 1]
    values[NAME]["steps"] += 1
    entries.keep(values, fingerprint(values), tmp_path)
    entries.append(entry(2, 4.0, recipe=NAME, experiment=fingerprint(values)), tmp_path)
    assert [found["seed"] for found in entries.of_experiment(NAME, folder=tmp_path)] == [0, 1]


# --- the page --------------------------------------------------------------------------------------------------------


def test_published_scores_are_those_that_the_recipes_say():
    for name, scores in ledger.published().items():
        for score in scores:
            assert score["value"] in recipes()[name].expected, (name, score)


def test_a_recipe_is_reproduced_where_our_interval_holds_the_published_score():
    def ours(value, low, high):
        return [ledger.Ours("NLL of test images, nats", value, low, high, 1, "", "", {}, "", "")]

    assert ledger.status("vae_mnist", ours(90.1, 89.7, 90.5)) == "reproduced"  # 89.78
    assert ledger.status("vae_mnist", ours(80.0, 79.0, 81.0)) == "reproduced"  # better
    assert ledger.status("vae_mnist", ours(91.0, 90.0, 92.0)) == "differs"
    assert ledger.status("vae_mnist", []) == ledger.status("gpt_digits", []) == "open"
    assert ledger.status("gpt_digits", ours(1.0, None, None)) == "reduced"


def test_a_figure_is_older_than_a_recipe_that_has_changed_since(tmp_path):
    (tmp_path / "a.png").touch()
    figures.stamp("a.png", [NAME, "v_digits"], tmp_path)
    assert not list(figures.older(tmp_path))
    kept = entries.experiments(tmp_path)
    of = figures.stamps(tmp_path)["a.png"]
    kept[of[NAME]][NAME]["batch_size"] = 4
    (tmp_path / entries.EXPERIMENTS).write_text(json.dumps(kept))
    assert list(figures.older(tmp_path)) == [("a.png", NAME, ["gpt_digits.batch_size (4 then, 128 now)"])]
    with pytest.raises(ValueError, match="there is no .*b.png: give the name"):
        figures.stamp("b.png", [], tmp_path)


@pytest.mark.slow
def test_the_page_is_what_its_files_say_and_every_figure_says_what_it_is_of():
    import importlib.util

    spec = importlib.util.spec_from_file_location("ledger_script", ROOT / "scripts" / "ledger.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.problems() == []


def test_means_over_seeds_have_students_interval_and_one_seed_its_own():
    scores = [{"value": 1.0, "low": 0.5, "high": 2.0}]
    assert summary.mean_of(scores) == (1.0, 0.5, 2.0)
    mean, low, high = summary.mean_of([{"value": value} for value in (1.0, 2.0, 3.0)])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


# --- a whole run -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_recipe_is_reproduced_seed_by_seed(tmp_path, capsys):
    words = "--steps 2 --batch_size 16 --model.network.encoder.width 4 --model.network.decoder.width 4".split()
    places = ["--workdir", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    reproduce.main(["vqvae_digits", *places, *words])
    assert "nothing to compare with yet" in capsys.readouterr().out
    with pytest.raises(SystemExit):  # another seed is elsewhere after two steps, than the first's images say
        reproduce.main(["vqvae_digits", *places, *words])
    assert "outside, by" in capsys.readouterr().out
    first, second = entries.read(tmp_path / "out")
    assert (first["seed"], second["seed"], first["steps"]) == (0, 1, 2)
    assert first["experiment"] == second["experiment"] != fingerprint(values_of("vqvae_digits"))
    assert first["scores"]["PSNR"]["value"] != second["scores"]["PSNR"]["value"]
    assert first["training_tflop"] > 0 and first["parameters"] > 0 and first["command"].endswith("--seed 0")
    assert list(entries.experiments(tmp_path / "out")) == [first["experiment"]]
