"""The conditions that diffusion models make images from, and guidance away from what they make without these.

Tokens are seen by cross-attention. A source is an image of low resolution, in grey, or with a hole, that the network
sees beside the noisy one: concatenation, as SR3 has it (Saharia et al. 2022, arXiv 2104.07636, section 2) and ADM's
upsampler (Dhariwal & Nichol 2021, arXiv 2105.05233). A source with a hole is RGBA, and transparent there
(`data.Erased`): the network sees the mask as a channel.
"""

from __future__ import annotations

from typing import Protocol

import jax
import numpy as np

from imagegen_jax.core.model import Batch, Nets
from imagegen_jax.diffusion.guidance.functions import Guidance, Guiding, guiding, unguided
from imagegen_jax.diffusion.process.denoiser import Clipped, Denoise, clipped
from imagegen_jax.nn.backbones.conditioning import Conditioning, Rates, conditioning_of, null_conditions

ImageShape = tuple[int, int, int]
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
    source_shape: ImageShape | None, token_shape: TokenShape | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the `condition_rows` of a model with such fields: "source", as the data hold it, and "tokens".

    None stands for a condition that the model does not have.
    """
    source = {} if source_shape is None else {"source": jax.ShapeDtypeStruct(source_shape, np.uint8)}
    tokens = {} if token_shape is None else {"tokens": jax.ShapeDtypeStruct(token_shape, np.float32)}
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


def check_dropout(rates: Rates, num_classes: int, rows: dict[str, jax.ShapeDtypeStruct]) -> None:
    """Raises ValueError for a rate outside of [0, 1), or one above 0 for a condition that the model does not have."""
    if not 0 <= rates.labels < 1 or (rates.labels and not num_classes):
        raise ValueError(
            f"model.label_dropout={rates.labels}, model.num_classes={num_classes}: it must be at least 0 and below 1, "
            "and 0 without classes"
        )
    for name, field, rate in (("tokens", "token", rates.tokens), ("source", "source", rates.source)):
        if not 0 <= rate < 1 or (rate and name not in rows):
            shape = rows[name].shape if name in rows else None
            raise ValueError(
                f"model.{field}_dropout={rate}, model.{field}_shape={shape}: it must be at least 0 and below 1, and 0 "
                f"without a {field}_shape"
            )


def check_guidance(model: DropsConditions, conditions: Batch) -> None:
    """Raises ValueError for guidance where no condition was ever dropped in training."""
    if "guidance" in conditions and not model.condition_dropout.dropped:
        raise ValueError(
            f"guidance={conditions['guidance']}, but model.label_dropout=0: the network has not learned to do without "
            "labels, so there is nothing to guide away from; train with label_dropout 0.1, say, or give another run as "
            "a guide; likewise token_dropout for tokens, and source_dropout for a source"
        )


def guided_by_conditions(model: DropsConditions, nets: Nets, conditions: Batch) -> Guiding:
    """Returns the function that guides estimates of `model` by the scale `conditions["guidance"]`; unguided without it.

    It leads away from the estimate without the conditions that training dropped at times, as `model.guidance` says;
    conditions that training never dropped stay. Estimates that are clipped to [-1, 1] are guided before they are
    clipped. Raises ValueError where the model cannot be guided, or a condition is missing.
    """
    check_guidance(model, conditions)
    if "guidance" not in conditions:
        return unguided
    nulled = null_conditions(conditioning_of(model, conditions), model.condition_dropout.dropped)
    free = _unclipped(model.estimate(nets, nulled))
    guide = guiding(model.guidance, lambda own: free, conditions["guidance"])

    def guided(own: Denoise) -> Denoise:
        return clipped(guide(own.whole)) if isinstance(own, Clipped) else guide(own)

    return guided


def _unclipped(denoise: Denoise) -> Denoise:
    return denoise.whole if isinstance(denoise, Clipped) else denoise
