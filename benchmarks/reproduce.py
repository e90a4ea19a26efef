"""Trains a recipe by a seed that was not measured yet, scores it, and compares with what the ledger expects.

    python benchmarks/reproduce.py gpt_digits            or: make reproduce RECIPE=gpt_digits
    python benchmarks/reproduce.py edm_digits --seed 3 --set steps=2500

Each score is said to be "within" the interval of the ledger or "outside, by so much": of several seeds Student's
prediction interval for one more, of a single seed that of its own score. Then the run becomes an entry itself, a line of
benchmarks/results/ledger_runs.jsonl, and docs/ledger.md is written anew. A run of the same seed is first trained to its
end where that was interrupted. Exits with 1 where a score is outside.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [place for place in (str(ROOT), str(ROOT / "benchmarks")) if place not in sys.path]

from evidence import entries  # noqa: E402
from evidence.experiments import fingerprint, values_of  # noqa: E402
from evidence.measuring import measure, samples_of  # noqa: E402

import imagegen_jax as ig  # noqa: E402
from imagegen_jax.recipes.shipped import recipe  # noqa: E402


def compared(new: entries.Entry, old: Sequence[entries.Entry]) -> tuple[list[str], bool]:
    """A line for each score of a new entry beside those of the same experiment, and whether none is outside."""
    lines, well = [], True
    for score, found in new["scores"].items():
        interval = entries.expected(old, score)
        if interval is None:
            lines.append(f"{score}: {found['value']:.4g}; nothing to compare with yet")
            continue
        said = interval.judged(found["value"])
        well &= said == "within"
        lines.append(f"{score}: {found['value']:.4g}, {said} [{interval.low:.4g}, {interval.high:.4g}] ({interval.how})")
    return lines, well


def reproduce(name: str, seed: int | None, workdir: pathlib.Path, changes: dict[str, str], samples: int | None, folder: pathlib.Path) -> bool:
    """Measures one run and adds its entry; tells whether every score is where the others say."""
    experiment = ig.override(recipe(name), changes)
    known = entries.of_experiment(entries.read(folder), name, fingerprint(values_of(name, experiment)))
    taken = {entry["seed"] for entry in known}
    seed = next(number for number in range(len(taken) + 1) if number not in taken) if seed is None else seed
    settings = "".join(f" --set {field}={value}" for field, value in changes.items())
    command = f"python benchmarks/reproduce.py {name} --seed {seed}{settings}"
    entry, values = measure(name, seed, workdir, changes, samples or samples_of(experiment), command)
    lines, well = compared(entry, [old for old in known if old["seed"] != seed])
    print(f"{name}, seed {seed}, {entry['steps']:,} steps", *lines, sep="\n  ", flush=True)
    entries.keep(values, entry["experiment"], folder)
    entries.append(entry, folder)
    return well


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, compares and stores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seed", type=int, help="default: the first that has no entry yet")
    parser.add_argument("--workdir", type=pathlib.Path, default=pathlib.Path("runs/ledger"))
    parser.add_argument("--samples", type=int, help="for scores of samples (default: 1,000 digits, else 5,000)")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a change of the recipe")
    parser.add_argument("--out", type=pathlib.Path, default=entries.FOLDER, help="the folder of entries")
    options = parser.parse_args(arguments)
    changes = dict(change.split("=", 1) for change in options.set)
    if not reproduce(options.recipe, options.seed, options.workdir, changes, options.samples, options.out):
        sys.exit(1)


if __name__ == "__main__":
    main()
