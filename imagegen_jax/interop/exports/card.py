"""The README.md of an export, a model card: what the model is, its data, recipe, scores and licence."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.arrays.space import sample_words
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.files.json_lines import read_objects
from imagegen_jax.core.model import Generative, Model, condition_rows
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.run import Run

UNSAID = "not said: give it by --licence"
TAGS = {"diffusers": "diffusers", "safetensors": "jax", "stablehlo": "jax", "lora": "jax"}


def write_card(run: Run, folder: pathlib.Path, form: str, licence: str | None, usage: str) -> None:
    """Writes the card of a run to a folder, with how what lies there is used."""
    experiment, model = run.experiment, run.experiment.model
    head = {"license": licence or "unknown", "library_name": TAGS[form], **task_of(model)}
    count = summary.count(run.state.params)
    origin = run.workdir / "origin.json"
    trained = f"after {run.step:,} steps of training with imagegen_jax"
    trained = "imported by imagegen_jax, with the weights that Origin names" if origin.is_file() else trained
    parts = [
        "---\n" + "".join(f"{name}: {value}\n" for name, value in head.items()) + "---",
        f"# {experiment.name or run.workdir.name}",
        f"A {type(model).__name__} of {sample_words(model)}, {count:,} parameters, {trained}.",
        f"## Use\n\n{usage}",
        "## Data\n\n" + _block(to_dict(experiment)["data"]),
        "## Recipe\n\n" + _block({k: v for k, v in to_dict(experiment).items() if k != "data"}),
        "## Scores\n\n" + scores_of(run.workdir),
        f"## Licence\n\n{licence or UNSAID}. That of the data may bind too.",
    ]
    if origin.is_file():
        parts.insert(5, "## Origin\n\n" + _block(json.loads(origin.read_text())))
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")


def task_of(model: Model) -> dict[str, str]:
    """Returns the head's line of what a model is for, in the words of Hugging Face; none where these have no word."""
    if reads_text(model):
        return {"pipeline_tag": "text-to-image"}
    if {"image", "source"} & condition_rows(model).keys():
        return {"pipeline_tag": "image-to-image"}
    if isinstance(model, Generative) and not condition_rows(model):
        return {"pipeline_tag": "unconditional-image-generation"}
    return {}


def scores_of(workdir: pathlib.Path) -> str:
    """Returns the scores of a run as a table, the newest of each metric; a sentence where it was never evaluated."""
    newest: dict[tuple[Any, Any], Mapping[str, Any]] = {}
    for card in read_objects(workdir / "evaluations.jsonl"):
        newest[card.get("metric"), card.get("reference")] = card
    if not newest:
        return "None: it was not evaluated (`imagegen evaluate`)."
    rows = [f"| {card.get('metric')} | {card.get('value')} | {card.get('reference')} |" for card in newest.values()]
    return "\n".join(["| metric | value | reference |", "|---|---|---|", *rows])


def _block(tree: Any) -> str:
    return f"```json\n{json.dumps(tree, indent=1, default=str)}\n```"
