"""The report of a run, finished or not: one self-contained page, made of the files in its folder."""

from __future__ import annotations

import datetime
import importlib.resources
import json
import os
import pathlib
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imagegen_jax.core.files.json_lines import read_object, read_objects
from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.provenance.origin import published
from imagegen_jax.pages.copies import FILE, copies_of
from imagegen_jax.pages.evaluations import evaluations_of, trace_of
from imagegen_jax.pages.explained import explained
from imagegen_jax.pages.grids import shown_grids
from imagegen_jax.pages.markup import class_name, missing, table, text, tree
from imagegen_jax.pages.reading import Point, points_of, read_metrics, thin

ROWS_NAMED = 20  # a grid of more rows has no room for the names of their classes


def write_report(run: str | os.PathLike[str], out: pathlib.Path | None = None) -> pathlib.Path:
    """Writes `report.html` into a run folder, or the page `out`, whole or not at all, and returns its path.

    Where files are missing, or half written by a run that was killed, the page leaves them out and says so. Raises
    ValueError where `run` is no folder.
    """
    folder = pathlib.Path(run)
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: a report is made of a run's folder, the --workdir of its training")
    template = importlib.resources.files("imagegen_jax.pages").joinpath("report_template.html").read_text("utf-8")
    page = string.Template(template).substitute(_sections(folder))
    path = out or folder / "report.html"
    with whole(path) as partial:
        partial.write_text(page, "utf-8")
    return path


def _sections(folder: pathlib.Path) -> dict[str, str]:
    """Makes the HTML of each placeholder in the template."""
    experiment, parameters = read_object(folder / "experiment.json"), read_object(folder / "parameters.json")
    environment, data = read_object(folder / "environment.json"), read_object(folder / "data.json")
    rows = read_metrics(folder / "metrics.jsonl")
    grids = {int(path.stem): path for path in sorted(folder.glob("samples/*.png")) if path.stem.isdecimal()}
    step = max([*rows, *grids], default=0)
    curves = points_of(rows.values())
    changes, evaluations = read_objects(folder / "changes.jsonl"), read_objects(folder / "evaluations.jsonl")
    if experiment.get("private") is not None:
        experiment, environment = published(experiment), _without_seed(environment)
    if origin := read_object(folder / "origin.json"):
        environment = {"imported": origin, **environment}
    return {
        "title": text(experiment.get("name") or folder.resolve().name),
        "progress": _progress(step, experiment.get("steps")),
        "facts": _or_note("facts", lambda: _facts(experiment, parameters, environment, rows)),
        "grids": _or_note(
            "samples/*.png", lambda: shown_grids(grids, _row_names(experiment, data), _of_latents(experiment))
        ),
        "curves": _json({name: thin(points) for name, points in curves.items()}),
        "values": _values(curves),
        "evaluations": _or_note("evaluations.jsonl", lambda: evaluations_of(evaluations)),
        "copies": _or_note(FILE, lambda: copies_of(read_object(folder / FILE))),
        "trace": _or_note("profile.json", lambda: trace_of(read_object(folder / "profile.json"))),
        "meanings": _as_json({name: explained(name) for name in curves}),
        "experiment": tree(experiment) if experiment else missing("experiment.json"),
        "changes": _or_note("changes.jsonl", lambda: _changes(changes)),
        "parameters": _or_note("parameters.json", lambda: _parameters(parameters)),
        "environment": tree(environment) if environment else missing("environment.json"),
        "made": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC",
    }


def _or_note(name: str, section: Callable[[], str]) -> str:
    """Makes a section of the page, or a note in its place where its file does not have the form that a run gives it."""
    try:
        return section()
    except (TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError, OSError):
        return missing(name)


def _progress(step: int, steps: Any) -> str:
    if not isinstance(steps, int) or steps < 1:
        return f"<p>at step {step:,}</p>"
    state = "finished" if step >= steps else "unfinished: it still runs, or was stopped"
    return (
        f'<p>step {step:,} of {steps:,} ({100 * step / steps:.0f} %), {state}</p><progress max="{steps}" '
        f'value="{min(step, steps)}"></progress>'
    )


