"""Finds the runs of a leaderboard that are seeds of one experiment; their mean and its interval then stand for it."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping, Sequence

from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.run_folder import load_changes, load_contents, load_experiment
from imagegen_jax.metrics.card import Card

FREE = ("seed", "name")  # fields in which seeds of one experiment may differ: a name only names a folder


def entries_of(results: Mapping[str, list[Card]], modules: Sequence[str] = ()) -> dict[str, list[list[Card]]]:
    """Groups runs, folder -> cards, by their experiments: entry -> the cards of each of its seeds.

    Runs form one entry where their experiments are equal but for `FREE`, their data have the same content, changes on
    the way were the same, they were measured at the same step, and their seeds differ. An entry of several is named by
    what their folders' names share before a trailing number, where no other entry shares it. Raises RunFolderError
    where there is no run, and as `from_dict` does where its experiment cannot be read.
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
    """Returns a run's seed, and a text that is the same for runs that differ only in `FREE` and in their lengths.

    Raises RunFolderError where there is no run or a file of it is damaged, and as `from_dict` does.
    """
    experiment = load_experiment(folder, modules)
    fixed = {field: value for field, value in to_dict(experiment).items() if field not in FREE}
    changes = [{field: change for field, change in at.items() if field != "steps"} for at in load_changes(folder)]
    content = [fixed, load_contents(folder), [change for change in changes if change]]
    return experiment.seed, json.dumps(content, sort_keys=True)


def _names(groups: Sequence[Sequence[str]]) -> list[str]:
    """Names each entry, as shortly as keeps all names different."""
    folders = [[pathlib.Path(target).resolve().name for target in group] for group in groups]
    short = [_stem(names) or ", ".join(names) for names in folders]
    for found in (short, [", ".join(names) for names in folders]):
        if len(set(found)) == len(found):
            return found
    return [", ".join(group) for group in groups]


def _stem(names: Sequence[str]) -> str:
    """Returns what names share before a trailing number: a of a_seed1 and a_seed2; "" where they share nothing."""
    if len(names) == 1:
        return names[0]
    stems = {re.sub(r"[-_]?(seed)?[-_]?\d+$", "", name) for name in names}
    return stems.pop() if len(stems) == 1 else ""
