"""Codes and latents as data: whether they go with a model, and with the network that it will decode by."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.arrays.space import AUTOENCODER, autoencoder_of
from imagegen_jax.core.capabilities import OverCodes
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.model import Model, Nets, Variables
from imagegen_jax.core.source import Coded, Encoded

Sizes = dict[str, int | tuple[int, ...]]
TOKENIZER = "tokenizer"  # the network of every tokenizer, and of models over its codes


def check_codes(model: Model, data: Any) -> None:
    """Raises ValueError where data are codes, but the model is of images, or of codes of other shapes or books."""
    if not isinstance(data, Coded):
        return
    name = type(model).__name__
    if not isinstance(model, OverCodes):
        raise ValueError(
            f"the data are codes, and a {name} is trained on images: take data with images, or a model over codes"
        )
    given: Sizes = {
        "code_shape": tuple(data.code_shape),
        "codebook_size": data.codebook_size,
    }
    own = model.tokenizer
    wanted: Sizes = {"code_shape": tuple(own.code_shape), "codebook_size": own.codebook_size}
    wrong = [key for key in given if given[key] != wanted[key]]
    if wrong:
        said = "; ".join(f"{key} is {_text(given[key])} there, {_text(wanted[key])} here" for key in wrong)
        raise ValueError(
            f"the data are codes of another tokenizer than model.tokenizer, a {type(own).__name__}: {said}: "
            "encode the images anew by the run that pretrained names (imagegen encode), or set model.tokenizer to what "
            "made them"
        )


def check_made_by(model: Model, data: Any, pretrained: Mapping[str, Variables], named: Mapping[str, Any]) -> None:
    """Raises ValueError, with both fingerprints, where data were made by other weights than the frozen network's.

    Data are codes of a tokenizer or latents of an autoencoder; latents that do not say which are accepted.
    `pretrained` are the weights that were read, by network, and `named` is where they are said to be.
    """
    network, kind, maker = AUTOENCODER, "latents", None
    if isinstance(data, Coded) and isinstance(model, OverCodes):
        network, kind, maker = TOKENIZER, "codes", data.tokenizer
    elif isinstance(data, Encoded) and autoencoder_of(model) is not None:
        maker = data.autoencoder
    found = digest_of(pretrained[network]) if network in pretrained else "fresh weights"
    if maker not in (None, found):
        raise ValueError(
            f"the data are {kind} of the {network} {maker}, but pretrained[{network!r}]={named.get(network)} holds "
            f"{found}, which would decode them to other images. Name the run, step and average that made them, or "
            "encode the images anew (imagegen encode)"
        )


def check_one_autoencoder(own: Nets, other: Nets, places: tuple[pathlib.Path, pathlib.Path]) -> None:
    """Raises ValueError, with both fingerprints, where the runs at two places have autoencoders of other weights."""
    if AUTOENCODER not in own.keys() & other.keys():
        return
    found, there = digest_of(own[AUTOENCODER]), digest_of(other[AUTOENCODER])
    if found != there:
        raise ValueError(
            f"{places[1]} is of the latents of the autoencoder {there}, {places[0]} of those of {found}: the latents "
            "of the one say nothing to the other; use runs whose pretrained['autoencoder'] is the same"
        )


def _text(value: int | tuple[int, ...]) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}"
