"""The kinds of published checkpoints, how each is known by its tensors, and what reads it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from imagegen_jax.core.config.bounds import fault
from imagegen_jax.core.files.regular import check_regular
from imagegen_jax.core.files.weight_files import WeightFile, read_weight_file
from imagegen_jax.core.run import Path, Run
from imagegen_jax.interop.importing import Published, check_target, sha256, write_run
from imagegen_jax.interop.official import (
    biggan,
    dit,
    edm,
    edm2,
    first_stage,
    guided_diffusion,
    guided_diffusion_classifier,
    latent_diffusion,
    r3gan,
    stylegan2_ada,
    taming_transformer,
    tiny_autoencoder,
)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of checkpoint."""

    what: str  # it is, with an article
    signs: tuple[str, ...]  # tensors that are in each file of the kind
    read: Callable[..., Published]  # of (file, place), and the options where there are any
    options: type | None = None  # a dataclass of what the files do not say


KINDS: dict[str, Kind] = {
    "stylegan2-ada": Kind("a StyleGAN2 pickle", ("G_ema/synthesis.b4.const",), stylegan2_ada.read),
    "edm": Kind("an EDM pickle", ("ema/model.map_layer0.weight",), edm.read),
    "edm2": Kind("an EDM2 pickle", ("ema/unet.emb_fourier.freqs",), edm2.read),
    "guided-diffusion": Kind(
        "a state dict of ADM",
        ("input_blocks.0.0.weight", "output_blocks.0.0.in_layers.0.weight"),
        guided_diffusion.read,
        guided_diffusion.Options,
    ),
    "guided-diffusion-classifier": Kind(
        "a state dict of ADM's classifier of noisy images",
        ("input_blocks.0.0.weight", "out.2.positional_embedding"),
        guided_diffusion_classifier.read,
        guided_diffusion_classifier.Options,
    ),
    "r3gan": Kind("an R3GAN pickle", ("G_ema/Model.MainLayers.0.Layers.0.Basis",), r3gan.read),
    "biggan": Kind(
        "a state dict of BigGAN's generator", ("shared.weight", "output_layer.0.bn.stored_mean"), biggan.read
    ),
    "dit": Kind(
        "a state dict of DiT", ("x_embedder.proj.weight", "y_embedder.embedding_table.weight"), dit.read, dit.Options
    ),
    "taming": Kind(
        "a checkpoint of VQGAN",
        ("quantize.embedding.weight", "encoder.mid.block_1.conv1.weight"),
        first_stage.read,
        first_stage.Options,
    ),
    "ldm": Kind(
        "a checkpoint of latent diffusion's autoencoder",
        ("post_quant_conv.weight", "encoder.mid.block_1.conv1.weight"),
        first_stage.read,
        first_stage.Options,
    ),
    "taesd": Kind(
        "the encoder of TAESD, beside its decoder",
        ("0.weight", "1.conv.0.weight", "1.conv.4.bias"),
        tiny_autoencoder.read_pair,
        tiny_autoencoder.PairOptions,
    ),
    "tiny-autoencoder": Kind(
        "an AutoencoderTiny of diffusers",
        ("encoder.layers.1.conv.0.weight", "decoder.layers.2.conv.0.weight"),
        tiny_autoencoder.read,
        tiny_autoencoder.Options,
    ),
    "latent-diffusion": Kind(
        "a checkpoint of latent diffusion with its autoencoder",
        ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.post_quant_conv.weight"),
        latent_diffusion.read,
        latent_diffusion.Options,
    ),
    "taming-transformer": Kind(
        "a checkpoint of taming's transformer with its VQGAN",
        ("transformer.tok_emb.weight", "first_stage_model.quantize.embedding.weight"),
        taming_transformer.read,
        taming_transformer.Options,
    ),
}


def kind_of(file: WeightFile) -> str | None:
    """Returns the name of the kind that a file is of; None for no kind that is known."""
    return next((name for name in KINDS if is_of(file, name)), None)


def is_of(file: WeightFile, name: str) -> bool:
    """Tells whether a file has the tensors that all files of a kind have, as they are or in a mapping."""
    names = file.arrays.keys() | {tensor.rpartition("/")[2] for tensor in file.arrays}
    return names.issuperset(KINDS[name].signs)


def import_checkpoint(name: str, path: Path, out: Path, data: str | None = None, given: Sequence[str] = ()) -> Run:
    """Makes the run folder `out` of a checkpoint of the kind `name`; `data` names its training data.

    `given` are the kind's options, "size=64". origin.json tells where the run came from: settings, and the file's name
    and SHA-256. Raises ValueError before anything is written, and names value, place and remedy, where the file is none
    of the kind, or of no model of this package.
    """
    kind, place, target = KINDS[name], pathlib.Path(path).expanduser(), check_target(out)
    options = options_of(name, given)
    check_regular(place)
    file = read_weight_file(place)
    if not is_of(file, name):
        found = kind_of(file)
        remedy = f"imagegen import {found} {place} --out {target}" if found else "give the file as it was published"
        what = KINDS[found].what if found else "no checkpoint that is known here"
        if any(".lora_" in tensor for tensor in file.arrays):
            what, remedy = "low-rank pairs, which are for a run of their model", f"imagegen sample RUN --lora {place}"
        raise ValueError(f"{place} is not {kind.what}; it looks like {what}: {remedy}")
    try:
        published = kind.read(file, str(place)) if options is None else kind.read(file, str(place), options)
    except (KeyError, IndexError) as error:
        raise ValueError(f"{place} is not whole: it has no {error}: download it again") from error
    origin = {"kind": name, "file": place.name, "sha256": sha256(place), **published.origin}
    return write_run(target, place.stem, dataclasses.replace(published, origin=origin), data)


def options_of(name: str, given: Sequence[str]) -> Any:
    """Returns the options of a kind, "size=64", as its dataclass; None for a kind without. Raises ValueError."""
    cls = KINDS[name].options
    known: Mapping[str, Any] = get_type_hints(cls, include_extras=True) if cls else {}
    values: dict[str, Any] = {}
    for text in given:
        option, equals, value = text.partition("=")
        if option not in known or not equals:
            there = ", ".join(f"{option}=..." for option in known) or "none"
            raise ValueError(f"--set {text}: a file of the kind {name} has these options: {there}")
        try:
            values[option] = json.loads(value)
        except ValueError:
            values[option] = value
        if wrong := fault(values[option], known[option]):
            raise ValueError(f"--set {text}: {wrong}")
    return cls(**values) if cls else None
