"""What a figure was measured of: the experiment, as values, and whether the recipe is still that.

"The code that a figure measures" is the recipe: every value of its experiment, and of the recipes that its weights come
from, but for `BOOKKEEPING`, which no array of the last step depends on. That the same experiment trains to the same
arrays is what the tests hold; a change of a default, a width, a rate or a length is seen here, and named.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax import Experiment
from imagegen_jax.core.checkpoints.weights import FromRun
from imagegen_jax.core.config.serial import differences, renewed, to_dict
from imagegen_jax.recipes.shipped import recipe, recipes

Values = Mapping[str, Any]  # recipe -> its experiment, as JSON holds it
BOOKKEEPING = (
    "name", "seed", "mesh", "log_every", "sample_every", "samples", "evaluation", "checkpoint_every",
    "keep_checkpoints", "snapshots", "pretrained",
)  # fmt: skip


def sources(experiment: Experiment) -> dict[str, str]:
    """Returns the recipe that each network's weights come from, by network."""
    given = {
        network: weights.path if isinstance(weights, FromRun) else str(weights).partition(":")[0]
        for network, weights in experiment.pretrained.items()
    }
    named = {network: pathlib.Path(path).name for network, path in given.items()}
    return {network: name for network, name in named.items() if name in recipes()}


def values_of(name: str, experiment: Experiment | None = None) -> Values:
    """Returns all values that a recipe's networks follow from, or those of a changed `experiment` of it."""
    experiment = experiment or recipe(name)
    found = {name: {field: value for field, value in to_dict(experiment).items() if field not in BOOKKEEPING}}
    for first in sources(experiment).values():
        found |= values_of(first)
    return found


def fingerprint(values: Values) -> str:
    """Returns 16 digits that stand for these values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def changed(values: Values, name: str, experiment: Experiment | None = None) -> list[str]:
    """Names what differs between stored values and the recipe as it is now: [] where a figure is still of it.

    Classes that have been moved and fields that came later, at their defaults, are no difference.
    """
    if name not in recipes():
        return [f"there is no recipe {name!r}"]
    experiments = {name: experiment or recipe(name)}
    experiments |= {first: recipe(first) for first in values if first != name and first in recipes()}
    found = []
    now = values_of(name, experiments[name])
    for part in [*values, *(part for part in now if part not in values)]:
        if part not in values or part not in now:
            found.append(f"{part} ({'was not' if part not in values else 'is no longer'} trained first)")
            continue
        then = renewed(dict(values[part]), experiments[part])
        found += [f"{part}.{path} ({_said(pair)})" for path, pair in differences(then, now[part]).items()
                  if path.split(".")[0] not in BOOKKEEPING]  # fmt: skip
    return found


def _said(pair: tuple[Any, Any]) -> str:
    return f"{pair[0]} then, {pair[1]} now"
