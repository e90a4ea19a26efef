"""Which recipes are trained by tests, and which are traced alone: computed of what they are made of, never listed.

Of two recipes that are made of the same classes, in the same places of the same model, one is trained: the other is the
same program with other numbers. What a recipe is made of is a set of parts, and those that are trained have every part
of every recipe among them.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import imagegen_jax as ig
from imagegen_jax.core.config.serial import fields_of
from imagegen_jax.recipes.shipped import recipes

NAMES = sorted(recipes())
Part = tuple[str, ...]  # where in a recipe, below which classes, and which class is there, or "nothing"


def small(name: str) -> ig.Experiment:
    """The recipe of that name as its `smoke` shrinks it."""
    module = importlib.import_module(f"experiments.{name}")
    return ig.override(module.experiment, module.smoke)


def parts(experiment: ig.Experiment) -> frozenset[Part]:
    """What a training step and a sampler are made of: not how large, how many, how long, nor on which data."""
    model = type(experiment.model).__name__
    found = {(model, *part) for part in _parts(experiment.model)}
    for name in ("optim", "averages", "augment", "lora", "clip_norm", "skip_norm"):
        value = getattr(experiment, name)
        found |= {(name, *part) for part in _parts(tuple(value.values()) if isinstance(value, Mapping) else value)}
    return frozenset(found | {("accumulates",)} if experiment.microbatches > 1 else found)


def _parts(value: Any) -> Iterator[Part]:
    if dataclasses.is_dataclass(value):
        yield (type(value).__qualname__,)
        for field in fields_of(value):
            yield from ((type(value).__qualname__, field.name, *part) for part in _parts(getattr(value, field.name)))
    elif isinstance(value, Mapping):
        yield from ((str(name), *part) for name, item in value.items() for part in _parts(item))
    elif value is None or value == ():
        yield ("nothing",)
    elif isinstance(value, tuple):
        yield ("something",)
        yield from (part for item in value for part in _parts(item))


def chosen(made_of: Mapping[str, frozenset[Part]], first: Iterable[str] = ()) -> tuple[str, ...]:
    """The fewest recipes that have every part among them, as far as the greedy choice finds them; `first` are in.

    After these comes, each time, the one with most parts that none before it has.
    """
    found = list(first)
    missing = frozenset().union(*made_of.values()).difference(*(made_of[name] for name in found))
    while missing:
        found.append(max(sorted(made_of), key=lambda name: len(made_of[name] & missing)))
        missing -= made_of[found[-1]]
    return tuple(found)


RECIPES = {name: small(name) for name in NAMES}
FAST = ("dcgan_mnist", "vae_mnist", "ddpm_digits", "edm_digits")  # one a family, for the tests that take seconds
TRAINED = chosen({name: parts(recipe) for name, recipe in RECIPES.items()}, FAST)
