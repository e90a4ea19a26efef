"""What a model card says of a run, by its files: its training, its scores, what they cover, and its limits."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imagegen_jax.core.arrays.space import sample_words
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.files.json_lines import read_object, read_objects
from imagegen_jax.core.privacy.accountant import Spent, spent
from imagegen_jax.core.provenance.origin import digest_of
from imagegen_jax.core.reporting.durations import duration

COPIES = "copies.json"  # what `imagegen report RUN --copies N` leaves in the folder
_SECRET = ("seed",)  # of private runs: whoever knows it knows the noise
Lines = Sequence[Mapping[str, Any]]


def data_of(folder: pathlib.Path, experiment: Experiment, licence: str) -> str:
    """Returns what the data are: how many images of which classes, their licence, and how they are read."""
    record = read_object(folder / "data.json")
    names = [str(name) for name in record.get("class_names", [])]
    count = record.get("images")
    parts = [
        f"{count:,} images." if isinstance(count, int) else "",
        f"{len(names)} classes: {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}." if names else "",
        f"Licence of the data: {licence}.",
    ]
    return "\n".join(filter(None, parts)) + "\n\n" + block(portable_values(to_dict(experiment)["data"]))


def recipe_of(experiment: Experiment) -> dict[str, Any]:
    """Returns the recipe without the data; of a private run without its seed."""
    left_out = ("data", *(_SECRET if experiment.private is not None else ()))
    found = {name: value for name, value in to_dict(experiment).items() if name not in left_out}
    return dict(portable_values(found))


def training_of(folder: pathlib.Path, experiment: Experiment, step: int) -> str:
    """Returns how it was trained: command, steps, devices, time and versions, as far as files say it."""
    environment = read_object(folder / "environment.json")
    command = command_of(environment.get("command"), experiment.private is not None)
    devices = environment.get("devices")
    kinds = ", ".join(f"{n} x {kind}" for kind, n in devices.items()) if isinstance(devices, dict) else ""
    versions = environment.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    commit = str(environment.get("git_commit") or "")[:12]
    seconds = seconds_of(folder, experiment.batch_size)
    facts = {
        "command": f"`{command}`" if command else "",
        "steps": f"{step:,} of {experiment.batch_size:,} images each, {step * experiment.batch_size:,} in all",
        "devices": kinds,
        "time": f"{duration(seconds)} of training steps" if seconds else "",
        "versions": ", ".join(
            [f"{name} {versions[name]}" for name in ("imagegen_jax", "jax", "flax") if versions.get(name)]
        ),
        "code": f"commit {commit}" if commit else "",
        "experiment": f"digest {digest_of(folder)}" if digest_of(folder) else "",
    }
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items() if fact)


def command_of(words: Any, private: bool) -> str:
    """Returns a command line as it may be published: without folders of a disk, of private runs without the seed."""
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        return ""
    program = pathlib.Path(words[0])
    found = ["imagegen" if program.name in ("imagegen", "__main__.py") else program.name]
    after_secret = False
    for word in words[1:]:
        name, equals, _ = word.partition("=")
        secret = private and name.lstrip("-") in _SECRET
        if not (secret or after_secret):
            found.append(str(portable_values(word)))
        after_secret = secret and not equals
    return " ".join(found)


def seconds_of(folder: pathlib.Path, batch_size: int) -> float:
    """Sums the time that training steps took, by the speeds that the log has; 0 where it has none."""
    total, before = 0.0, 0
    for line in read_objects(folder / "metrics.jsonl"):
        step, rate = line.get("step"), line.get("images_per_second")
        if isinstance(step, int) and isinstance(rate, (int, float)) and rate > 0 and step > before:
            total += (step - before) * batch_size / rate
            before = step
    return total


def privacy_of(folder: pathlib.Path, experiment: Experiment, step: int) -> str:
    """Returns what a private run has spent, and what that rests on; "" of any other run, and of unknown data."""
    rows = read_object(folder / "data.json").get("images")
    if experiment.private is None or not isinstance(rows, int):
        return ""
    found: Spent = spent(experiment.private, rows, experiment.batch_size, step, experiment.seed)
    before = " It says nothing of what the weights had seen that it started from." if experiment.pretrained else ""
    return (
        f"Trained with differential privacy ({found.words}). Each image's gradient was clipped to a norm of "
        f"{experiment.private.clip:g}; images were drawn in each step each by itself (Poisson sampling, truncated), "
        "which is what the accountant (privacy loss distributions) assumes; data sets are neighbours where one image "
        "of the one is missing in the other. It covers the weights and what is drawn from them. It does not cover the "
        "scores below, the curves of the run, or settings that were chosen by them; and it holds against those who do "
        "not know the seed, from which noise and draws follow: it is left out here, and is to be kept secret." + before
    )


def scores_of(workdir: pathlib.Path) -> str:
    """Returns the scores of a run as a table, the newest of each metric; a sentence where it was never evaluated."""
    newest = newest_scores(workdir)
    if not newest:
        return "None: it was not evaluated (`imagegen evaluate`)."
    rows = [
        f"| {card.get('metric')} | {_number(card.get('value'))} | {_interval(card)} | {card.get('samples', '')} | "
        f"{card.get('reference')} |"
        for card in newest
    ]
    return "\n".join(["| metric | value | 95 % interval | samples | reference |", "|---|---|---|---|---|", *rows])


def newest_scores(workdir: pathlib.Path) -> list[Mapping[str, Any]]:
    """Returns the newest card of each metric and reference."""
    newest: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for card in read_objects(workdir / "evaluations.jsonl"):
        newest[card.get("metric"), card.get("reference")] = card
    return list(newest.values())


def looked_at(folder: pathlib.Path) -> dict[str, str]:
    """Returns what evaluations say of membership, copies and shares of classes, by name; how to ask where none did."""
    scores = newest_scores(folder)
    copies = read_object(folder / COPIES)
    said = "" if not copies else (
        f"{copies.get('nearer', '?')} of {copies.get('samples', '?')} samples are nearer to one training image than "
        "that is to any other one; fresh data have such samples too"
    )  # fmt: skip
    return {
        "membership": "; ".join(_short(scores, "membership")) or _unasked("evaluate RUN --metrics membership"),
        "copies": said or "; ".join(_short(scores, "AuthPct")) or _unasked("report RUN --copies 1000"),
        "shares of classes": "; ".join(_short(scores, "classes of other shares", "share, class"))
        or _unasked("evaluate RUN --metrics shares"),
    }


def limits_of(folder: pathlib.Path, experiment: Experiment) -> list[str]:
    """Returns the limits that a run is known to have by what it is, and by what nobody has measured."""
    found = [
        f"It draws {sample_words(experiment.model)}, and nothing that its data do not hold; what they show too often "
        "or too seldom, it does too.",
    ]
    if not newest_scores(folder):
        found.append("Nobody has measured how good its samples are.")
    unknown = [name for name, said in looked_at(folder).items() if said.startswith("not looked at")]
    if unknown:
        found.append(f"Not looked at: {', '.join(unknown)}.")
    if experiment.private is None:
        found.append("It was not trained privately: it may hold images of its data, and show them.")
    found.append("Scores by one extractor of features cannot be compared with those by another one.")
    return found


def _short(scores: Lines, *names: str) -> Iterator[str]:
    for card in scores:
        if str(card.get("metric", "")).startswith(names):
            note = f" ({card['note']})" if card.get("note") else ""
            yield f"{card['metric']} {_number(card.get('value'))} {_interval(card)}{note}".strip()


def _unasked(command: str) -> str:
    return f"not looked at (`imagegen {command}`)"


def _interval(card: Mapping[str, Any]) -> str:
    low, high = card.get("low"), card.get("high")
    known = isinstance(low, (int, float)) and isinstance(high, (int, float))
    return f"{_number(low)} to {_number(high)}" if known else ""


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def portable_values(tree: Any) -> Any:
    """Returns a tree of JSON with the last part alone of each path that begins at the root, also behind a colon."""
    if isinstance(tree, Mapping):
        return {name: portable_values(value) for name, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [portable_values(value) for value in tree]
    if not isinstance(tree, str):
        return tree
    found = re.fullmatch(r"([^/=:]*[=:])?(/.+)", tree)
    return f"{found[1] or ''}{pathlib.PurePath(found[2]).name}" if found else tree


def block(tree: Any) -> str:
    """Returns a tree as a block of JSON."""
    return f"```json\n{json.dumps(tree, indent=1, default=str)}\n```"
