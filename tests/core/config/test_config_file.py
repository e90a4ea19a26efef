"""Experiments as YAML: every recipe is read as it was written, and what a hand may write is read as it is meant."""

import pytest

import imagegen_jax as ig
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.recipes.shipped import recipes


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted({recipe.family for recipe in recipes().values()}))
def test_every_recipe_is_read_as_it_was_written(family, tmp_path):
    names = [name for name, recipe in recipes().items() if recipe.family == family]
    assert names
    for name in names:
        experiment = ig.recipe(name)
        again = ig.load_config(ig.save_config(experiment, tmp_path / f"{name}.yaml"))
        assert again == experiment and repr(to_dict(again)) == repr(to_dict(experiment)), name


def config(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_a_recipe_with_changes(tmp_path):
    found = ig.load_config(config(tmp_path, """
        recipe: flow_digits
        steps: 2_000
        optim.network.lr: 1e-4
        optim:
          network: {b2: 0.99}
        clip_norm: 1
        pretrained: {network: runs/a}
        evaluation: null
        model:
          solver: {class: "imagegen_jax.diffusion.sampling.heun:Heun"}
    """))  # fmt: skip
    assert (found.steps, found.optim["network"].lr, found.optim["network"].b2) == (2_000, 1e-4, 0.99)
    assert found.clip_norm == 1 and found.pretrained["network"] == "runs/a" and found.evaluation is None
    assert type(found.model.solver).__name__ == "Heun"
    assert found.batch_size == ig.recipe("flow_digits").batch_size


def test_words_that_yaml_1_1_takes_for_numbers_and_truths_stay_words(tmp_path):
    found = ig.load_config(config(tmp_path, "recipe: flow_digits\nname: no\n"))
    assert found.name == "no"
    assert ig.load_config(config(tmp_path, "recipe: flow_digits\nname: 12:30:45\n")).name == "12:30:45"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recipe: flow_digits\nstepz: 3", "did you mean 'steps'"),
        ("recipe: flow_digits\nsteps: many", "steps='many' is of the wrong type"),
        ("recipe: flow_digit", "did you mean 'flow_digits'"),
        ("recipe: flow_digits\nsteps: 3\nsteps: 4", "steps is given twice"),
        ("a: &x [1]\nb: *x", "refers to \\*x"),
        ("recipe: [flow", "is no YAML, line"),
        ("- 1", "it holds no experiment"),
        ("steps: 3", "it holds no experiment"),
        ("class: imagegen_jax.core.optim:Adam\nlr: 1", "holds a Adam, not an Experiment"),
        ("class: os:system", "outside imagegen_jax"),
        ("recipe: flow_digits\noptim: 3\noptim.network.lr: 1", "optim is given twice"),
        ("recipe: flow_digits\nmodel: {solver: {class: imagegen_jax.core.optim:Adam, lr: 1}}", "wrong type"),
        ("\x00", "is no YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_file(tmp_path, text, message):
    with pytest.raises((ValueError, TypeError), match=message) as error:
        ig.load_config(config(tmp_path, text))
    assert "run.yaml" in str(error.value)


def test_a_whole_file_with_a_wrong_value_is_refused(tmp_path):
    path = ig.save_config(ig.recipe("flow_digits"), tmp_path / "run.yaml")
    path.write_text(path.read_text().replace("steps: ", "steps: a"))
    with pytest.raises((ValueError, TypeError), match="run.yaml"):
        ig.load_config(path)


def test_a_run_and_a_file_of_ones_own_are_recipes_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import imagegen_jax as ig\nexperiment = ig.override(ig.recipe('flow_digits'), {'steps': 7})\n"
    )
    assert ig.load_config(config(tmp_path, "recipe: mine.py\nseed: 3")).steps == 7
