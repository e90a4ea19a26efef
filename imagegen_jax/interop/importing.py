"""Imports of models that another library trained: they become run folders."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from imagegen_jax.core import run_folder as folders
from imagegen_jax.core.checkpoints.checkpoint import Checkpoints
from imagegen_jax.core.config.serial import to_dict
from imagegen_jax.core.experiment import Experiment
from imagegen_jax.core.files.regular import read_file
from imagegen_jax.core.reporting import log, summary
from imagegen_jax.core.run import Path, Run, load
from imagegen_jax.core.state import create
from imagegen_jax.data import Dataset, Source, parse_source
from imagegen_jax.interop.diffusers_config import Config, abstract_parameters, model_of, network_of
from imagegen_jax.interop.diffusers_weights import find_weights, parameters_of, read_tensors


@dataclasses.dataclass(frozen=True)
class UnknownData:
    """A source that stands for the data of an imported run where nobody has named them."""

    def open(self) -> Dataset:
        """Raises ValueError: there is nothing to open."""
        raise ValueError(
            "this run was imported, and nothing is known of the data that it was trained on: name some (`imagegen "
            "evaluate RUN DATA`), or import it again with --data"
        )


def import_diffusers(folder: Path, out: Path, data: str | None = None) -> Run:
    """Makes the run folder `out` of the model that diffusers saved in `folder`; `data` names its training data.

    origin.json tells where the run came from: the configurations, and the weights' name and SHA-256. Raises ValueError
    before anything is written, and names value, place and remedy, where the model cannot be read as one of this
    package, where `out` is not empty, and where the data have images of another shape.
    """
    source, target = pathlib.Path(folder), pathlib.Path(out)
    if target.exists() and not target.is_dir():
        raise ValueError(f"--out {target} is a file: give the name of a folder")
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"--out {target} is not empty: give another folder, or empty this one")
    pipeline, unet_place, scheduler_place = _parts(source)
    unet, scheduler = _config(unet_place), _config(scheduler_place)
    network, image_shape = network_of(unet, str(unet_place))
    model = model_of(network, image_shape, scheduler, str(scheduler_place))
    weights = find_weights(unet_place.parent)
    params = parameters_of(read_tensors(weights), abstract_parameters(network, image_shape), str(weights))
    chosen = UnknownData() if data is None else _data(data, image_shape)
    experiment = Experiment(name=source.resolve().name, model=model, data=chosen, optim={})
    origin = {
        "library": "diffusers",
        "folder": str(source),
        "weights": str(weights.relative_to(source)),
        "sha256": _sha256(weights),
        "model_index": pipeline,
        "unet": unet,
        "scheduler": scheduler,
    }
    try:
        _write(target, experiment, params, origin)
    except BaseException:  # a full disk, Ctrl-C: half a folder is no run
        shutil.rmtree(target, ignore_errors=True)
        raise
    return load(target)


def _parts(folder: pathlib.Path) -> tuple[Config | None, pathlib.Path, pathlib.Path]:
    """Reads model_index.json, and finds the network's and the scheduler's configurations.

    Raises ValueError for a pipeline with other parts.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that diffusers saved the model to, or a copy of it")
    index = folder / "model_index.json"
    pipeline = _config(index) if index.is_file() else None
    others = sorted(name for name in pipeline or () if not name.startswith("_") and name not in ("unet", "scheduler"))
    if others:
        raise ValueError(
            f"{index} has {others[0]!r} beside unet and scheduler: only pipelines of these two can be imported, whose "
            "network sees the images themselves"
        )
    unet = _first(folder, "unet/config.json", "config.json")
    return pipeline, unet, _first(folder, "scheduler/scheduler_config.json", "scheduler_config.json")


def _first(folder: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has neither {' nor '.join(names)}: copy it there from where the model is published")


def _config(path: pathlib.Path) -> Config:
    try:
        found = json.loads(read_file(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): fetch it again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}, but a configuration is an object: fetch it again")
    return found


def _data(word: str, image_shape: tuple[int, int, int]) -> Source:
    height, width, channels = image_shape
    found = parse_source(word, height if height == width else None, channels)
    given = found.open().image_shape
    if given != image_shape:
        raise ValueError(f"--data {word}: images of {given}, but the model's are of {image_shape}: name other data")
    return found


def _sha256(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: pathlib.Path, experiment: Experiment, params: Any, origin: dict[str, Any]) -> None:
    """Writes the folder of a run at step 0. experiment.json comes last: without it a folder is no run."""
    folder.mkdir(parents=True, exist_ok=True)
    state = jax.device_put(create({"network": {"params": params}}, experiment.optim, experiment.averages))
    with contextlib.closing(Checkpoints(folder / "checkpoints")) as checkpoints:
        checkpoints.save(0, state)
        checkpoints.wait()
    image = jax.ShapeDtypeStruct(experiment.model.image_shape, np.uint8)
    folders.store_rows(folder, {"image": image})
    log.write_json(folder / "parameters.json", summary.parameter_summary(state))
    log.write_json(folder / "environment.json", log.environment())
    log.write_json(folder / "origin.json", origin)
    log.write_json(folder / "experiment.json", to_dict(experiment))
