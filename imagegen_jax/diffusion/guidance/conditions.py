"""The conditions that diffusion models make images from, and guidance away from what they make without these.

Tokens are seen by cross-attention; a model's network "text" makes those of a text. A source is an image of low
resolution, in grey, or with a hole, that the network sees beside the noisy one: concatenation, as SR3 has it (Saharia
et al. 2022, arXiv 2104.07636, section 2) and ADM's upsampler (Dhariwal & Nichol 2021, arXiv 2105.05233). A source with
a hole is RGBA, and transparent there (`data.Erased`): the network sees the mask as a channel.
"""

from __future__ import annotations

from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from imagegen_jax.core.arrays.texts import NEGATIVE, EmptyText
from imagegen_jax.core.model import Batch, Nets, check_condition_rows
from imagegen_jax.diffusion.guidance.functions import Guidance, Guiding, guiding, unguided
from imagegen_jax.diffusion.process.denoiser import Clipped, Denoise, clipped
from imagegen_jax.nn.backbones.conditioning import (
    TEXT,
    Conditioning,
    Rates,
    conditioning_of,
    empty_text_of,
    keep_conditions,
    keep_texts,
    null_conditions,
)
from imagegen_jax.nn.text_encoders.encoding import TextEncoder

ImageShape = tuple[int, int, int]
NEGATIVE_TEXT = (f"{NEGATIVE}text", f"{NEGATIVE}text_mask")
TokenShape = tuple[int, int]  # how many, and how many values each


class DropsConditions(Protocol):
    """A model that may drop conditions in training, so that its samples can be guided by them."""

    @property
    def condition_dropout(self) -> Rates:
        """The share of rows in training for which each condition is dropped."""
        ...

    @property
    def num_classes(self) -> int: ...

    @property
    def guidance(self) -> Guidance:
        """The way in which a guidance scale moves estimates."""
        ...

    def estimate(self, nets: Nets, conditioning: Conditioning) -> Denoise:
        """Returns the denoiser of the network under these conditions, without guidance."""
        ...


