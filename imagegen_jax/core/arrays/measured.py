"""Scale and shift that a space takes from the data, before a training begins: the run's experiment has the numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn

from imagegen_jax.core.arrays.space import Latents
from imagegen_jax.core.source import Encoded, Measured


def wants_measures(model: Any) -> bool:
    """Tells whether a space in `model` says "measured"."""
    return with_measures(model, Measured(1.0, 0.0)) is not model


def with_measures(model: Any, measured: Measured) -> Any:
    """Returns a model whose spaces have these numbers where they say "measured"; the model itself where none does."""
    if not dataclasses.is_dataclass(model) or isinstance(model, (type, nn.Module)):
        return model
    given = {field.name: getattr(model, field.name) for field in dataclasses.fields(model) if field.init}
    if isinstance(model, Latents):
        found = {name: value for name, value in measured._asdict().items() if given[name] == "measured"}
    else:
        changed = {name: with_measures(value, measured) for name, value in given.items()}
        found = {name: value for name, value in changed.items() if value is not given[name]}
    return dataclasses.replace(model, **found) if found else model


def measures_of(data: Any) -> Measured:
    """Returns scale and shift of latents. Raises ValueError for data that do not say them."""
    found = data.measured if isinstance(data, Encoded) else None
    if found is None:
        raise ValueError(
            "model.space is measured, but the data do not say their scale and shift: train on latents that `imagegen "
            "encode` has written, or give the space the numbers that it prints"
        )
    return found
