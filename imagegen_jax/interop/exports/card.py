"""The README.md of a run, or of its export: a model card with Hugging Face's head. One source for both."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from imagegen_jax.core.arrays.space import sample_words
from imagegen_jax.core.capabilities import reads_text
from imagegen_jax.core.checkpoints.stored import Stored
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.files.json_lines import read_object
from imagegen_jax.core.files.regular import whole
from imagegen_jax.core.model import Generative, Model, condition_rows
from imagegen_jax.core.reporting import summary
from imagegen_jax.core.run import Run
from imagegen_jax.core.run_folder import load_experiment
from imagegen_jax.interop.exports.card_facts import (
    block,
    data_of,
    limits_of,
    looked_at,
    portable_values,
    privacy_of,
    recipe_of,
    scores_of,
    training_of,
)

CARD = "README.md"
MARK = "<!-- made by imagegen card: an edited card without this line is left as it is -->"
UNSAID, UNSAID_DATA = "not said: give it by --licence", "not said: give it by --data-licence"
TAGS = {"diffusers": "diffusers", "safetensors": "jax", "stablehlo": "jax", "lora": "jax", "run": "jax"}
USE_OF_RUN = """```
imagegen sample RUN --n 16 --out grid.png
imagegen play RUN
```"""


class Licences(NamedTuple):
    """The licences of weights and data; "" where nobody has said them."""

    weights: str = ""
    data: str = ""


NO_LICENCES = Licences()


def write_card(run: Run, folder: pathlib.Path, form: str, licence: str | None, usage: str) -> None:
    """Writes the card of a run to a folder, with how what lies there is used.

    Licences that nobody gives are those of the run's own card.
    """
    own = licences_in(run.workdir / CARD)
    licences = own._replace(weights=licence or own.weights)
    text = card_text(run.workdir, run.experiment, run.step, summary.count(run.state.params), form, licences, usage)
    (folder / CARD).write_text(text, "utf-8")


def write_run_card(
    folder: pathlib.Path,
    out: pathlib.Path | None = None,
    licences: Licences = NO_LICENCES,
    modules: tuple[str, ...] = (),
    experiment: Experiment | None = None,
) -> pathlib.Path:
    """Writes the card of the run in a folder, by its files alone, into it or to `out`, and returns its path.

    The experiment is read with the `modules` that its classes may come from, where it is not given.
    Licences that nobody gives are those of the card that is there. Raises RunFolderError where there is no run, and
    ValueError where there is a file that someone else has written.
    """
    experiment, place = experiment or load_experiment(folder, modules), out or folder / CARD
    if place.is_file() and MARK not in place.read_text("utf-8", "replace"):
        raise ValueError(f"{place}: has no line that says that it may be written anew: give another place with --out")
    before = licences_in(folder / CARD)
    given = Licences(licences.weights or before.weights, licences.data or before.data)
    parameters = read_object(folder / "parameters.json").values()
    count = sum(network["count"] for network in parameters if isinstance(network, dict) and "count" in network)
    step = max(Stored(folder / "checkpoints").steps(), default=0)
    text = card_text(folder, experiment, step, count, "run", given, USE_OF_RUN)
    with whole(place) as partial:
        partial.write_text(text, "utf-8")
    return place


def card_text(
    folder: pathlib.Path, experiment: Experiment, step: int, parameters: int, form: str, licences: Licences, usage: str
) -> str:
    """Returns the card of a run whose files lie in a folder, for what has a `form`, with how that is used."""
    model, origin = experiment.model, read_object(folder / "origin.json")
    head = {"license": licences.weights or "unknown", "library_name": TAGS[form], **task_of(model)}
    head |= {"data_license": licences.data} if licences.data else {}
    trained = f"after {step:,} steps of training with imagegen_jax"
    trained = "imported by imagegen_jax, with the weights that Origin names" if origin else trained
    sections = {
        "Use": usage,
        "Data": data_of(folder, experiment, licences.data or UNSAID_DATA),
        "Origin": block(portable_values(origin)) if origin else "",
        "Training": "" if origin else training_of(folder, experiment, step),
        "Privacy": privacy_of(folder, experiment, step),
        "Scores": scores_of(folder),
        "What was looked at": _listed(looked_at(folder)),
        "Known limits": "\n".join(f"- {limit}" for limit in limits_of(folder, experiment)),
        "Provenance of pictures": "Pictures that imagegen_jax draws say in their metadata (XMP) that they are "
        "generated, by which run, step and seed: `imagegen provenance FILE`. Whoever saves them anew may lose that.",
        "Recipe": block(recipe_of(experiment)),
        "Licence": f"{licences.weights or UNSAID}. That of the data may bind too.",
    }
    parts = [
        "---\n" + "".join(f"{name}: {_quoted(value)}\n" for name, value in head.items()) + f"---\n{MARK}",
        f"# {experiment.name or folder.name}",
        f"A {type(model).__name__} of {sample_words(model)}, {parameters:,} parameters, {trained}.",
        *(f"## {name}\n\n{section}" for name, section in sections.items() if section),
    ]
    return "\n\n".join(parts) + "\n"


def task_of(model: Model) -> dict[str, str]:
    """Returns the head's line of what a model is for, in the words of Hugging Face; none where these have no word."""
    if reads_text(model):
        return {"pipeline_tag": "text-to-image"}
    if {"image", "source"} & condition_rows(model).keys():
        return {"pipeline_tag": "image-to-image"}
    if isinstance(model, Generative) and not condition_rows(model):
        return {"pipeline_tag": "unconditional-image-generation"}
    return {}


def licences_in(path: pathlib.Path) -> Licences:
    """Reads the licences in the head of a card; "" where there is none, or it says none."""
    import yaml

    try:
        head = yaml.safe_load(path.read_text("utf-8").split("---\n")[1])
    except (OSError, ValueError, IndexError, yaml.YAMLError):
        return Licences()
    if not isinstance(head, dict):
        return Licences()
    weights = str(head.get("license") or "")
    return Licences("" if weights == "unknown" else weights, str(head.get("data_license") or ""))


def check_licence(text: str) -> str:
    """Returns the name of a licence, such as "cc-by-4.0". Raises ValueError for what is no name of one line."""
    if not re.fullmatch(r"[\w.+()/ -]{1,100}", text.strip()):
        raise ValueError(f"{text[:60]!r} is no name of a licence: give one such as cc-by-4.0, on one line")
    return text.strip()


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z][\w.+-]*", value) else f'"{value}"'


def _listed(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {fact}" for name, fact in facts.items())