def _without_seed(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a private run's environment may say to others: its command without the seed."""
    from imagegen_jax.interop.exports.card_facts import command_of

    return {**environment, "command": command_of(environment.get("command"), private=True)}


def _facts(
    experiment: Mapping[str, Any],
    parameters: Mapping[str, Any],
    environment: Mapping[str, Any],
    rows: Mapping[int, Mapping[str, Any]],
) -> str:
    """Lists the facts to see at a glance: model, data, size, devices, speed; unknown ones are left out."""
    count = sum(network["count"] for network in parameters.values())
    last = list(rows.values())[-1] if rows else {}
    logged = last.get("time")
    devices = ", ".join(f"{n} x {kind}" for kind, n in (environment.get("devices") or {}).items())
    facts = {
        "model": class_name(experiment.get("model")),
        "data": class_name(experiment.get("data")),
        "batch": experiment.get("batch_size"),
        "parameters": count or None,
        "devices": devices,
        "images/s": last.get("images_per_second"),
        "commit": (environment.get("git_commit") or "")[:10],
        "last logged": f"{datetime.datetime.fromtimestamp(logged, datetime.UTC):%Y-%m-%d %H:%M} UTC" if logged else "",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{text(fact)}</dd></div>" for name, fact in facts.items() if fact)


def _row_names(experiment: Mapping[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Returns the names to write beside the rows of a grid, one class each; [] without classes, or with too many."""
    model = experiment.get("model") or {}
    rows = min(model.get("num_classes") or 0, experiment.get("samples") or 0)
    names = [str(name) for name in data.get("class_names") or range(rows)]
    return names[:rows] if rows <= ROWS_NAMED else []


def _of_latents(experiment: Mapping[str, Any]) -> bool:
    space = (experiment.get("model") or {}).get("space") or {}
    return class_name(space) == "Latents" and not space.get("autoencoder")


def _values(curves: Mapping[str, list[Point]]) -> str:
    if not curves:
        return missing("metrics.jsonl")
    rows = []
    for name, points in curves.items():
        values = [value for _, value in points]
        rows.append([name, values[0], min(values), max(values), values[-1], points[-1][0]])
    return table(["metric", "first", "lowest", "highest", "last", "at step"], rows)


def _parameters(networks: Mapping[str, Any]) -> str:
    """Makes a table of networks with totals, and below it a list of each one's arrays that unfolds."""
    if not networks:
        return missing("parameters.json")
    header = ["network", "arrays", "parameters", "MiB"]
    rows = [[name, len(net["arrays"]), net["count"], net["bytes"] / 2**20] for name, net in networks.items()]
    total = ["total", *(sum(row[i] for row in rows) for i in (1, 2, 3))]
    page = [table(header, [*rows, total] if len(rows) > 1 else rows, total=len(rows) > 1)]
    for name, net in networks.items():
        arrays = [[a["name"], " x ".join(map(str, a["shape"])), a["dtype"], a["count"]] for a in net["arrays"]]
        listed = table(["array", "shape", "dtype", "parameters"], arrays)
        page.append(f"<details><summary>the arrays of {text(name)}</summary>{listed}</details>")
    return "".join(page)


def _changes(changes: Sequence[Mapping[str, Any]]) -> str:
    """Makes a table of the fields that were changed when the run was resumed (`--resume-with-changes`)."""
    rows = [[field, old, new] for change in changes for field, (old, new) in change.items()]
    return f"<h3>Changed on resuming</h3>{table(['field', 'was', 'became'], rows)}" if rows else ""


def _json(curves: Mapping[str, list[Point]]) -> str:
    """Writes curves as JSON, rounded."""
    return _as_json({name: [(s, float(f"{value:.6g}")) for s, value in points] for name, points in curves.items()})


def _as_json(value: Any) -> str:
    """Writes JSON for a script element; "<" is escaped, since "</script" would end it even in a string."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
