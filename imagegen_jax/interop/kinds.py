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
from imagegen_jax.interop.official import dit, edm, edm2, guided_diffusion, stylegan2_ada


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of checkpoint."""

    what: str  # it is, with an article
    signs: tuple[str, ...]  # how names of tensors end that are in each file of the kind
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
    "dit": Kind(
        "a state dict of DiT", ("x_embedder.proj.weight", "y_embedder.embedding_table.weight"), dit.read, dit.Options
    ),
}


def kind_of(file: WeightFile) -> str | None:
    """Returns the name of the kind that a file is of; None for no kind that is known."""
    for name, kind in KINDS.items():
        if all(any(tensor.endswith(sign) for tensor in file.arrays) for sign in kind.signs):
            return name
    return None


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
    found = kind_of(file)
    if found != name:
        remedy = f"imagegen import {found} {place} --out {target}" if found else "give the file as it was published"
        what = KINDS[found].what if found else "no checkpoint that is known here"
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
