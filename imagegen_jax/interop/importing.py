"""Run folders of models that were trained elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from imagegen_jax import moved
from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.arrays.batched_draws import batch_draws
from imagegen_jax.core.arrays.space import sample_shape, space_of
from imagegen_jax.core.arrays.texts import Tokenizer, tokenizer_of
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.experiment import Experiment, Rows, abstract_nets, example_batch, initializer, model_row_shapes
from imagegen_jax.core.model import Model
from imagegen_jax.core.reporting import log, summary
from imagegen_jax.core.run import Path, Run, load
from imagegen_jax.core.state import create
from imagegen_jax.data import Dataset, Source, parse_source
from imagegen_jax.data.parse import settings_of
from imagegen_jax.data.wrappers.captioned import Captioned
from imagegen_jax.text.settings import AnyTokenizer

__getattr__ = moved.attributes(__name__)


@dataclasses.dataclass(frozen=True)
class UnknownData:
    """A source that stands for the data of an imported run where nobody has named them."""

    def open(self) -> Dataset:
        """Raises ValueError: there is nothing to open."""
        raise ValueError(
            "this run was imported, and nothing is known of the data that it was trained on: name some (`imagegen "
            "evaluate RUN DATA`), or import it again with --data"
        )


@dataclasses.dataclass(frozen=True)
class UnknownTexts:
    """A source that stands for images with texts of which nobody knows more than the tokenizer."""

    tokenizer: AnyTokenizer

    def open(self) -> Dataset:
        """Raises ValueError: there is nothing to open."""
        raise ValueError(
            "this run was imported, and nothing is known of the captions that it was trained on: say what to draw "
            '(--prompt "a red circle", in Python prompts=[...]), or import it again with --data captioned:FOLDER'
        )

    def kept_tokenizer(self, folder: pathlib.Path) -> Tokenizer:
        """Reads the tokenizer that a run keeps in `folder`. Raises FileNotFoundError where a file is missing."""
        return self.tokenizer.read(folder)


@dataclasses.dataclass(frozen=True)
class Published:
    """A model that was trained elsewhere: what it is, its networks, and what is to be kept of where it came from."""

    model: Model
    nets: Mapping[str, Any]  # the collections of each network
    origin: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    tokenizer: AnyTokenizer | None = None  # of the texts that the model reads
    kept: Tokenizer | None = None  # what `tokenizer` made, where it was made of captions that are not at hand

    def opened_tokenizer(self) -> Tokenizer | None:
        """Returns the tokenizer of the texts that the model reads; None where it reads none."""
        return self.tokenizer.open(()) if self.tokenizer is not None and self.kept is None else self.kept


def check_target(out: Path) -> pathlib.Path:
    """Returns the run folder to make. Raises ValueError where it is a file, or not empty."""
    target = pathlib.Path(out)
    if target.exists() and not target.is_dir():
        raise ValueError(f"--out {target} is a file: give the name of a folder")
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"--out {target} is not empty: give another folder, or empty this one")
    return target


def write_run(target: pathlib.Path, name: str, found: Published, data: str | None = None) -> Run:
    """Writes the run at step 0 of a model to the folder `target`, and opens it; `data` names its training data.

    Raises ValueError, before anything is written, where the data have images of another shape, or texts that would be
    written by another vocabulary than the model reads.
    """
    source = _unknown(found) if data is None else _data(data, found)
    experiment = Experiment(name=name, model=found.model, data=source, optim={})
    try:
        _write(target, experiment, found)
    except BaseException:  # a full disk, Ctrl-C: half a folder is no run
        shutil.rmtree(target, ignore_errors=True)
        raise
    return load(target)


def rows_of(experiment: Experiment) -> Rows:
    """Returns the shapes of the rows of data that a model is for, of latents where it works in their space."""
    rows = dict(model_row_shapes(experiment))
    if not space_of(experiment.model).draws_images:
        rows["image"] = jax.ShapeDtypeStruct(experiment.model.image_shape, np.float32)
    return rows


def shapes_of(model: Model) -> dict[str, Any]:
    """Returns the shapes of a model's networks. Raises ValueError for sizes that do not go together."""
    return dict(abstract_nets(model, rows_of(Experiment(name="", model=model, data=UnknownData(), optim={}))))


def completed(model: Model, nets: Mapping[str, Any], shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a model's networks with fresh weights for those that a file leaves out, such as a discriminator."""
    if nets.keys() == shapes.keys():
        return dict(nets)
    rows = rows_of(Experiment(name="", model=model, data=UnknownData(), optim={}))
    batch = jax.tree.map(lambda row: np.zeros(row.shape, row.dtype), example_batch(rows, 2))
    quickly = {"xla_backend_optimization_level": 0}  # it runs once
    draw, missing = initializer(model), shapes.keys() - nets.keys()

    def fresh(seed: Any, batch: Any) -> dict[str, Any]:
        drawn = draw(seed, batch)
        return {name: drawn[name] for name in sorted(missing)}

    drawn = jax.jit(batch_draws(fresh), compiler_options=quickly)(np.uint32(0), batch)
    return {name: nets[name] if name in nets else drawn[name] for name in shapes}


def sha256(path: pathlib.Path) -> str:
    """Computes the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unknown(found: Published) -> Source:
    return UnknownData() if found.tokenizer is None else UnknownTexts(found.tokenizer)


def _data(word: str, published: Published) -> Source:
    """Makes the source of a word, with the tokenizer of a model that reads texts; of latents' models of either."""
    height, width, channels = sample_shape(published.model)
    settings: dict[str, Any] = {"size": height if height == width else None, "channels": channels}
    found = parse_source(word, **{name: settings[name] for name in settings_of(word) if name in settings})
    if published.tokenizer is not None:
        if not isinstance(found, Captioned):
            raise ValueError(f"--data {word}: this model reads texts: name images with captions, captioned:FOLDER")
        found = dataclasses.replace(found, tokenizer=published.tokenizer)
    opened, own = found.open(), published.opened_tokenizer()
    known = (sample_shape(published.model), published.model.image_shape)
    if opened.image_shape not in known:
        said = " or ".join(map(str, dict.fromkeys(known)))
        raise ValueError(
            f"--data {word}: images of {opened.image_shape}, but the model's are of {said}: name other data"
        )
    if own is not None and (there := tokenizer_of(opened)) is not None and there.files() != own.files():
        raise ValueError(
            f"--data {word}: its captions make another vocabulary ({there.vocabulary_size} tokens) than the one that "
            f"the model reads ({own.vocabulary_size}): name the captions that it was trained on, or leave --data out; "
            "prompts need none"
        )
    return found


def _write(folder: pathlib.Path, experiment: Experiment, found: Published) -> None:
    """Writes the folder of a run at step 0. experiment.json comes last: without it a folder is no run."""
    folder.mkdir(parents=True, exist_ok=True)
    state = jax.device_put(create(dict(found.nets), experiment.optim, experiment.averages))
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()
    folders.store_rows(folder, rows_of(experiment), found.class_names, found.opened_tokenizer())
    log.write_json(folder / "parameters.json", summary.parameter_summary(state))
    log.write_json(folder / "environment.json", log.environment())
    log.write_json(folder / "origin.json", found.origin)
    log.write_json(folder / "experiment.json", to_dict(experiment))
