"""Trains a recipe by a seed that was not measured yet, scores it, and compares with what the ledger expects.

    python benchmarks/reproduce.py gpt_digits            or: make reproduce RECIPE=gpt_digits
    python benchmarks/reproduce.py edm_digits --seed 3 --steps 2500

Each score is said to be "within" the interval of the ledger or "outside, by so much": of several seeds Student's
prediction interval for one more, of a single seed that of its own score. Then the run becomes an entry itself, a line
of benchmarks/results/ledger_runs.jsonl, of which `make ledger` makes docs/ledger.md. A run that was interrupted goes on
where its last checkpoint is. Exits with 1 where a score is outside.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [place for place in (str(ROOT), str(ROOT / "benchmarks")) if place not in sys.path]

from evidence import entries  # noqa: E402
from evidence.experiments import values_of  # noqa: E402
from evidence.measuring import measure, samples_of  # noqa: E402

from imagegen_jax.core.config.command_line import parse_overrides  # noqa: E402
from imagegen_jax.recipes.shipped import recipe  # noqa: E402

RUNS = pathlib.Path("runs/ledger")  # the folder of the runs' folders


def compared(new: entries.Entry, old: Sequence[entries.Entry]) -> tuple[list[str], bool]:
    """Returns a line for each score of a new entry beside the same experiment's, and whether none is outside."""
    lines, well = [], True
    for score, found in new["scores"].items():
        interval = entries.expected(old, score)
        if interval is None:
            lines.append(f"{score}: {found['value']:.4g}; nothing to compare with yet")
            continue
        said = interval.judged(found["value"])
        well &= said == "within"
        lines.append(
            f"{score}: {found['value']:.4g}, {said} [{interval.low:.4g}, {interval.high:.4g}] ({interval.how})"
        )
    return lines, well


def reproduce(
    name: str,
    seed: int | None = None,
    workdir: pathlib.Path = RUNS,
    words: Sequence[str] = (),
    samples: int | None = None,
    folder: pathlib.Path = entries.FOLDER,
) -> bool:
    """Measures one run, adds its entry to `folder`, and tells whether every score is where the others say.

    `words` are options that change the recipe; without a seed it is the first that has no entry yet.
    """
    experiment = parse_overrides(recipe(name), words, "reproduce.py")
    known = entries.of_experiment(name, experiment, folder)
    taken = {entry["seed"] for entry in known}
    seed = next(number for number in range(len(taken) + 1) if number not in taken) if seed is None else seed
    command = " ".join(["python benchmarks/reproduce.py", name, *words, f"--seed {seed}"])
    experiment = dataclasses.replace(experiment, seed=seed)
    entry = measure(name, experiment, workdir, samples or samples_of(experiment))
    lines, well = compared(entry, [old for old in known if old["seed"] != seed])
    print(f"{name}, seed {seed}, {entry['steps']:,} steps", *lines, sep="\n  ", flush=True)
    entries.keep(values_of(name, experiment), entry["experiment"], folder)
    entries.append({**entry, "changes": list(words), "command": command}, folder)
    return well


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, compares and stores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--seed", type=int, help="default: the first that has no entry yet")
    parser.add_argument("--workdir", type=pathlib.Path, default=RUNS)
    parser.add_argument("--images", type=int, help="for scores of samples (default: 1,000 digits, else 5,000)")
    parser.add_argument("--out", type=pathlib.Path, default=entries.FOLDER, help="the folder of entries")
    options, words = parser.parse_known_args(arguments)
    if not reproduce(options.recipe, options.seed, options.workdir, words, options.images, options.out):
        sys.exit(1)


if __name__ == "__main__":
    main()
