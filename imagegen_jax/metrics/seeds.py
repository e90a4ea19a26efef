"""Which runs of a leaderboard are seeds of one another: their mean and its interval then stand for the experiment."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence

from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.run_folder import load_changes, load_contents, load_experiment
from imagegen_jax.metrics.card import Card

FREE = ("seed", "name")  # the fields that seeds of one experiment may differ in: a name is but that of a folder


def entries_of(results: Mapping[str, list[Card]], modules: Sequence[str] = ()) -> dict[str, list[list[Card]]]:
    """Groups runs, folder -> cards, by their experiments: entry -> the cards of each of its seeds.

    Runs are of one entry where their experiments are equal but for `FREE`, their data have the same content, they were
    not changed on the way in different ways, were measured at the same step, and have different seeds. An entry of
    several is called by what their folders' names have in common before a trailing number, where that is theirs alone.
    Raises RunFolderError where there is no run, and as `from_dict` does where its experiment cannot be read.
    """
    groups: dict[str, list[dict[int, str]]] = {}
    for target, cards in results.items():
        folder = pathlib.Path(target)
        seed, identity = seed_and_identity(folder, modules)
        at = cards[0].images.removeprefix(str(folder)) if cards else ""
        alike = groups.setdefault(json.dumps([identity, at]), [{}])
        open_to_it = [seeds for seeds in alike if seed not in seeds]
        if not open_to_it:
            alike.append({})
        (open_to_it or alike[-1:])[0][seed] = target
    members = [list(seeds.values()) for alike in groups.values() for seeds in alike]
    return {name: [results[target] for target in of] for name, of in zip(_names(members), members, strict=True)}


def seed_and_identity(folder: pathlib.Path, modules: Sequence[str] = ()) -> tuple[int, str]:
    """Returns a run's seed, and a text that runs share which differ in `FREE` and their lengths alone.

    Raises RunFolderError where there is no run or a file of it is damaged, and as `from_dict` does.
    """
    experiment = load_experiment(folder, modules)
    fixed = {field: value for field, value in to_dict(experiment).items() if field not in FREE}
    changes = [{field: change for field, change in at.items() if field != "steps"} for at in load_changes(folder)]
    content = [fixed, load_contents(folder), [change for change in changes if change]]
    return experiment.seed, json.dumps(content, sort_keys=True)


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    """A name for each entry, the shortest kind of which all are different."""
    folders = [[pathlib.Path(target).resolve().name for target in group] for group in groups]
    short = [_stem(names) or ", ".join(names) for names in folders]
    for found in (short, [", ".join(names) for names in folders]):
        if len(set(found)) == len(found):
            return found
    return [", ".join(group) for group in groups]


def _stem(names: Sequence[str]) -> str:
    """What several names share before a trailing number: a of a_seed1 and a_seed2; "" where that is nothing."""
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"[-_]?(seed)?[-_]?\d+$", "", name) for name in names}
    return stems.pop() if len(stems) == 1 else ""
