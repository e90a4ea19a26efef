"""What the numbers of an experiment may be: declared for every field, and held to wherever an experiment is made."""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import json
import math
import typing

import pytest
from toy_experiment import experiment as toy
from toys import Regression, ToyData

from imagegen_jax import Experiment
from imagegen_jax.core.config.bounds import BelowOne, Count, Positive, Range, check_fields
from imagegen_jax.core.config.command_line import parse_overrides
from imagegen_jax.core.config.override import override
from imagegen_jax.core.config.serial import fields_of, from_dict, to_dict
from imagegen_jax.core.optim import SGD, Adam, AdamW, CosineDecay, LinearDecay, RMSprop, WarmUp
from imagegen_jax.diffusion.guidance.fields import GuidanceInterval
from imagegen_jax.diffusion.models.ddpm import DDPM
from imagegen_jax.diffusion.sampling.heun import Heun
from imagegen_jax.nn.backbones.unet import UNet
from imagegen_jax.recipes.shipped import recipes

pytestmark = pytest.mark.versions


@dataclasses.dataclass(frozen=True)
class Every:
    count: Count | None = 2
    sides: tuple[Count, ...] = (2, 4)
    share: BelowOne = 0.5
    width: Positive = 1.0
    free: float = -1.0
    limit: float = math.inf
    flag: bool = False
    offset: int = -1
    two: typing.Annotated[float | None, Range(0, 2)] = 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "at.count=0: must be at least 1 and at most 2147483647"),
        ({"count": 2**31}, "at.count=2147483648: must be at least 1"),
        ({"count": 10**400}, r"at.count=10000000000000000000\.\.\. \(401 digits\)"),
        ({"count": 1.5}, "at.count=1.5: must be an integer"),
        ({"sides": (2, -4)}, "at.sides.1=-4: must be at least 1"),
        ({"share": 1.0}, "at.share=1.0: must be at least 0 and below 1"),
        ({"share": -0.1}, "at.share=-0.1: must be at least 0 and below 1"),
        ({"share": math.nan}, "at.share=nan: must be a finite number, at least 0 and below 1"),
        ({"width": 0.0}, "at.width=0.0: must be above 0"),
        ({"width": math.inf}, "at.width=inf: must be a finite number, above 0"),
        ({"free": math.nan}, "at.free=nan: must be a finite number"),
        ({"free": -math.inf}, "at.free=-inf: must be a finite number"),
        ({"limit": -math.inf}, "at.limit=-inf: must be a finite number"),
        ({"limit": math.nan}, "at.limit=nan: must be a finite number"),
        ({"two": 2.5}, "at.two=2.5: must be at least 0 and at most 2"),
    ],
)
def test_a_number_out_of_its_range_is_named_with_path_and_range(changes, message):
    with pytest.raises(ValueError, match=message):
        check_fields(dataclasses.replace(Every(), **changes), "at")


@pytest.mark.parametrize(
    "changes", [{}, {"count": None}, {"sides": ()}, {"free": 1e30}, {"limit": 0.0}, {"two": None}, {"offset": -5}]
)
def test_what_is_in_range_passes(changes):
    check_fields(dataclasses.replace(Every(), **changes), "at")


@pytest.mark.parametrize(
    ("optimizer", "field"),
    [
        *((kind(**{name: bad}), name) for kind in (Adam, AdamW) for name in ("b1", "b2") for bad in (2.0, 1.0, -0.1)),
        *((kind(**{name: bad}), name) for kind in (Adam, AdamW, RMSprop) for name in ("lr", "eps") for bad in (-1.0,)),
        (AdamW(weight_decay=-1.0), "weight_decay"),
        (AdamW(weight_decay=math.inf), "weight_decay"),
        (RMSprop(decay=1.5), "decay"),
        (SGD(momentum=1.0), "momentum"),
        (Adam(b2=CosineDecay(0.9, floor=1.5)), "b2.floor"),
        (Adam(lr=WarmUp(-1.0, 5)), "lr.peak"),
        (Adam(lr=WarmUp(1.0, -5)), "lr.steps"),
        (Adam(lr=LinearDecay(1.0, floor=math.nan)), "lr.floor"),
    ],
)  # fmt: skip
def test_optimizers_and_their_schedules_are_held_to_their_ranges_in_training(optimizer, field):
    with pytest.raises(ValueError, match=f"^optim.network.{field}="):
        Experiment("toy", Regression(), ToyData(), {"network": optimizer})


