"""An experiment as a value: stored and rebuilt, compared, changed by name, refused where it cannot be right."""

import dataclasses
import importlib
import json
import math
import re
import typing

import numpy as np
import pytest
from toys import Game, Regression, ToyData

import imagegen_jax as ig
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import differences, from_dict, to_dict
from imagegen_jax.core.drawing.draw import check_conditions, class_rows
from imagegen_jax.core.optim import SGD, Adam, ClipWeights, CosineDecay
from imagegen_jax.data import Digits
from imagegen_jax.diffusion.sampling.discrete_time import DDIM, Ancestral
from imagegen_jax.recipes.shipped import recipes

pytestmark = pytest.mark.versions

NAMES = sorted(recipes())
TOY = ig.Experiment(name="toy", model=Game(), data=ToyData(), optim={"generator": Adam(), "critic": SGD()})


def recipe(name):
    return importlib.import_module(f"experiments.{name}")


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_survives_json(name):
    module = recipe(name)
    for value in (module.experiment, override(module.experiment, module.smoke)):
        stored = json.loads(json.dumps(to_dict(value)))
        assert from_dict(stored) == value and hash(from_dict(stored)) == hash(value)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_is_documented(name):
    text = recipe(name).__doc__
    assert f"python -m experiments.{name}" in text
    assert "arXiv" in text or "doi:10." in text  # papers from before arXiv
    assert recipes()[name].cost and recipes()[name].expected


def test_classes_from_elsewhere_are_rebuilt_only_when_named():
    stored = to_dict(TOY)
    with pytest.raises(ValueError, match="module 'toys', outside imagegen_jax"):
        from_dict(stored)
    assert from_dict(stored, modules=("toys",)) == TOY


@pytest.mark.parametrize(
    "tag", ["os:system", "imagegen_jax.core.optim:Nothing", "imagegen_jax.core.optim:math", "imagegen_jax.core.run:fit"]
)
def test_a_file_cannot_name_anything_but_a_dataclass(tag):
    with pytest.raises(ValueError, match=tag.split(":")[-1]):
        from_dict({"class": tag})


def test_what_json_cannot_hold_is_named():
    value = dataclasses.replace(TOY, augment=(lambda batch, keys: batch,))
    with pytest.raises(TypeError, match=r"experiment\.augment\.0 is a function"):
        to_dict(value)


def test_differences_name_each_field():
    changed = dataclasses.replace(TOY, steps=7, optim={"generator": Adam(CosineDecay(1e-3)), "critic": SGD()})
    found = differences(to_dict(TOY), to_dict(changed))
    assert found["steps"] == (10_000, 7)
    assert {"optim.generator.lr", "optim.generator.lr.peak"} < set(found)
    assert differences(to_dict(TOY), to_dict(TOY)) == {}


@dataclasses.dataclass(frozen=True)
class Between:
    low: int = 1
    high: int = 2

    def __post_init__(self):
        if self.low >= self.high:
            raise ValueError(f"low={self.low}: must be below high={self.high}")


@pytest.mark.parametrize("order", [("low", "high"), ("high", "low")])
@pytest.mark.parametrize(("low", "high"), [(5, 6), (-2, -1)])
def test_values_that_go_together_are_overridden_in_any_order(order, low, high):
    values = {"low": low, "high": high}
    assert override(Between(), {name: values[name] for name in order}) == Between(low, high)
    with pytest.raises(ValueError, match="must be below"):
        override(Between(), {"low": 2})


def test_override_reaches_every_depth():
    value = override(recipe("ddpm_cifar10").experiment, {"model.network.width": 32, "optim.network.lr.peak": 1.0})
    assert value.model.network.width == 32 and value.optim["network"].lr.peak == 1.0
    assert override(value, {"data": Digits(), "data.size": 16}).data == Digits(size=16)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"stepz": 1}, ValueError, "did you mean 'steps'"),
        ({"optim.generater.lr": 1.0}, ValueError, "did you mean 'generator'"),
        ({"optim.generator.lrr": 1.0}, ValueError, "did you mean 'lr'"),
        ({"steps.x": 1}, ValueError, "has no fields"),
        ({"steps": "many"}, TypeError, "steps='many'"),
        ({"clip_norm": "no"}, TypeError, "clip_norm='no'"),
        ({"steps": 0}, ValueError, "steps=0"),
        ({"seed": -1}, ValueError, "seed=-1"),
        ({"clip_norm": math.nan}, ValueError, "clip_norm=nan"),
        ({"model": 3}, TypeError, "no model"),
    ],
)
def test_wrong_changes_are_refused(changes, error, words):
    with pytest.raises(error, match=words):
        override(TOY, changes)


