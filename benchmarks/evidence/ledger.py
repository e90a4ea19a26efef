"""docs/ledger.md: of every recipe what is published, what was measured here, of what, and what is still open."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from imagegen_jax.machines.machines import CHIPS
from imagegen_jax.recipes.shipped import recipes

from . import earlier, entries, figures, summary
from .experiments import changed

PAGE = figures.ROOT / "docs" / "ledger.md"
PUBLISHED = pathlib.Path(__file__).resolve().parent / "published.json"
MACHINES = "machines.jsonl"  # what `benchmarks/machines.py` has planned
SHARE = 0.4  # of an H100's published rate that training is guessed to have, as `imagegen info --machine` does
HIGHER = ("inception score", "PSNR of reconstructions")  # published scores of which more is better
STATUS = {
    "reproduced": "the published score lies in our 95 % interval, or ours is better",
    "differs": "ours is worse than the published score, and the interval does not hold it",
    "reduced": "a recipe of our own size, measured; nobody has published its score",
    "open": "not measured at this size",
}

BEGIN = """# Ledger

Made by `make ledger` from `benchmarks/evidence/published.json` and the files of `benchmarks/results/`, not written by
hand. Of {recipes} recipes: {counts}.

{words}

`make reproduce RECIPE=gpt_digits` trains a recipe by one more seed, scores it, says of each score whether it is within
the interval expected here, and adds it. What a figure was measured of is the experiment: all values that its arrays
follow from, and those of the recipes that its weights come from; here they stand as the first digits of a hash. Where a
recipe has changed since, the end of the page says so.
"""
NOT_RUN = f"""\
What was not run was not run for want of an accelerator, and of data where these are not to be had here. Hours are those
of all operations of the training at {100 * SHARE:.0f} % of an H100's published rate in bfloat16, by
`benchmarks/results/machines.jsonl`: a guess, and no promise that it fits one. "Not planned" is what that file has no
row of: `python benchmarks/machines.py` adds it, or `imagegen info RECIPE --machine h100:1`. The paper's own cost is in
the recipe's file.
"""


class Ours(NamedTuple):
    """What was measured of a recipe: one score."""

    score: str
    value: float
    low: float | None
    high: float | None
    seeds: int
    steps: str
    command: str
    machine: Mapping[str, Any]
    experiment: str
    file: str


def measured(folder: pathlib.Path = entries.FOLDER) -> dict[str, list[Ours]]:
    """Returns all scores of each recipe: those of entries, else those that were stored before there were entries."""
    found: dict[str, list[Ours]] = {}
    for one in earlier.scores(folder):
        found.setdefault(one.recipe, []).append(Ours(*one[1:9], one.experiment, one.file))
    runs = [entry for entry in entries.read(folder) if not entry["changes"]]
    for name in dict.fromkeys(entry["recipe"] for entry in runs):
        own = [entry for entry in runs if entry["recipe"] == name]
        of_now = entries.of_experiment(name, folder=folder) if name in recipes() else []
        newest = of_now or [entry for entry in own if entry["experiment"] == own[-1]["experiment"]]
        scores = _over_seeds(newest)
        kept = [one for one in found.get(name, []) if one.score not in {new.score for new in scores}]
        found[name] = scores + kept
    return found


def _over_seeds(runs: Sequence[entries.Entry]) -> list[Ours]:
    """Means over the seeds of one experiment, with Student's 95 % intervals; of one seed its score's own."""
    last, found = runs[-1], []
    for score in last["scores"]:
        of = [entry["scores"][score] for entry in runs if score in entry["scores"]]
        value, low, high = summary.mean_of(of)
        command = last["command"].replace(f" --seed {last['seed']}", "")
        at = f"{last['steps']:,}", command, last["machine"], last["experiment"], entries.RUNS
        found.append(Ours(score, value, low, high, len(of), *at))
    return found


def published() -> dict[str, list[dict[str, str]]]:
    """Returns the published scores of each recipe, each with its source."""
    return json.loads(PUBLISHED.read_text())


def status(name: str, ours: Sequence[Ours]) -> str:
    """Says how a recipe stands, by one of `STATUS`."""
    theirs = {one["score"]: float(one["value"]) for one in published().get(name, [])}
    both = [one for one in ours if one.score in theirs]
    if not both:
        return "reduced" if ours and not theirs else "open"
    return "reproduced" if all(_is_as_good(one, theirs[one.score]) for one in both) else "differs"


def _is_as_good(ours: Ours, theirs: float) -> bool:
    low, high = (ours.value if end is None else end for end in (ours.low, ours.high))
    return high >= theirs if ours.score in HIGHER else low <= theirs


def hours_on_h100(name: str, folder: pathlib.Path = entries.FOLDER) -> float | None:
    """Returns the hours that the operations of a whole training take at `SHARE` of an H100's rate; None: not counted.

    Memory and what moves through it are not in it: XLA has planned these recipes for TPUs.
    """
    for line in (folder / MACHINES).read_text().splitlines() if (folder / MACHINES).exists() else []:
        row = json.loads(line)
        programs = row.get("report", {}).get("programs", [])
        if row["recipe"] == name and programs and not any(program["error"] for program in programs):
            flops = sum(program["flops"] * program["steps"] for program in programs)
            return flops / (SHARE * CHIPS["h100"].peak_flops) / 3600
    return None


def page(folder: pathlib.Path = entries.FOLDER) -> str:
    """Returns the whole page."""
    ours = measured(folder)
    today = {
        name: [one for one in of if one.experiment and not _since(name, one.experiment, folder)]
        for name, of in ours.items()
    }
    found = {name: status(name, today.get(name, [])) for name in recipes()}
    counts = ", ".join(f"{sum(one == of for one in found.values())} {of}" for of in STATUS)
    words = "\n".join(f"- **{of}**: {meaning}." for of, meaning in STATUS.items())
    parts = [
        BEGIN.format(recipes=len(found), counts=counts, words=words),
        *_at_full_size(found, ours, folder),
        *summary.section(folder),
        *_all_measured(found, ours, folder),
        *_older(folder),
    ]
    return "\n".join(parts)


def _at_full_size(found: Mapping[str, str], ours: Mapping[str, list[Ours]], folder: pathlib.Path) -> list[str]:
    """The recipes that have a published score, or were not measured."""
    head = "| recipe | status | published | ours | on one H100 |"
    lines = ["## Published scores, and what is open", "", NOT_RUN, head, "|---|---|---|---|---|"]
    theirs = published()
    for name, of in found.items():
        if of == "reduced":
            continue
        said = "; ".join(f"{one['score']} {one['value']} ({one['source']})" for one in theirs.get(name, []))
        known = [one for one in ours.get(name, []) if one.score in {of["score"] for of in theirs.get(name, [])}]
        own = "; ".join(map(_value, known)) or ("other scores, below" if ours.get(name) else "not run")
        hours = hours_on_h100(name, folder)
        cost = "not planned" if hours is None else _duration(hours)
        lines.append(f"| `{name}` | {of} | {said or 'none for this very recipe'} | {own} | {cost} |")
    return [*lines, ""]


@functools.cache
def _since(name: str, experiment: str, folder: pathlib.Path) -> str:
    """Says whether a recipe has changed since an experiment of it was measured."""
    values = entries.experiments(folder).get(experiment)
    return ", changed since" if values is None or changed(values, name) else ""


def _duration(hours: float) -> str:
    if hours < 1:
        return "less than a minute" if hours * 60 < 1 else f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


def _all_measured(found: Mapping[str, str], ours: Mapping[str, list[Ours]], folder: pathlib.Path) -> list[str]:
    head = "| recipe | score | value [95 %] | seeds | steps | experiment | command | by |"
    lines = ["## All that was measured", "", head, "|---" * 8 + "|"]
    for name in found:
        for one in ours.get(name, []):
            mark = f"{one.experiment[:8]}{_since(name, one.experiment, folder)}" if one.experiment else "not known"
            cells = f"`{name}`", one.score, _value(one, name=False), str(one.seeds), one.steps, mark
            lines.append(f"| {' | '.join(cells)} | `{one.command}` | {_machine(one.machine)} |")
    return [*lines, ""]


def _value(one: Ours, name: bool = True) -> str:
    interval = "" if one.low is None or one.high is None else f" [{one.low:.4g}, {one.high:.4g}]"
    return f"{one.score + ' ' if name else ''}{one.value:.4g}{interval}"


def _machine(machine: Mapping[str, Any]) -> str:
    said = [f"{name} {machine[name]}" for name in ("jax", "python") if machine.get(name)]
    cores = f"{machine['cores']} cores of {machine['processor']}" if "cores" in machine else ""
    return ", ".join([*said, *([cores] if cores else [])]) or "not said"


def _older(folder: pathlib.Path) -> list[str]:
    """What is shown and older than the recipe that it measures."""
    lines = ["## Figures that are older than what they measure", ""]
    shown, found = figures.shown(), list(figures.older(folder))
    for file, name, changes in found:
        pages = ", ".join(shown.get(file, [])) or "no page"
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        lines.append(f"- `{file}` ({pages}): of `{name}`, {'; '.join(changes[:3])}{more}")
    return [*lines, *([] if found else ["None."]), ""]
