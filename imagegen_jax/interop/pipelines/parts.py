"""A folder of a pipeline: its configurations, and the weights of each of its networks."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from imagegen_jax.core.config.frozen_map import FrozenMap
from imagegen_jax.core.files.weight_files import read_weight_file
from imagegen_jax.core.files.wrong_files import INDEX, parts_of
from imagegen_jax.core.model import Model
from imagegen_jax.interop.diffusers_config import check_groups, sampling_of
from imagegen_jax.interop.importing import Published, sha256, shapes_of
from imagegen_jax.interop.name_map import Rule, renamed
from imagegen_jax.interop.settings import Config, read_config
from imagegen_jax.text.settings import AnyTokenizer

NETWORK, ENCODER = ("diffusion_pytorch_model",), ("model", "pytorch_model")  # how files of weights begin
_NONE: Mapping[str, pathlib.Path] = FrozenMap()
_ENDS = (".safetensors", f".safetensors{INDEX}", ".bin", f".bin{INDEX}")


def config_of(folder: pathlib.Path, part: str) -> tuple[Config, str]:
    """Reads the configuration of a part of a pipeline; returns its place too. Raises ValueError where it is missing."""
    place = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
    if not place.is_file():
        raise ValueError(
            f"{folder} has no {place.relative_to(folder)}: copy it there from where the model is published"
        )
    return read_config(place), str(place)


def weights_in(folder: pathlib.Path, begins: Sequence[str]) -> pathlib.Path:
    """Finds the file of a network's weights, the index of its parts, or one of these.

    Raises ValueError where there is none, or no telling which.
    """
    for name in (f"{begin}{end}" for end in _ENDS for begin in begins):
        if (folder / name).is_file():
            return folder / name
    others = sorted(path for begin in begins for path in folder.glob(f"{begin}[-.]*") if path.suffix in _ENDS)
    variants = [path for path in others if "-of-" not in path.name]
    if len(variants) > 1:
        names = ", ".join(path.name for path in variants)
        raise ValueError(f"{folder} has {names}: rename the one to be read to {begins[0]}{variants[0].suffix}")
    if not others:
        raise ValueError(f"{folder} has no {begins[0]}.safetensors: copy it there from where the model is published")
    return (variants or others)[0]


class Part(NamedTuple):
    """A network of a pipeline."""

    name: str  # of the network here, or of a part of it: "text/encoders_0"
    rules: Sequence[Rule]
    begins: Sequence[str] = NETWORK


def published(
    folder: pathlib.Path,
    model: Model,
    configs: Mapping[str, tuple[Config, str]],
    parts: Mapping[str, Part],
    tokenizer: AnyTokenizer | None = None,
    class_names: tuple[str, ...] = (),
    places: Mapping[str, pathlib.Path] = _NONE,
) -> Published:
    """Reads the weights of a model's networks; `configs` are the configurations of all parts, and their places.

    `places` are files of weights that are not in the folder of their part.

    Raises ValueError for sizes that do not go together, and for weights that are missing, not whole, or another's.
    """
    try:
        shapes = shapes_of(model)
    except ValueError as error:
        raise ValueError(f"{folder}: the sizes in its configurations do not go together: {error}") from error
    nets: dict[str, Any] = {}
    files: dict[str, str] = {}
    for part, (name, rules, begins) in parts.items():
        config, place = configs[part]
        network, _, inside = name.partition("/")
        wanted = {"params": shapes[network]["params"][inside]} if inside else shapes[network]
        if begins == NETWORK:  # an encoder of texts has no groups
            check_groups(wanted["params"], config.get("norm_num_groups", 32), place)
        collections, found = filled(places.get(part) or weights_in(folder / part, begins), wanted, rules)
        if inside:
            nets.setdefault(network, {"params": {}})["params"][inside] = collections["params"]
        else:
            nets[network] = collections
        files |= found
    origin = {"sha256": files, **{part: config for part, (config, _) in configs.items()}}
    return Published(model, nets, origin, class_names, tokenizer)


def filled(
    place: pathlib.Path, shapes: Mapping[str, Any], rules: Sequence[Rule]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Returns a network's collections with the weights of a file, and the SHA-256 of each of its files.

    Collections beside the parameters, such as when a code was last chosen, are in no file and start with zeros. Raises
    ValueError where the weights are not whole, or another network's.
    """
    params = renamed(read_weight_file(place).arrays, shapes["params"], rules, str(place))
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), {**shapes, "params": {}})
    files = {f"{path.parent.name}/{path.name}": sha256(path) for path in parts_of(place)}
    return {**zeros, "params": params}, files


def latent_sampling(scheduler: Config, place: str) -> dict[str, Any]:
    """Returns the fields of a `Diffusion` of latents that a scheduler's configuration tells, which was read at `place`.

    Raises ValueError for settings that are not supported, and for latents that would be clipped.
    """
    fields = sampling_of(scheduler, place)
    if fields.get("clip"):
        raise ValueError(
            f"{place}: clip_sample=True (its default): latents have no range to be kept in: write "
            '"clip_sample": false there'
        )
    return fields
