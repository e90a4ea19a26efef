"""Which recipes are trained by tests, and which are traced alone: computed of what they are made of, never listed.

What a recipe is made of is a set of parts: which class is in which field of which class. Those that are trained have
every part of every recipe among them; the others are the same parts in other combinations, or with other numbers. A
network that is frozen counts as what its model is, since it is used by that model's protocol alone: what it is made of
is a part of the recipes that train it. A schedule of noise is a table of numbers.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import imagegen_jax as ig
from imagegen_jax.core.config.serial import fields_of
from imagegen_jax.core.model import frozen_networks
from imagegen_jax.nn.distributions.noise_steps import CosineSchedule, LinearSchedule
from imagegen_jax.recipes.shipped import recipes

NAMES = sorted(recipes())
Part = tuple[str, ...]  # a class, the field in it, and which class is there, or "nothing"
TABLES = (CosineSchedule, LinearSchedule)  # of numbers, for the programs that are made of them


def small(name: str) -> ig.Experiment:
    """The recipe of that name as its `smoke` shrinks it."""
    module = importlib.import_module(f"experiments.{name}")
    return ig.override(module.experiment, module.smoke)


def parts(experiment: ig.Experiment) -> frozenset[Part]:
    """What a training step and a sampler are made of: not how large, how many, how long, nor on which data."""
    found = set(_parts(experiment.model, ("model",), frozen_networks(experiment.model)))
    for name in ("optim", "averages", "augment", "lora", "clip_norm", "skip_norm"):
        value = getattr(experiment, name)
        found |= set(_parts(tuple(value.values()) if isinstance(value, Mapping) else value, (name,)))
    return frozenset(found | {("accumulates",)} if experiment.microbatches > 1 else found)


def _parts(value: Any, at: Part, frozen: tuple[str, ...] = ()) -> Iterator[Part]:
    if dataclasses.is_dataclass(value) and not isinstance(value, TABLES):
        kind = type(value).__qualname__
        yield (*at, kind)
        for field in fields_of(value):
            part = getattr(value, field.name)
            if field.name in frozen:
                yield (kind, field.name, type(part).__qualname__)
            else:
                yield from _parts(part, (kind, field.name))
    elif isinstance(value, Mapping):
        yield from (part for name, item in value.items() for part in _parts(item, (*at, str(name))))
    elif value is None or value == ():
        yield (*at, "nothing")
    elif isinstance(value, tuple):
        yield (*at, "something")
        yield from (part for item in value for part in _parts(item, at))


def chosen(made_of: Mapping[str, frozenset[Part]], first: Iterable[str] = ()) -> tuple[str, ...]:
    """The fewest recipes that have every part among them, as far as the greedy choice finds them; `first` are in.

    After these comes, each time, the one with most parts that none before it has, of such the one with the fewest. One
    of which all parts came with later ones is left out again.
    """
    first = list(first)
    found = list(first)
    missing = frozenset().union(*made_of.values()).difference(*(made_of[name] for name in found))
    while missing:
        found.append(max(sorted(made_of), key=lambda name: (len(made_of[name] & missing), -len(made_of[name]))))
        missing -= made_of[found[-1]]
    return _without_spare(found, made_of, len(first))


def _without_spare(names: list[str], made_of: Mapping[str, frozenset[Part]], begin: int) -> tuple[str, ...]:
    for name in names[begin:]:
        others = [other for other in names if other != name]
        if made_of[name] <= frozenset().union(*(made_of[other] for other in others)):
            names = others
    return tuple(names)


RECIPES = {name: small(name) for name in NAMES}
FAST = ("dcgan_mnist", "vae_mnist", "ddpm_digits", "edm_digits")  # one a family, for the tests that take seconds
TRAINED = chosen({name: parts(recipe) for name, recipe in RECIPES.items()}, FAST)