def test_options_change_what_they_name():
    value = parse_overrides(recipe("ddpm_cifar10").experiment, ["--batch-size", "64", "--mesh.fsdp", "2"], "x")
    assert value.batch_size == 64 and value.mesh.fsdp == 2
    value = parse_overrides(value, ["--model.sampler", "ddim", "--model.sampler.steps", "10"], "x")
    assert value.model.sampler == DDIM(steps=10)
    value = parse_overrides(value, ["--model.sampler=ancestral", "--model.sampler.steps", "10"], "x")
    assert value.model.sampler == Ancestral(steps=10)
    value = parse_overrides(value, ["--optim.network.lr", "1e-3", "--model.network.multipliers", "1", "2"], "x")
    assert value.optim["network"].lr == 1e-3 and value.model.network.multipliers == (1, 2)


@pytest.mark.parametrize("option", [("--model.sampler", "euler"), ("--optim.network.lr", "fast"), ("--stepz", "1")])
def test_wrong_options_leave_with_a_message(option, capsys):
    with pytest.raises(SystemExit) as left:
        parse_overrides(recipe("ddpm_cifar10").experiment, option, "x")
    said = str(left.value) + "".join(capsys.readouterr())
    assert option[1] in said or "steps" in said


def test_frozen_maps_are_values():
    one, other = FrozenMap({"a": 1, "b": 2}), FrozenMap({"b": 2, "a": 1})
    assert one == other == {"a": 1, "b": 2} and hash(one) == hash(other) and list(one) == ["a", "b"]
    with pytest.raises(TypeError):
        one["c"] = 3


def test_projections_and_rates_are_checked_when_the_experiment_is_made():
    with pytest.raises(ValueError, match=r"optim\.generator\.project\.0\.limit=-1"):
        dataclasses.replace(TOY, optim={"generator": Adam(project=(ClipWeights(-1.0),)), "critic": SGD()})


@dataclasses.dataclass(frozen=True)
class Classes(Regression):
    num_classes: int = 3


@pytest.mark.parametrize(
    ("model", "labels", "words"),
    [
        (Classes(), None, "3 classes"),
        (Classes(), [0, 1, 3, 2], "labels: 3 is out of range.*0 to 2"),
        (Classes(), [0, -1, 1, 2], "labels: -1 is out of range"),
        (Classes(), [0, 1], "4 images"),
        (Regression(), [0, 1, 2, 0], "knows no classes"),
    ],
)
def test_wrong_labels_are_refused(model, labels, words):
    with pytest.raises(ValueError, match=words):
        check_conditions(model, 4, {} if labels is None else {"label": np.array(labels)})


def test_labels_out_of_the_models_range_are_refused_before_training():
    value = dataclasses.replace(TOY, model=Classes(num_classes=2), optim={"network": SGD()})
    with pytest.raises(ValueError, match="labels from 0 to 2: set model.num_classes to 3"):
        ig.Program(value)


def test_grids_have_a_class_a_row():
    labels, columns = class_rows(10, 64)
    assert columns == 6 and labels.reshape(10, 6)[:, 0].tolist() == list(range(10))
    assert class_rows(0, 64) == (None, 8)
    labels, columns = class_rows(1000, 64)
    assert columns == 1 and len(labels) == 64


WHOLE_NUMBERS = {
    "microbatches": 1, "batch_size": 1, "steps": 1, "log_every": 1, "sample_every": 0, "samples": 1,
    "checkpoint_every": 1, "keep_checkpoints": 1, "snapshots": 1, "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize("field", WHOLE_NUMBERS)
def test_a_whole_number_that_cannot_be_used_is_refused_by_name(field):
    least = WHOLE_NUMBERS[field]
    wrong = [least - 1, -(10**30), 2**32, 10**22, 1.0, float("nan"), "3", None, True]
    for value in wrong if field == "seed" else [*wrong, 2**31]:
        refusal = f"^{field}={re.escape(repr(value))}: must be an integer, at least {least} and at most "
        with pytest.raises(ValueError, match=refusal):
            dataclasses.replace(TOY, **{field: value})
    assert getattr(dataclasses.replace(TOY, **{field: 2**31 - 1}), field) == 2**31 - 1


def test_every_field_that_is_an_int_is_checked():
    fields = {name for name, hint in typing.get_type_hints(ig.Experiment).items() if hint is int}
    assert fields == set(WHOLE_NUMBERS)
