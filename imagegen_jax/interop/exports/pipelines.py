"""A model of texts, in the latents of an autoencoder, as a folder of a pipeline that diffusers reads."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from imagegen_jax.autoencoders.kl import AutoencoderKL
from imagegen_jax.core.arrays.space import Latents, space_of
from imagegen_jax.core.arrays.texts import Tokenizer
from imagegen_jax.core.run import Run
from imagegen_jax.diffusion.models.diffusion import Diffusion
from imagegen_jax.interop.diffusers_config import check_groups
from imagegen_jax.interop.exports.configurations import tokenizer_of
from imagegen_jax.interop.exports.designs import DESIGNS, EMPTY, MAY_BE_MISSING, Design, encoders_of
from imagegen_jax.interop.exports.diffusers import REMEDY, VERSION
from imagegen_jax.interop.exports.schedulers import latent_scheduler_of
from imagegen_jax.interop.name_map import as_published
from imagegen_jax.interop.names.transformers import PLACES
from imagegen_jax.interop.settings import Config
from imagegen_jax.nn.backbones.autoencoder import ConvEncoder
from imagegen_jax.nn.backbones.latent_unet import LatentUNet
from imagegen_jax.nn.backbones.transformers.mmdit import MMDiT
from imagegen_jax.nn.text_encoders.joined import JoinedText
from imagegen_jax.text.joined import JoinedRows

NOT_DRAWING = (  # fields that are of training, or that a pipeline is told when it is called
    "times", "weighting", "coupling", "levels", "solver", "label_dropout", "guidance", "sigma_data", "augment",
    "uncertainty", "token_dropout", "source_dropout", "train_text",
)  # fmt: skip
COMPUTED = ("attention", "dtype", "dropout")  # fields of networks that say how they are computed, or trained


def export_pipeline(run: Run, folder: pathlib.Path) -> list[str]:
    """Writes model_index.json and a folder each of network, autoencoder, text encoders, tokenizers and scheduler.

    Returns the parts of the pipeline that the model does not have: whoever loads it has to say that they are None.
    Raises ValueError, before anything is written, for a model or a tokenizer that no pipeline has.
    """
    from safetensors.numpy import save_file

    model, tokenizers = run.experiment.model, _each(run.tokenizer)
    design = design_of(model)
    if fault := design.tokenizer_fault(tokenizers):
        raise ValueError(f"the run's tokenizer, {fault}, which is the only one of a {design.pipeline} there: {REMEDY}")
    configs = configurations(model, run.tokenizer)
    tensors = {}
    for part, (name, rules, begins) in design.parts_of(model).items():
        network, _, inside = name.partition("/")
        params = run.nets[network]["params"]
        params = params[inside] if inside else params
        tensors[f"{part}/{begins[0]}.safetensors"] = as_published(params, rules) | _places(model, part)
        if groups := configs[part].get("norm_num_groups"):
            _checked(design, check_groups, params, groups, part)
    files = {f"{part}/{'scheduler_' * (part == 'scheduler')}config.json": config for part, config in configs.items()}
    words = {f"tokenizer{f'_{i}' * (i > 1)}": tokenizer for i, tokenizer in enumerate(tokenizers, start=1)}
    files |= {f"{part}/tokenizer_config.json": tokenizer_of(tokenizer) for part, tokenizer in words.items()}
    network, scheduler = (configs[part]["_class_name"] for part in (design.folder, "scheduler"))
    files["model_index.json"] = {**design.model_index(model, scheduler, network), "_diffusers_version": VERSION}
    for part in (*configs, *words):
        (folder / part).mkdir()
    for place, arrays in tensors.items():
        save_file(arrays, folder / place, {"format": "pt"})
    for part, tokenizer in words.items():
        for name, content in tokenizer.files().items():
            (folder / part / name).write_bytes(content)
    for name, config in files.items():
        (folder / name).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    return [part for part in MAY_BE_MISSING if files["model_index.json"].get(part) == EMPTY]


def design_of(model: Any) -> Design:
    """Returns the design of the pipeline that a model can be. Raises ValueError where there is none."""
    space = space_of(model)
    found = next((design for design in DESIGNS if isinstance(model, Diffusion) and design.fits(model)), None)
    if (
        found is None
        or not isinstance(space, Latents)
        or not isinstance(space.autoencoder, AutoencoderKL)
        or not isinstance(space.autoencoder.network.encoder, ConvEncoder)
    ):
        kinds = "; ".join(design.words for design in DESIGNS)
        raise ValueError(
            f"a {type(model).__name__} of this network, text encoder and space is no pipeline of diffusers ({kinds}; "
            f"each an AutoencoderKL with ConvEncoder and ConvDecoder): {REMEDY}"
        )
    if not isinstance(space.scale, float | int):
        raise ValueError(f"space.scale={space.scale}: a {found.pipeline} has one number for all: {REMEDY}")
    return found


def configurations(model: Any, tokenizer: Tokenizer) -> dict[str, Config]:
    """Returns the configuration of each part of a model's pipeline, such that their import is that model.

    Raises ValueError, which names the settings, for a model that cannot be such a pipeline.
    """
    design = design_of(model)
    found = {**design.networks(model, _each(tokenizer)), "scheduler": latent_scheduler_of(model)}
    placed = {part: (config, part) for part, config in found.items()}
    again = _checked(design, design.model_of, placed, tokenizer, design.index(model))
    if faults := list(_differences(_as_drawn(model, again), again, "")):
        raise ValueError(f"a {design.pipeline} cannot have {'; '.join(faults[:3])}: {REMEDY}")
    return found


def _each(tokenizer: Any) -> Sequence[Any]:
    return tokenizer.parts if isinstance(tokenizer, JoinedRows) else (tokenizer,)


def _places(model: Any, part: str) -> dict[str, np.ndarray]:
    """Returns the table of places, which Stable Diffusion 3 has in its file, where a part is its transformer."""
    if part != "transformer" or not isinstance(model.network, MMDiT):
        return {}
    return {PLACES: np.asarray(model.network.table(), np.float32)[None]}


def _checked(design: Design, read: Callable[..., Any], *given: Any) -> Any:
    """Returns what `read` makes of what would be written. Raises ValueError where it refuses that."""
    try:
        return read(*given)
    except ValueError as error:
        raise ValueError(f"no {design.pipeline} has these settings ({error}): {REMEDY}") from error


def _differences(ours: Any, there: Any, place: str) -> Iterator[str]:
    """Names the settings that differ, with both values."""
    if type(ours) is type(there) and isinstance(ours, tuple) and len(ours) == len(there):
        for at, (one, other) in enumerate(zip(ours, there, strict=True)):
            yield from _differences(one, other, f"{place}[{at}]")
        return
    if type(ours) is not type(there) or not dataclasses.is_dataclass(ours):
        if ours != there:
            yield f"{place}={ours!r} (but {there!r})"
        return
    for field in dataclasses.fields(ours):
        if field.name not in ("parent", "name"):  # of a linen module, which are no settings
            inside = f"{place}{'.' * bool(place)}{field.name}"
            yield from _differences(getattr(ours, field.name), getattr(there, field.name), inside)


def _as_drawn(ours: Diffusion, again: Diffusion) -> Diffusion:
    """Returns the model with the other's training, sampling and arithmetic: what is left decides on its images."""
    space: Any = ours.space
    there: Any = again.space
    other: Any = again.network
    network: Any = _as_computed(ours.network, other)
    if isinstance(network, LatentUNet) and network.head_channels:
        network = network.clone(heads=other.heads)
    coders = {
        half: _as_computed(getattr(space.autoencoder.network, half), getattr(there.autoencoder.network, half))
        for half in ("encoder", "decoder")
    }
    stage = space.autoencoder.network.clone(dtype=there.autoencoder.network.dtype, **coders)
    autoencoder = dataclasses.replace(there.autoencoder, network=stage, image_shape=space.autoencoder.image_shape)
    return dataclasses.replace(
        ours,
        network=network,
        space=dataclasses.replace(space, autoencoder=autoencoder, decoding=there.decoding),
        text=_text_as_computed(ours.text, again.text),
        **{name: getattr(again, name) for name in NOT_DRAWING},
    )


def _text_as_computed(ours: Any, again: Any) -> Any:
    """Returns text encoders that compute as others do."""
    if not isinstance(ours, JoinedText):
        return _as_computed(ours, again)
    beside, there = encoders_of(ours), encoders_of(again)
    found = tuple(_as_computed(one, other) for one, other in zip(beside, there, strict=True))
    split = len(ours.encoders)
    return ours.clone(encoders=found[:split], after=found[split] if len(found) > split else None)


def _as_computed(ours: Any, again: Any) -> Any:
    """Returns a network that computes as another does, where it is of the same kind."""
    if type(ours) is not type(again):
        return ours
    return ours.clone(**{name: getattr(again, name) for name in COMPUTED if hasattr(again, name)})