def ddpm(**changes):
    return Experiment("ddpm", DDPM(UNet(**changes)), ToyData(), {"network": Adam()})


@pytest.mark.parametrize(
    ("name", "bad"),
    [("dropout", 2.0), ("dropout", 1.0), ("dropout", math.nan), ("width", 0), ("blocks", -1), ("multipliers", (1, 0))],
)
def test_networks_are_held_to_their_ranges_however_an_experiment_is_made(name, bad):
    with pytest.raises(ValueError, match=f"^model.network.{name}"):
        ddpm(**{name: bad})
    with pytest.raises(ValueError, match=f"^model.network.{name}"):
        override(ddpm(), {f"model.network.{name}": bad})
    stored = to_dict(ddpm())
    stored["model"]["network"][name] = list(bad) if isinstance(bad, tuple) else bad
    with pytest.raises(ValueError, match=f"^model.network.{name}"):
        from_dict(json.loads(json.dumps(stored)), ["toys"])


def test_the_command_line_says_the_path_and_still_takes_what_is_in_range():
    with pytest.raises(ValueError, match="^model.network.dropout=2.0: must be at least 0 and below 1"):
        parse_overrides(ddpm(), ["--model.network.dropout", "2"], "x")
    changed = parse_overrides(ddpm(), ["--model.network.dropout", "0.25", "--model.network.width", "32"], "x")
    assert (changed.model.network.dropout, changed.model.network.width) == (0.25, 32)
    with pytest.raises(ValueError, match="^clip_norm=inf: must be a finite number, above 0"):
        override(toy, {"clip_norm": math.inf})


def test_limits_that_are_infinite_by_default_may_be_so():
    check_fields(Heun())
    check_fields(GuidanceInterval(low=1.0))


def test_a_class_of_a_users_own_needs_no_ranges_but_finite_numbers():
    with pytest.raises(ValueError, match="^model.noise=nan: must be a finite number"):
        Experiment("toy", Regression(noise=math.nan), ToyData(), {"network": Adam()})
    with pytest.raises(ValueError, match="^data.scale=inf"):
        Experiment("toy", Regression(), ToyData(scale=math.inf), {"network": Adam()})


def numbers_without_a_range():
    """The integer fields of the package, of all classes that recipes hold or may hold, that declare no range."""
    found, seen = set(), set()

    def look(part):
        if isinstance(part, type) and dataclasses.is_dataclass(part):
            if part not in seen:
                seen.add(part)
                of_class(part)
        elif dataclasses.is_dataclass(part):
            look(type(part))
            for field in fields_of(part):
                look(getattr(part, field.name))
        elif isinstance(part, (collections.abc.Mapping, tuple)):
            for item in part.values() if isinstance(part, collections.abc.Mapping) else part:
                look(item)
        else:
            for item in typing.get_args(part):
                look(item)

    def of_class(cls):
        for name, hint in typing.get_type_hints(cls, include_extras=True).items():
            parts = [part for option in (hint, *typing.get_args(hint)) for part in (option, *typing.get_args(option))]
            if int in parts and name in {field.name for field in fields_of(cls)} and "Range" not in str(hint):
                found.add(f"{cls.__module__}:{cls.__qualname__}.{name}")
            look(hint)

    for name in recipes():
        module = importlib.import_module(f"experiments.{name}")
        look(module.experiment)
        look(module.smoke)
    return {name for name in found if name.startswith("imagegen_jax")}, seen


def test_every_integer_that_a_recipe_can_set_declares_its_range(root, monkeypatch):
    monkeypatch.syspath_prepend(root)
    without, seen = numbers_without_a_range()
    assert len(seen) > 100
    assert not without