def rows_of_conditions(
    source_shape: ImageShape | None, token_shape: TokenShape | None = None, text: TextEncoder | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the `condition_rows` of a model with such fields: "source", as the data hold it, "tokens" and "text".

    None stands for a condition that the model does not have.
    """
    source = {} if source_shape is None else {"source": jax.ShapeDtypeStruct(source_shape, np.uint8)}
    tokens = {} if token_shape is None else {"tokens": jax.ShapeDtypeStruct(token_shape, np.float32)}
    if text is not None:
        shape, names = (text.context,), {"text": np.int32, "text_mask": np.bool_}
        tokens |= {name: jax.ShapeDtypeStruct(shape, dtype) for name, dtype in names.items()}
    return {**source, **tokens}


def check_source_shape(source: ImageShape | None, image: ImageShape) -> None:
    """Raises ValueError where sources are larger than the images that are made from them.

    Call it in `init`, not when a model is made: the two shapes are changed one after the other.
    """
    if source is not None and not (1 <= source[0] <= image[0] and 1 <= source[1] <= image[1] and 1 <= source[2]):
        raise ValueError(
            f"model.source_shape={source}, model.image_shape={image}: height, width and channels of sources must be at "
            "least 1, and the first two at most those of the images"
        )


def check_empty_text(empty: EmptyText | None, text: TextEncoder | None) -> None:
    """Raises ValueError where the row of the empty text is none of those that the encoder of texts reads."""
    if empty is None:
        return
    if text is None:
        raise ValueError("model.empty_text is given, but model.text is None: no text is read; set it to None")
    if len(empty.tokens) != text.context or not all(0 <= token < text.vocabulary_size for token in empty.tokens):
        raise ValueError(
            f"model.empty_text has {len(empty.tokens)} tokens, up to {max(empty.tokens, default=0)}: model.text reads "
            f"rows of {text.context}, below {text.vocabulary_size}: make it by the tokenizer of the data, "
            "EmptyText.of(tokenizer)"
        )


def check_dropout(rates: Rates, num_classes: int, rows: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Raises ValueError for a rate outside of [0, 1), or one above 0 for a condition that the model does not have."""
    if not 0 <= rates.labels < 1 or (rates.labels and not num_classes):
        raise ValueError(
            f"model.label_dropout={rates.labels}, model.num_classes={num_classes}: it must be at least 0 and below 1, "
            "and 0 without classes"
        )
    for name, field, rate in (("tokens", "token", rates.tokens), ("source", "source", rates.source)):
        there = {name, "text"} & rows.keys() if name == "tokens" else {name} & rows.keys()
        if not 0 <= rate < 1 or (rate and not there):
            shape = rows[name].shape if name in rows else None
            raise ValueError(
                f"model.{field}_dropout={rate}, model.{field}_shape={shape}: it must be at least 0 and below 1, and 0 "
                f"without a {field}_shape" + (" or a text encoder (model.text)" if name == "tokens" else "")
            )


def check_guidance(model: DropsConditions, conditions: Batch) -> None:
    """Raises ValueError for guidance where no condition was ever dropped in training."""
    if "guidance" in conditions and not model.condition_dropout.dropped:
        raise ValueError(
            f"guidance={conditions['guidance']}, but model.label_dropout=0: the network has not learned to do without "
            "labels, so there is nothing to guide away from; train with label_dropout 0.1, say, or give another run as "
            "a guide; likewise token_dropout for tokens and text, and source_dropout for a source"
        )
    if f"{NEGATIVE}text" in conditions and not ("guidance" in conditions and model.condition_dropout.tokens):
        raise ValueError(
            "a negative prompt is what guidance leads away from: give a guidance scale too (guidance=5.0, or "
            "--guidance 5), to a model that was trained with token_dropout"
        )


def guided_by_conditions(model: DropsConditions, nets: Nets, conditions: Batch) -> Guiding:
    """Returns the function that guides estimates of `model` by the scale `conditions["guidance"]`; unguided without it.

    It leads away from the estimate without the conditions that training dropped at times, as `model.guidance` says;
    conditions that training never dropped stay, and a negative prompt takes the place of the text, or of the empty one.
    Estimates that are clipped to [-1, 1] are guided before they are clipped. Raises ValueError where the model cannot
    be guided, or a condition is missing.
    """
    check_guidance(model, conditions)
    if "guidance" not in conditions:
        return unguided
    free = _unclipped(model.estimate(nets, _without(model, nets, conditions)))
    guide = guiding(model.guidance, lambda own: free, conditions["guidance"])

    def guided(own: Denoise) -> Denoise:
        return clipped(guide(own.whole)) if isinstance(own, Clipped) else guide(own)

    return guided


def _without(model: DropsConditions, nets: Nets, conditions: Batch) -> Conditioning:
    """Returns what guidance leads away from: the conditions without those that were dropped, or a negative prompt."""
    names, empty = model.condition_dropout.dropped, empty_text_of(model)
    negative = f"{NEGATIVE}text" in conditions
    if "tokens" not in names or not (negative or empty):
        return null_conditions(conditioning_of(model, conditions, nets), names)
    check_condition_rows(model, conditions)
    against = {name: conditions[NEGATIVE + name] if negative else jnp.zeros_like(conditions[name]) for name in TEXT}
    said = jnp.any(against["text_mask"], axis=1)
    against = against if empty is None else keep_texts(empty, against, said)
    found = conditioning_of(model, {**conditions, **against}, nets)
    found = null_conditions(found, tuple(name for name in names if name != "tokens"))
    return found if empty is not None else keep_conditions(found, said, "tokens")


def _unclipped(denoise: Denoise) -> Denoise:
    return denoise.whole if isinstance(denoise, Clipped) else denoise
