"""The kinds of pipelines, and what reads a folder of each."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping

from imagegen_jax.interop.importing import Published
from imagegen_jax.interop.pipelines import (
    consistency,
    dit,
    latent_diffusion,
    pixart,
    stable_diffusion,
    stable_diffusion_3,
    stable_diffusion_xl,
)
from imagegen_jax.interop.settings import Config

READERS: Mapping[str, Callable[[pathlib.Path, Config], Published]] = {  # by the name of the class in model_index.json
    "ConsistencyModelPipeline": consistency.read,
    "DiTPipeline": dit.read,
    "LDMPipeline": latent_diffusion.read,
    "PixArtAlphaPipeline": pixart.read,
    "StableDiffusion3Pipeline": stable_diffusion_3.read,
    "StableDiffusionPipeline": stable_diffusion.read,
    "StableDiffusionXLPipeline": stable_diffusion_xl.read,
}
UNREAD = ("safety_checker", "feature_extractor", "image_encoder")  # parts that do not draw


def read_pipeline(folder: pathlib.Path, index: Config) -> Published:
    """Reads a folder of a kind that `READERS` has, and says which of its parts are left out.

    Raises what the reader raises, before anything is written.
    """
    found = READERS[index["_class_name"]](folder, index)
    unread = [name for name in UNREAD if isinstance(index.get(name), list) and any(index[name])]
    if unread:
        print(f"left out, since images are drawn without: {', '.join(unread)}", file=sys.stderr)
    origin = {"library": "diffusers", "folder": str(folder), "model_index": index, "left_out": unread, **found.origin}
    return dataclasses.replace(found, origin=origin)
