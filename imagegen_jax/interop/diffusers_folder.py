"""Folders that diffusers saved, as run folders: a network, its scheduler and their configurations."""

from __future__ import annotations

import dataclasses
import pathlib

from imagegen_jax.core.run import Path, Run
from imagegen_jax.interop.diffusers_config import model_of
from imagegen_jax.interop.diffusers_unets import rules_of, unet_of
from imagegen_jax.interop.importing import check_target, write_run
from imagegen_jax.interop.pipelines.parts import NETWORK, Part, published, weights_in
from imagegen_jax.interop.pipelines.pipelines import READERS, read_pipeline
from imagegen_jax.interop.settings import Config, read_config, short

OTHER_PARTS = ("text_encoder", "tokenizer", "transformer", "vae", "vqvae")  # of pipelines that need their index


def import_diffusers(folder: Path, out: Path, data: str | None = None) -> Run:
    """Makes the run folder `out` of the model that diffusers saved in `folder`; `data` names its training data.

    origin.json tells where the run came from: the configurations, and the weights' name and SHA-256. Raises ValueError
    before anything is written, and names value, place and remedy, where the model cannot be read as one of this
    package, where `out` is not empty, and where the data have images of another shape.
    """
    source, target = pathlib.Path(folder), check_target(out)
    pipeline = _pipeline(source)
    if pipeline and pipeline.get("_class_name") in tuple(READERS):
        return write_run(target, source.resolve().name, read_pipeline(source, pipeline), data)
    unet_place, scheduler_place = _parts(source, pipeline)
    unet, scheduler = read_config(unet_place), read_config(scheduler_place)
    network, image_shape = unet_of(unet, str(unet_place))
    model = model_of(network, image_shape, scheduler, str(scheduler_place), unet.get("num_class_embeds") or 0)
    configs = {"unet": (unet, str(unet_place)), "scheduler": (scheduler, str(scheduler_place))}
    parts = {"unet": Part("network", rules_of(network))}
    found = published(source, model, configs, parts, places={"unet": weights_in(unet_place.parent, NETWORK)})
    origin = {"library": "diffusers", "folder": str(source), "model_index": pipeline, **found.origin}
    return write_run(target, source.resolve().name, dataclasses.replace(found, origin=origin), data)


def _pipeline(folder: pathlib.Path) -> Config | None:
    """Reads model_index.json; None where there is none, and none is needed."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder: give the one that diffusers saved the model to, or a copy of it")
    index = folder / "model_index.json"
    if index.is_file():
        return read_config(index)
    if parts := [name for name in OTHER_PARTS if (folder / name).is_dir()]:
        raise ValueError(
            f"{folder} has no model_index.json, which says what its parts ({', '.join(parts)}) make together: copy it "
            "there from where the model is published"
        )
    return None


def _parts(folder: pathlib.Path, pipeline: Config | None) -> tuple[pathlib.Path, pathlib.Path]:
    """Finds the configurations of a network and its scheduler. Raises ValueError for a pipeline with other parts."""
    others = sorted(name for name in pipeline or () if not name.startswith("_") and name not in ("unet", "scheduler"))
    if others:
        raise ValueError(
            f"{folder / 'model_index.json'}: _class_name={short((pipeline or {}).get('_class_name'))}, with "
            f"{others[0]!r} beside unet and scheduler: only pipelines of these two, whose network sees the images "
            f"themselves, can be imported, and a {' or '.join(READERS)}"
        )
    unet = _first(folder, "unet/config.json", "config.json")
    return unet, _first(folder, "scheduler/scheduler_config.json", "scheduler_config.json")


def _first(folder: pathlib.Path, *names: str) -> pathlib.Path:
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"{folder} has neither {' nor '.join(names)}: copy it there from where the model is published")
