"""Scores that benchmarks stored before each run became an entry of the ledger: read from their files, as they are."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from imagegen_jax.pages.judge.counts import wilson
from imagegen_jax.recipes.shipped import recipes

from . import entries, figures

NLL_ERRORS = 1.96  # standard errors to each side of a mean over images


class Found(NamedTuple):
    """One score of a recipe, and where it is from."""

    recipe: str
    score: str
    value: float
    low: float | None
    high: float | None
    seeds: int
    steps: str  # "" where the file does not say
    command: str
    machine: Mapping[str, Any]  # {} likewise
    file: str
    experiment: str  # the fingerprint of what was measured; "" where the file has no stamp


def scores(folder: pathlib.Path = entries.FOLDER) -> list[Found]:
    """Returns all such scores."""
    readers = {
        "evaluation_*.jsonl": _of_cards,
        "nll_*.json": _of_likelihood,
        "reconstructions_*.json": _of_reconstructions,
        "few_evaluations.json": _of_lines,
        "code_nll_*.json": _of_codes,
        "agreement_*.json": _of_agreement,
    }
    stamps = figures.stamps(folder)
    found = [one for pattern, read in readers.items() for path in sorted(folder.glob(pattern)) for one in read(path)]
    known = [one for one in found if one.recipe in recipes()]
    return [one._replace(experiment=stamps.get(one.file, {}).get(one.recipe, "")) for one in known]


def _of_cards(path: pathlib.Path) -> Iterator[Found]:
    """Cards of samples of runs, of the largest number of images."""
    cards = [json.loads(line) for line in path.read_text().splitlines()]
    kept: dict[tuple[str, str], Any] = {}
    for card in cards:
        at = re.match(r"runs/(\w+) at step ([\d,]+)$", card["images"])
        if at and card["samples"] >= kept.get((at[1], card["metric"]), (0,))[0]:
            kept[at[1], card["metric"]] = card["samples"], at[2], card
    for (name, metric), (samples, steps, card) in kept.items():
        source = "digits" if "digits" in name else "tfds:mnist"
        command = f"python benchmarks/leaderboard_mnist.py {source} runs/{name} --samples {samples} --out {path.stem}"
        ends = card["low"], card["high"]
        yield Found(name, metric, card["value"], *ends, 1, steps, command, card["versions"], path.name, "")


def _of_likelihood(path: pathlib.Path) -> Iterator[Found]:
    found = json.loads(path.read_text())
    name, steps, machine = found["experiment"], f"{found['steps']:,}", found.get("machine", {})
    bits = "bits per dimension of test images"
    if "nll_nats" in found:
        value, error = found["nll_nats"], found["nll_standard_error_nats"]
        yield _with_error(name, "NLL of test images, nats", value, error, steps, "vae_nll", machine, path)
    elif "test" in found:
        of = found["test"]["bits_per_dim"], found["test"]["standard_error"]
        yield _with_error(name, bits, *of, steps, "pixel_nll", machine, path)
    elif found.get("by") == "flow":
        of = found["bits_per_dim"], found["standard_error"]
        yield _with_error(name, f"{bits}, by the flow", *of, steps, "flow_nll", machine, path)


def _of_reconstructions(path: pathlib.Path) -> Iterator[Found]:
    found, name = json.loads(path.read_text()), path.stem.removeprefix("reconstructions_")
    if "psnr_db" in found:
        steps, machine = f"{found['steps']:,}", found.get("machine", {})
        error = found["standard_error_db"]
        yield _with_error(name, "PSNR", found["psnr_db"], error, steps, "reconstructions", machine, path)


def _of_codes(path: pathlib.Path) -> Iterator[Found]:
    found = json.loads(path.read_text())
    of = found["test_nats_per_code"], found["test_standard_error"]
    score, machine = "nats of a code of test images", found.get("machine", {})
    yield _with_error(found["experiment"], score, *of, f"{found['steps']:,}", "code_nll", machine, path)


def _of_agreement(path: pathlib.Path) -> Iterator[Found]:
    """Of samples without guidance; the files of guided ones are shown in docs/measured.md."""
    found, name = json.loads(path.read_text()), path.stem.removeprefix("agreement_")
    share, n = found["agreement_percent"] / 100, found["samples"]
    _, low, high = wilson(share * n, n)
    command = f"python benchmarks/demo_agreement.py runs/{name} --name {path.stem}"
    score = "agreement, by another classifier"
    yield Found(name, score, share, low, high, 1, "", command, found.get("machine", {}), path.name, "")


def _with_error(
    name: str, score: str, value: float, error: float, steps: str, benchmark: str, machine: Any, path: pathlib.Path
) -> Found:
    ends = value - NLL_ERRORS * error, value + NLL_ERRORS * error
    command = f"python benchmarks/{benchmark}.py runs/{name}"
    return Found(name, score, value, *ends, 1, steps, command, machine, path.name, "")


def _of_lines(path: pathlib.Path) -> Iterator[Found]:
    """Of each recipe of the comparison of few evaluations, the number of them with the least distance."""
    found = json.loads(path.read_text())
    best: dict[str, Any] = {}
    for line in found["lines"].values():
        for point in line["points"]:
            if line["recipe"] not in best or point["FD-classifier"][0] < best[line["recipe"]][1]["FD-classifier"][0]:
                best[line["recipe"]] = line, point
    for name, (line, point) in best.items():
        command, seeds = f"python benchmarks/few_evaluations.py {name}", len(line["minutes"])
        for score in ("FD-classifier", "coverage", "agreement"):
            value, low, high = [*point[score], None, None][:3]
            said = f"{score}, {point['evaluations']} evaluations"
            machine = found.get("machine", {})
            yield Found(name, said, value, low, high, seeds, f"{line['steps']:,}", command, machine, path.name, "")
