"""Codes as data: whether they go with a model, and with the tokenizer that it will decode by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagegen_jax.core.capabilities import OverCodes
from imagegen_jax.core.checkpoints.fingerprint import digest_of
from imagegen_jax.core.model import Model, Variables
from imagegen_jax.core.source import Coded

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


def check_made_by(model: Model, data: Any, pretrained: Mapping[str, Variables], named: Any) -> None:
    """Raises ValueError, with both fingerprints, where codes were made by other weights than the frozen tokenizer's.

    `pretrained` are the weights that were read, by network, and `named` is where the tokenizer's are said to be.
    """
    if not (isinstance(data, Coded) and isinstance(model, OverCodes)):
        return
    found = digest_of(pretrained[TOKENIZER]) if TOKENIZER in pretrained else "fresh weights"
    if found != data.tokenizer:
        raise ValueError(
            f"the data are codes of the tokenizer {data.tokenizer}, but pretrained[{TOKENIZER!r}]={named} holds "
            f"{found}, which would decode them to other images. Name the run, step and average that made them, or "
            "encode the images anew (imagegen encode)"
        )


def _text(value: int | tuple[int, ...]) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:,}"
